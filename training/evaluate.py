# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm evaluate BUNDLE`: closed-loop success in simulation, the simulator waiting."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.bundle import Bundle
from lewm_ros.contract import Contract
from lewm_ros.engines import ENGINES, PRECISIONS, load_engine
from lewm_ros.errors import SimulationError
from lewm_ros.share import find
from lewm_ros.sim import TASKS, make_task
from lewm_ros.statistics import wilson
from lewm_training.closed_loop import PlannerPolicy, planner_config
from lewm_training.collect import START, Policy, UniformPolicy, simulate
from lewm_training.probe import probe_bags


def run_goals(
    task: Any,
    contract: Contract,
    policy: Policy,
    goals: int,
    seconds: float,
    camera_rate: float,
    seed: int,
    far: float | None = None,
) -> dict[str, Any]:
    """Drive the arm from a fresh random pose to a goal, ``goals`` times.

    Poses and goals depend on the seed alone. Success latches at any frame, as in the paper;
    ``within_at_end`` counts those still there.
    """
    task.rng = np.random.default_rng(seed)
    rng = np.random.default_rng(seed)
    reached, within, errors = 0, 0, []
    for _ in tqdm(range(goals), desc='evaluate', unit='goal'):
        task.reset()
        goal = task.sample_goal(far)
        task.set_goal(goal)
        phase = rng.uniform(0, contract.period)
        latched = False
        for kind, _, _ in simulate(task, contract, policy, seconds, camera_rate, phase, START):
            latched = latched or (kind == 'state' and task.reached())
        reached += latched
        within += task.reached()
        errors.append(float(task.errors(goal).max()))
    low, high = wilson(reached, goals)
    return {
        'episodes': goals,
        'successes': reached,
        'success_low': low,
        'success_high': high,
        'within_at_end': within,
        'final_error_median': float(np.median(errors)),
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('bundle', help='bundle folder or name')
    parser.add_argument('--task', choices=TASKS, default='reacher')
    parser.add_argument('--goals', type=int, default=40, help='goals (default 40)')
    parser.add_argument('--seconds', type=float, default=6.0, help='for each [s] (default 6)')
    parser.add_argument(
        '--far',
        type=float,
        help="largest distance of a goal in a joint [rad] (default: within a plan's reach)",
    )
    parser.add_argument('--preset', default='live', help='planner preset (default live)')
    parser.add_argument(
        '--engine', choices=ENGINES, default='onnxruntime', help='(default onnxruntime)'
    )
    parser.add_argument(
        '--precision', choices=PRECISIONS, default='f32', help='of a rollout (default f32)'
    )
    parser.add_argument('--seed', type=int, default=1000)
    parser.add_argument('--probe', nargs='+', type=Path, help='bags to fit linear probes on')
    parser.add_argument('--json', action='store_true', help='figures as JSON on standard output')


def run(args: argparse.Namespace) -> int:
    """Measure the planner and the random policy on the same goals."""
    if args.goals < 1 or not args.seconds > 0:
        raise SimulationError(
            f'--goals is {args.goals}, --seconds {args.seconds}: expected more than 0'
        )
    bundle = Bundle.load(find('bundle', args.bundle))
    contract = bundle.contract
    task = make_task(args.task, bundle.manifest.image_size, args.seed)
    config = planner_config(args.preset, args.seed)
    blocks = config.rollout_blocks(bundle.manifest)
    engine = load_engine(bundle, args.engine, precision=args.precision, horizon=blocks)
    rate = 1 / bundle.manifest.camera_period
    planner = PlannerPolicy(
        bundle,
        contract,
        engine,
        config,
        lambda: task.set_goal(task.goal),
    )
    uniform = UniformPolicy(contract, np.random.default_rng(args.seed))
    results: dict[str, Any] = {
        name: run_goals(task, contract, policy, args.goals, args.seconds, rate, args.seed, args.far)
        for name, policy in (('planner', planner), ('random', uniform))
    }
    task.close()
    if args.probe:
        results['probe_r2'] = probe_bags(bundle, engine, args.probe)
    if args.json:
        print(json.dumps(results))
        return 0
    for name in ('planner', 'random'):
        r = results[name]
        print(
            f'{name}: {r["successes"]}/{r["episodes"]} reached '
            f'(95 % interval {r["success_low"]:.2f} to {r["success_high"]:.2f}), '
            f'{r["within_at_end"]} still there after {args.seconds:g} s, '
            f'median final error {r["final_error_median"]:.3f} rad'
        )
    for name, r2 in results.get('probe_r2', {}).items():
        print(f'probe {name}: R² {r2["linear"]:.3f}, of sine and cosine {r2["sin_cos"]:.3f}')
    return 0
