# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What it gains to run the last CEM iterations in f32 when the others run in bf16.

A model of the published size with random weights plans 300 x 10 on the openvino engine, towards
the end of a hidden plan: in f32, in bf16 with the last two iterations in f32, and in bf16 alone.
The table shows the cost of each plan in f32, relative to the zero plan, and paired differences.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import tempfile

import numpy as np
from workloads import Start, cost_of, planned_costs

from lewm_ros.engines import load_engine
from lewm_ros.evaluation.benchmark import STEPS
from lewm_ros.training.random_bundle import random_bundle


def main() -> None:
    """Plan, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--plans', type=int, default=30)
    parser.add_argument('--threads', type=int, default=1)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = random_bundle(Path(folder) / 'bundle')
        engines = {
            p: load_engine(bundle, 'openvino', args.threads, p, horizon=STEPS)
            for p in ('f32', 'bf16')
        }
    spec, rng = bundle.spec, np.random.default_rng(1)
    ticks, size = spec.frameskip, spec.contract.action.size
    starts = []
    for _ in range(args.plans):
        latents = rng.normal(size=(spec.history, spec.latent_size)).astype(np.float32)
        past = rng.normal(size=(spec.history - 1, ticks * size)).astype(np.float32)
        hidden = np.clip(rng.normal(size=(1, STEPS, ticks * size)), -1.9, 1.9).astype(np.float32)
        goal = engines['f32'].rollout(latents, past, hidden)[0, -1]
        committed = spec.denormalise(hidden[0, 0].reshape(ticks, size))
        starts.append(Start(latents, spec.denormalise_block(past), committed, goal))
    nothing = spec.denormalise(np.zeros(((STEPS - 1) * ticks, size)))
    zero = np.array([cost_of(spec, engines['f32'], s, nothing, 'terminal') for s in starts])
    found = planned_costs(spec, engines, starts, 'terminal')
    costs = {name: values / zero for name, values in found.items()}
    for name, values in costs.items():
        apart = values - costs['f32']
        error = 1.96 * apart.std() / np.sqrt(len(apart))
        print(f'{name:20} {values.mean():.4f}, to f32 {apart.mean():+.4f} ± {error:.4f}')
    apart = costs['bf16'] - costs['bf16, last 2 in f32']
    error = 1.96 * apart.std() / np.sqrt(len(apart))
    print(f'without the last 2 in f32: {apart.mean():+.4f} ± {error:.4f}')


if __name__ == '__main__':
    main()
