# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""benchmarks/gpu.py with a very small network in place of preset `small`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
import sys

sys.path.insert(0, str(Path(__file__).parent.parent / 'benchmarks'))

import dino_wm
import gpu
from networks import tiny_config

from lewm_ros.model import ARCHITECTURES
from lewm_ros.training import trainer
from lewm_ros.training.config import CONFIGS, TrainConfig

# Not under the main guard: the process that reads the bag imports this file too.
ARCHITECTURES['small'] = partial(tiny_config, predictor_depth=1)
CONFIGS['small'] = TrainConfig(batch=8, steps=8, lr=5e-4, num_projections=16, held_out=0.3)
trainer.HORIZON, dino_wm.DEPTH = gpu.STEPS, 1

if __name__ == '__main__':
    sys.exit(gpu.main())
