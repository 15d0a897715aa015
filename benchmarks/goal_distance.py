# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How well does the latent distance predict whether a goal is reached?

.venv/bin/python benchmarks/goal_distance.py BUNDLE [--goals 40] [--seconds 8] [--seed 3000]

The planner drives the bundle's simulated task, which waits for it, to random goals. Half of the
goals are pursued with random commands instead, to get frames that are not at the goal. Every frame
gives a latent distance and the ground truth, which is the task's own criterion of success. For each
tolerance the script prints:

- within: share of the frames at the goal whose distance is at most the tolerance;
- outside: share of the other frames whose distance is above it;
- reported of truly: goals where the robot truly stays for the dwell time, and how many of these the
  planner node's goal status would report as reached;
- wrongly: goals reported as reached although the robot is never there;
- changes/goal: changes of the goal status per goal.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.files import find
from lewm_ros.planning.config import GoalConfig, PlannerConfig
from lewm_ros.planning.goal import Goal, GoalState
from lewm_ros.robot.imaging import prepare
from lewm_ros.sim import make_task
from lewm_ros.sim.collect import START, UniformPolicy, simulate
from lewm_ros.time import NS_PER_S

#: Tolerances to try; the one with the best balanced accuracy is marked.
TOLERANCES = (
    *(0.01, 0.02, 0.025, 0.03, 0.035, 0.04, 0.05, 0.07, 0.1, 0.15),
    *(0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.7, 1.0),
)


def drive(args: argparse.Namespace) -> list[dict[str, np.ndarray]]:
    """Return for each goal its frames: stamps [ns], latents (n, D), truth (n,), goal (D,)."""
    bundle = Bundle.load(find('bundle', args.bundle))
    contract, manifest = bundle.contract, bundle.manifest
    task = make_task(contract.name, manifest.image_size, args.seed)
    config = PlannerConfig(seed=args.seed)
    engine = load_engine(bundle, horizon=config.rollout_blocks(bundle.spec))
    policies = (
        PlannerPolicy(bundle, contract, engine, config, task),
        UniformPolicy(contract, np.random.default_rng(args.seed)),
    )

    def encode(image: np.ndarray) -> np.ndarray:
        return engine.encode(prepare(image, manifest.image_size, contract.camera.crop))

    runs = []
    for number in tqdm(range(args.goals), desc='goals', unit='goal'):
        task.reset()
        task.set_goal(task.sample_goal())
        goal = encode(task.goal_image())
        policy = policies[number % 2]
        stamps, latents, truth = [], [], []
        rate = 1 / manifest.camera_period
        for kind, stamp, value in simulate(task, contract, policy, args.seconds, rate, 0.01, START):
            if kind == 'image':
                stamps.append(stamp)
                latents.append(encode(value))
                truth.append(task.reached())
        runs.append(
            {
                'stamps': np.array(stamps),
                'latents': np.array(latents),
                'truth': np.array(truth),
                'goal': goal,
            }
        )
    task.close()
    return runs


def judge(runs: list[dict[str, np.ndarray]], tolerance: float, dwell: float) -> dict[str, Any]:
    """Return shares and counts for one tolerance."""
    right = {True: 0, False: 0}
    frames = {True: 0, False: 0}
    reported = truly = wrongly = changes = 0
    for run in runs:
        goal = Goal(GoalConfig(tolerance, dwell), np.diff(run['stamps']).min() / NS_PER_S)
        goal.set(run['goal'], 0, 0.0)
        reached = False
        for stamp, latent, truth in zip(run['stamps'].tolist(), run['latents'], run['truth']):
            changes += goal.observe(stamp, latent, stamp / NS_PER_S)
            reached |= goal.state is GoalState.REACHED
            frames[bool(truth)] += 1
            right[bool(truth)] += bool(truth) == (goal.distance <= tolerance)
        stays = longest(run['stamps'], run['truth']) >= dwell
        truly += stays
        reported += stays and reached
        wrongly += reached and not run['truth'].any()
    within, outside = (right[k] / max(frames[k], 1) for k in (True, False))
    return {
        'tolerance': tolerance,
        'within': within,
        'outside': outside,
        'frames_within': frames[True],
        'frames_outside': frames[False],
        'reported': reported,
        'truly': truly,
        'wrongly': wrongly,
        'goals': len(runs),
        'changes_per_goal': changes / len(runs),
    }


def longest(stamps: np.ndarray, truth: np.ndarray) -> float:
    """Longest uninterrupted time [s] for which ``truth`` is true."""
    best, since = 0.0, None
    for stamp, true in zip(stamps.tolist(), truth.tolist()):
        since = (stamp if since is None else since) if true else None
        best = max(best, 0.0 if since is None else (stamp - since) / NS_PER_S)
    return best


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
    parser.add_argument('bundle')
    parser.add_argument('--goals', type=int, default=40)
    parser.add_argument('--seconds', type=float, default=8.0)
    parser.add_argument('--seed', type=int, default=3000)
    parser.add_argument('--dwell', type=float, default=0.5)
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    runs = drive(args)
    rows = [judge(runs, tolerance, args.dwell) for tolerance in TOLERANCES]
    if args.json:
        print(json.dumps(rows))
        return
    best = max(rows, key=lambda r: r['within'] + r['outside'])
    print('tolerance  within  outside  reported of truly  wrongly  changes/goal')
    for row in rows:
        print(
            f'{row["tolerance"]:9.4f}  {row["within"]:6.3f}  {row["outside"]:7.3f}  '
            f'{row["reported"]:8d} of {row["truly"]:<5d}  {row["wrongly"]:7d}  '
            f'{row["changes_per_goal"]:12.2f}{"  best" if row is best else ""}'
        )
    print(f'{best["frames_within"]} frames within, {best["frames_outside"]} not')


if __name__ == '__main__':
    main()
