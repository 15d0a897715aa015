# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm` with a very small network, validated every 10 steps, in its own process.

Arguments: a signal and a step, such as KILL:26 (NONE:0 for no signal), then those of `lewm`. The
process sends itself that signal once the metrics of that step are written. Graphs are exported once
for all runs, into the folder EXPORTS, with the weights of another network.
"""

from __future__ import annotations

import os
from pathlib import Path
import signal
import sys

from exports import kept_in
from networks import tiny_config

from lewm_ros import cli
from lewm_ros.model import ARCHITECTURES, ModelConfig
from lewm_ros.training import export, train, trainer
from lewm_ros.training.config import CONFIGS, TrainConfig
from lewm_ros.training.run_folder import RunFolder


def tiny(action_size: int, image_size: int = 32) -> ModelConfig:
    """Return a network that trains in a moment."""
    changes = {'image_size': image_size, 'encoder_width': 8, 'predictor_depth': 1, 'frameskip': 2}
    return tiny_config(action_size, **changes)


def main() -> int:
    """Run the command line."""
    ARCHITECTURES['small'] = tiny
    CONFIGS['small'] = TrainConfig(batch=8, steps=30, lr=5e-4, num_projections=16, held_out=0.3)
    train.VALIDATE_EVERY, trainer.LOG_EVERY, trainer.HORIZON = 10, 2, 1
    train.EXPORT_EVERY = 0.0
    export.export_graphs = kept_in(Path(os.environ['EXPORTS']), weights=False)
    name, step = sys.argv[1].split(':')
    add = RunFolder.add

    def add_and_signal(self: RunFolder, row: dict[str, float]) -> None:
        add(self, row)
        if row['step'] == int(step):
            os.kill(os.getpid(), signal.Signals[f'SIG{name}'])

    RunFolder.add = add_and_signal
    return cli.main(sys.argv[2:])


if __name__ == '__main__':
    sys.exit(main())
