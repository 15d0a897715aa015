# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Compare roadmaps of latents with roadmaps of pairs of latents, on a robot with momentum.

    PYTHONPATH=benchmarks .venv/bin/python benchmarks/velocity_nodes.py BUNDLE --data BAG...
        [--task robots:Glide] [--goals 40] [--seed 5000]

A node of pairs is a latent and its change since one block before, so it has a velocity; the goal
is a pair at rest. ``--data`` are the bags of both maps. Prints JSON: how many goals at any distance
each planner reaches and holds, and its first time to the goal against the true one (the simulator
waits).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
import json
from pathlib import Path
import sys
from typing import Any

import numpy as np

from lewm_ros.api import load_bundle
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.bags import encode_bags
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.evaluation.evaluate import run_goals
from lewm_ros.evaluation.roadmap import NODES
from lewm_ros.planning import Plan, PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.cem import CEMConfig, Search
from lewm_ros.planning.receding_horizon import Outlook
from lewm_ros.planning.roadmap import Field, Recorded, Roadmap, build, field_cost, time_to_goal
from lewm_ros.robot.history import Context
from lewm_ros.sim import make_task

#: Weight of the change in a pair; 0.25, 0.5 and 1 reached as many goals.
CHANGE = 0.5


def main() -> None:
    """Measure, and print JSON."""
    args = _arguments()
    bundle, _ = load_bundle(args.bundle)
    config = PlannerConfig(seed=args.seed)
    engine = load_engine(bundle, threads=1, horizon=config.rollout_blocks(bundle.spec))
    episodes = [(e.stamps, z) for e, z, _ in encode_bags(bundle, engine, args.data)]
    parts = bundle.spec, bundle.contract, engine, config
    latents = _build(bundle, episodes)
    pairs = PairMap(**vars(_build(bundle, in_pairs(bundle, episodes))))
    planners = {
        'squared distance': lambda: RecedingHorizonPlanner(*parts),
        f'{len(latents.nodes)} latents': lambda: RecedingHorizonPlanner(*parts, latents),
        f'{len(pairs.nodes)} pairs': lambda: Pairs(*parts, pairs),
    }
    rows = {}
    with closing(make_task(args.task, bundle.manifest.image_size, args.seed)) as task:
        for name, make in planners.items():
            policy = PlannerPolicy(bundle, bundle.contract, engine, config, task)
            policy.policy.agent.planner = make()
            seconds, rate = task.goal_seconds, 1 / bundle.manifest.camera_period
            setting = args.goals, seconds, rate, args.seed, float('inf')
            found = run_goals(task, bundle.contract, policy, *setting)
            del found['final_errors']
            rows[name] = found
            print(name, found, file=sys.stderr, flush=True)
    print(json.dumps(rows, indent=1))


def pair(before: np.ndarray, now: np.ndarray) -> np.ndarray:
    """Join latents (..., D) and their change since a block before, (..., 2 D)."""
    return np.concatenate([now, CHANGE * (now - before)], axis=-1)


def in_pairs(bundle: Bundle, episodes: Sequence[Recorded]) -> list[Recorded]:
    """Pairs of the latents of episodes; the first block of each has none."""
    lag = round(bundle.spec.block / bundle.manifest.camera_period)
    return [(stamps[lag:], pair(z[:-lag], z[lag:])) for stamps, z in episodes if len(z) > lag]


class PairMap(Roadmap):
    """A map of pairs, to goal latents (D,) at rest."""

    def field(self, goal: np.ndarray) -> Field:
        """Return the time to a goal latent (D,), at rest."""
        return super().field(pair(goal, goal))


class Pairs(RecedingHorizonPlanner):
    """Plans with a map of pairs: the velocity of a predicted latent counts too."""

    def plan(self, context: Context, committed: np.ndarray, goal: np.ndarray, *args: Any) -> Plan:
        """Remember the latent (D,) a block before the newest, and plan."""
        self._before = context.latents[-2]
        return super().plan(context, committed, goal, *args)

    def _look(self, field: Field, latent: np.ndarray) -> Outlook:
        return super()._look(field, pair(self._before, latent))

    def _search(self, config: CEMConfig, begun: Any, last: np.ndarray, by: Any) -> Search:
        newest = begun[0][-1]

        def cost(latents: np.ndarray, weights: np.ndarray, *field: np.ndarray) -> np.ndarray:
            first = np.broadcast_to(newest, latents[:, :1].shape)
            joined = pair(np.concatenate([first, latents[:, :-1]], axis=1), latents)
            return time_to_goal(joined[:, -len(weights) :], *field) @ weights

        if by[0] is field_cost:
            by = cost, by[1]
        return super()._search(config, begun, last, by)


def _build(bundle: Bundle, episodes: Sequence[Recorded]) -> Roadmap:
    return build(episodes, bundle.block, bundle.manifest.frameskip, NODES)[0]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('bundle')
    parser.add_argument('--data', nargs='+', type=Path, required=True, help='bags of the maps')
    parser.add_argument('--task', default='robots:Glide')
    parser.add_argument('--goals', type=int, default=40)
    parser.add_argument('--seed', type=int, default=5000)
    return parser.parse_args()


if __name__ == '__main__':
    main()
