# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the last iterations in f32 are worth where rollouts are bf16.

Plans 300 x 10 of the published size with random weights, towards the end of a hidden plan, on the
openvino engine: in f32, in bf16 with the last two iterations in f32, and in bf16 alone. Printed
are costs of the plans in f32, each over that of the zero plan, and paired differences.
"""

from __future__ import annotations

import argparse
from pathlib import Path
import tempfile

import numpy as np

from lewm_ros.engines import Engine, load_engine
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner, goal_cost, weights
from lewm_ros.progress import progress
from lewm_ros.robot.history import Context
from lewm_ros.training.random_bundle import random_bundle

SAMPLES, ELITES, ITERATIONS, STEPS = 300, 30, 10, 5
SEARCHES = {'f32': ('f32', 0), 'bf16, last 2 in f32': ('bf16', 2), 'bf16': ('bf16', 0)}


def cost(
    engine: Engine,
    context: np.ndarray,
    past: np.ndarray,
    committed: np.ndarray,
    goal: np.ndarray,
    free: np.ndarray,
) -> float:
    """Cost of the committed block (1, 1, k·A) and free ones (4, k·A), normalised."""
    blocks = np.concatenate([committed, free[None]], axis=1).astype(np.float32)
    latents = engine.rollout(context, past, blocks)
    return float(goal_cost(latents, goal, weights('terminal', STEPS))[0])


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
    block = spec.frameskip * spec.contract.action.size
    found: dict[str, list[float]] = {name: [] for name in SEARCHES}
    for _ in progress(range(args.plans), desc='plans', unit='plan'):
        context = rng.normal(size=(spec.history, spec.latent_size)).astype(np.float32)
        past = rng.normal(size=(spec.history - 1, block)).astype(np.float32)
        hidden = np.clip(rng.normal(size=(1, STEPS, block)), -1.9, 1.9).astype(np.float32)
        goal = engines['f32'].rollout(context, past, hidden)[0, -1]
        committed = spec.denormalise(hidden[0, 0].reshape(spec.frameskip, -1))

        problem = context, past, hidden[:, :1], goal
        nothing = cost(engines['f32'], *problem, np.zeros((STEPS - 1, block)))
        for name, (precision, last) in SEARCHES.items():
            config = PlannerConfig(
                samples=SAMPLES,
                elites=ELITES,
                iterations=ITERATIONS,
                cold_samples=SAMPLES,
                cold_iterations=ITERATIONS,
                exact_iterations=last,
                cost='terminal',
            )
            planner = RecedingHorizonPlanner(spec, spec.contract, engines[precision], config)
            plan = planner.plan(Context(0, context, spec.denormalise_block(past)), committed, goal)
            actions = spec.normalise_block(plan.actions.reshape(STEPS - 1, block))
            found[name].append(cost(engines['f32'], *problem, actions) / nothing)
    costs = {name: np.array(values) for name, values in found.items()}
    for name, values in costs.items():
        apart = values - costs['f32']
        error = 1.96 * apart.std() / np.sqrt(len(apart))
        print(f'{name:20} {values.mean():.4f}, to f32 {apart.mean():+.4f} ± {error:.4f}')
    apart = costs['bf16'] - costs['bf16, last 2 in f32']
    error = 1.96 * apart.std() / np.sqrt(len(apart))
    print(f'without the last 2 in f32: {apart.mean():+.4f} ± {error:.4f}')


if __name__ == '__main__':
    main()
