# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm evaluate BUNDLE`: closed-loop success in simulation, the simulator waiting.

With --voe: what surprises it there, see :mod:`lewm_ros.evaluation.voe`.
"""

from __future__ import annotations

import argparse
from contextlib import closing
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.api import planner_config
from lewm_ros.bundle import Bundle
from lewm_ros.engines import ENGINES, PRECISIONS, load_engine
from lewm_ros.errors import SimulationError
from lewm_ros.evaluation import voe
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.evaluation.intervals import wilson
from lewm_ros.evaluation.probe import probe_bags
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import TASKS, Task, make_task
from lewm_ros.sim.collect import START, Policy, UniformPolicy, image_size, simulate

#: Options that have no meaning with --voe, and their defaults.
GOALS_ONLY = {'goals': 40, 'seconds': 6.0, 'far': None, 'probe': None}


def run_goals(
    task: Task,
    contract: Contract,
    policy: Policy,
    goals: int,
    seconds: float,
    camera_rate: float,
    seed: int,
    far: float | None = None,
) -> dict[str, Any]:
    """Drive the robot from a fresh random pose to a goal, ``goals`` times.

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
        'unit': task.unit,
    }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('bundle', help='bundle folder or name')
    parser.add_argument(
        '--task', choices=TASKS, help="simulated task (default: named like the bundle's contract)"
    )
    parser.add_argument('--goals', type=int, help='goals (default 40)')
    parser.add_argument('--seconds', type=float, help='for each [s] (default 6)')
    parser.add_argument(
        '--far',
        type=float,
        help="largest error at the start, in the task's unit (default: within a plan's reach)",
    )
    parser.add_argument(
        '--image-size',
        type=image_size,
        metavar='PX',
        help="of the simulated camera, such as 640x480 (default: the bundle's)",
    )
    parser.add_argument('--preset', help="planner preset (default: the task's)")
    parser.add_argument(
        '--engine', choices=ENGINES, default='onnxruntime', help='(default onnxruntime)'
    )
    parser.add_argument(
        '--precision', choices=PRECISIONS, default='f32', help='of a rollout (default f32)'
    )
    parser.add_argument('--seed', type=int, default=1000)
    parser.add_argument('--probe', nargs='+', type=Path, help='bags to fit linear probes on')
    parser.add_argument('--json', action='store_true', help='figures as JSON on standard output')
    voe.add_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measure the planner and the random policy on the same goals, or surprise (--voe)."""
    _choose_options(args)
    if not args.voe and (args.goals < 1 or not args.seconds > 0):
        raise SimulationError(
            f'--goals is {args.goals}, --seconds {args.seconds}: expected more than 0'
        )
    bundle = Bundle.load(find('bundle', args.bundle))
    contract = bundle.contract
    name = args.task or contract.name
    if name not in TASKS:
        raise SimulationError(
            f'contract {name} of bundle {bundle.path} is named like no task: give --task, one of '
            f'{list(TASKS)}'
        )
    config = planner_config(args.preset or TASKS[name].preset, args.seed)
    size = args.image_size or bundle.manifest.image_size
    if args.voe:
        with closing(make_task(name, size, args.seed)) as task:
            return voe.run(args, bundle, task, config)
    blocks = config.rollout_blocks(bundle.spec)
    engine = load_engine(bundle, args.engine, precision=args.precision, horizon=blocks)
    rate = 1 / bundle.manifest.camera_period
    uniform = UniformPolicy(contract, np.random.default_rng(args.seed))
    with closing(make_task(name, size, args.seed)) as task:
        planner = PlannerPolicy(bundle, contract, engine, config, task.goal_picture)
        results: dict[str, Any] = {
            kind: run_goals(
                task, contract, policy, args.goals, args.seconds, rate, args.seed, args.far
            )
            for kind, policy in (('planner', planner), ('random', uniform))
        }
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
            f'median final error {r["final_error_median"]:.3f} {task.unit}'
        )
    for name, r2 in results.get('probe_r2', {}).items():
        print(f'probe {name}: R² {r2["linear"]:.3f}, of sine and cosine {r2["sin_cos"]:.3f}')
    return 0


def _choose_options(args: argparse.Namespace) -> None:
    """Refuse options of the other kind of evaluation, and set the defaults of this one."""
    ours, others = (voe.VOE_ONLY, GOALS_ONLY) if args.voe else (GOALS_ONLY, voe.VOE_ONLY)
    for name in others:
        if getattr(args, name) is not None:
            where = 'without' if args.voe else 'with'
            raise SimulationError(f'--{name} only has a meaning {where} --voe: leave it out')
    for name, default in ours.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
