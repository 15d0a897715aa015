# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Evaluate a roadmap: refused goals, cost of building it, ablations.

    OPENBLAS_NUM_THREADS=1 .venv/bin/python benchmarks/roadmap.py reacher --data BAG --fresh BAG
        [--goals 40] [--seed 7000]

``--data`` are the bags of the map (``lewm collect reacher --episodes 400 --seed 1``), ``--fresh``
is a bag that neither model nor map has seen. Prints JSON: how many of 40 goals outside of the
recordings and of 400 fresh frames are refused; build time and size; with ``--goals``, how many
goals of the whole workspace each variant of the method reaches (the simulator waits).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
import json
from pathlib import Path
import sys
import time
from typing import Any

import numpy as np

from lewm_ros.api import load_bundle
from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine, load_engine
from lewm_ros.evaluation.bags import encode_bags
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.evaluation.evaluate import run_goals
from lewm_ros.evaluation.roadmap import NODES
from lewm_ros.planning import Plan, PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning import roadmap as roadmaps
from lewm_ros.planning.roadmap import Field, Recorded, Roadmap, build, extend
from lewm_ros.robot.history import Context
from lewm_ros.sim import TASKS, Task, make_task
from lewm_ros.sim.collect import START, simulate
from lewm_ros.time import NS_PER_S

REFUSALS, FRESH = 40, 400
#: Geoms that a goal image lacks where the object is absent.
OBJECT = {'reacher': ('upper', 'fore', 'tip'), 'push': ('puck',)}
#: Timed: ways to so many goals, of so many blocks, and new fields.
GOALS, WAY, FIELDS = 8, 12, 20
FEW, OWN = 10, 40  #: recorded episodes of a small map, own runs that it grows by


def main() -> None:
    """Measure, and print JSON."""
    args = _arguments()
    bundle, _ = load_bundle(args.task)
    size = bundle.manifest.image_size
    others = other_scenes(args.task, size)
    engine, config = load_engine(bundle), PlannerConfig(seed=args.seed)
    episodes = [(e.stamps, z) for e, z, _ in encode_bags(bundle, engine, args.data)]
    fresh = np.concatenate([z for _, z, _ in encode_bags(bundle, engine, args.fresh)])
    began = time.process_time()
    roadmap, figures = build_for(bundle, episodes)
    arrays = roadmap.nodes, roadmap.edges, roadmap.seconds
    results: dict[str, Any] = {
        'frames': sum(len(z) for _, z in episodes),
        'nodes': len(roadmap.nodes),
        'edges': len(roadmap.edges),
        'radius': roadmap.radius,
        'build_cpu_seconds': time.process_time() - began,
        'megabytes': sum(a.nbytes for a in arrays) / 1e6,
        **figures,
        'plan_cpu_ms': plan_times(bundle, config, roadmap, fresh, args.seed),
    }
    with closing(make_task(args.task, size, args.seed)) as task:
        results['refused'] = refusals(roadmap, task, engine, others, fresh)
        if args.goals:
            results['ablations'] = ablations(bundle, task, config, args, episodes, roadmap)
    print(json.dumps(results, indent=1))


def build_for(bundle: Bundle, episodes: Sequence[Recorded]) -> tuple[Roadmap, dict[str, float]]:
    """Build a roadmap as `lewm roadmap` does."""
    return build(episodes, bundle.block, bundle.manifest.frameskip, NODES)


def refusals(
    roadmap: Roadmap, task: Any, engine: Engine, others: list[np.ndarray], fresh: np.ndarray
) -> dict[str, list[float]]:
    """Refused of how many, and the smallest gap, by kind of image; for fresh frames the largest."""
    rng = np.random.default_rng(0)
    size = others[0].shape

    def absent() -> np.ndarray:
        task.reset()
        geoms = [task.model.geom(name).id for name in OBJECT[task.name]]
        seen = task.model.geom_size[geoms].copy()
        task.model.geom_size[geoms] = 1e-4
        image = task.render()
        task.model.geom_size[geoms] = seen
        return image

    kinds: dict[str, Callable[[], np.ndarray]] = {
        'other scene': others.pop,
        'noise': lambda: rng.integers(0, 256, size, dtype=np.uint8),
        'object absent': absent,
    }
    found = {'limit': [roadmap.gap_limit]}
    for index, (kind, draw) in enumerate(kinds.items()):
        count = len(range(index, REFUSALS, len(kinds)))
        gaps = roadmap.gaps(np.stack([engine.encode(draw()) for _ in range(count)]))
        found[kind] = [int((gaps > roadmap.gap_limit).sum()), count, float(gaps.min())]
    gaps = roadmap.gaps(rng.choice(fresh, min(FRESH, len(fresh)), replace=False))
    found['fresh frames'] = [int((gaps > roadmap.gap_limit).sum()), len(gaps), float(gaps.max())]
    return found


def other_scenes(task: str, size: int) -> list[np.ndarray]:
    """Images of the other task; only one camera may be open at a time."""
    with closing(make_task('push' if task == 'reacher' else 'reacher', size)) as other:
        images = []
        for _ in range(REFUSALS):
            other.reset()
            images.append(other.render())
    return images


def plan_times(
    bundle: Bundle, config: PlannerConfig, roadmap: Roadmap, fresh: np.ndarray, seed: int
) -> dict[str, float]:
    """CPU time of warm plans with and without a roadmap, and of a new field: medians [ms].

    The plans are those on recorded ways to a goal.
    """
    engine = load_engine(bundle, threads=1, horizon=config.rollout_blocks(bundle.spec))
    spec, rng = bundle.spec, np.random.default_rng(seed)
    planners = {
        name: RecedingHorizonPlanner(spec, bundle.contract, engine, config, given)
        for name, given in (('squared distance', None), ('roadmap', roadmap))
    }
    past = np.zeros((spec.history - 1, spec.frameskip * bundle.contract.action.size))
    idle = np.zeros((spec.frameskip, bundle.contract.action.size))
    times: dict[str, list[float]] = {name: [] for name in planners}
    step = round(spec.block / bundle.manifest.camera_period)
    behind = step * (spec.history - 1)
    for last in rng.integers(behind + step * WAY, len(fresh), GOALS):
        for number in range(WAY):  # the recorded way to the goal, a block at a time
            newest = last - step * (WAY - number)
            latents = fresh[newest - behind : newest + 1 : step]
            context = Context(NS_PER_S + number * round(spec.block * NS_PER_S), latents, past)
            for name, planner in planners.items():
                began = time.process_time()
                planner.plan(context, idle, fresh[last])
                if number:  # the first is cold
                    times[name].append(1000 * (time.process_time() - began))
    began = time.process_time()
    for goal in rng.choice(fresh, FIELDS):
        roadmap.field(goal)
    field = 1000 * (time.process_time() - began) / FIELDS
    warm = {name: float(np.median(found)) for name, found in times.items()}
    return {**warm, 'ratio': warm['roadmap'] / warm['squared distance'], 'field': field}


class Waypoints(RecedingHorizonPlanner):
    """The map as a source of goals: the squared distance to a node ahead on the path."""

    def __init__(self, *args: Any, roadmap: Roadmap, blocks: float) -> None:
        super().__init__(*args)
        self._map, self._blocks = roadmap, blocks
        self._to: tuple[bytes, Field] | None = None

    def plan(self, context: Context, committed: np.ndarray, goal: np.ndarray, *args: Any) -> Plan:
        """Plan to the node that is so many blocks ahead, to the goal itself where it is nearer."""
        if self._to is None or self._to[0] != goal.tobytes():
            self._to = goal.tobytes(), self._map.field(goal)
        path = self._to[1].path(context.latents[-1])
        ahead = self._blocks * self._spec.block
        later = [node for node, seconds in path if seconds < path[0][1] - ahead]
        target = self._map.nodes[later[0]] if later else goal
        self._goal = target  # it moves with the robot: the search stays warm
        return super().plan(context, committed, target, *args)


class Switched(RecedingHorizonPlanner):
    """The field far from the goal, the squared distance nearer than some blocks."""

    blocks = 3.0

    def _cost(self, goal: np.ndarray, field: Field | None, now: float = np.inf) -> Any:
        near = now < self.blocks * self._spec.block
        return super()._cost(goal, None if near else field, now)


def ablations(
    bundle: Bundle,
    task: Task,
    config: PlannerConfig,
    args: argparse.Namespace,
    episodes: list[Recorded],
    roadmap: Roadmap,
) -> dict[str, Any]:
    """Goals of the whole workspace reached by each variant, and the mean time."""
    engine = load_engine(bundle, threads=1, horizon=config.rollout_blocks(bundle.spec))
    parts = bundle.spec, bundle.contract, engine, config
    planners: dict[str, Callable[[], RecedingHorizonPlanner]] = {
        'field': lambda: RecedingHorizonPlanner(*parts, roadmap),
        'field, squared distance within 3 blocks': lambda: Switched(*parts, roadmap),
        'waypoints 2 blocks ahead': lambda: Waypoints(*parts, roadmap=roadmap, blocks=2),
        'waypoints 4 blocks ahead': lambda: Waypoints(*parts, roadmap=roadmap, blocks=4),
        'squared distance alone': lambda: RecedingHorizonPlanner(*parts),
    }
    for count in (30, 100):
        fewer = build_for(bundle, episodes[:count])[0]
        planners[f'field, {count} episodes'] = partial(RecedingHorizonPlanner, *parts, fewer)
    for factor in (0.7, 1.5):
        wide = with_radius(bundle, episodes, factor)
        name = f'field, radius {wide.radius:.2f}, {len(wide.nodes)} nodes'
        planners[name] = partial(RecedingHorizonPlanner, *parts, wide)
    few = build_for(bundle, episodes[:FEW])[0]
    driver = PlannerPolicy(bundle, bundle.contract, engine, config, task)
    driver.policy.agent.planner = RecedingHorizonPlanner(*parts, few)
    runs = own_runs(bundle, task, engine, driver, args.seed + 1)
    grown = extend(few, runs, few.speed, bundle.block, NODES)
    planners[f'field, {FEW} episodes'] = partial(RecedingHorizonPlanner, *parts, few)
    name = f'field, {FEW} episodes and {OWN} own runs'
    planners[name] = partial(RecedingHorizonPlanner, *parts, grown)
    rows = {}
    for name, make in planners.items():
        policy = PlannerPolicy(bundle, bundle.contract, engine, config, task)
        policy.policy.agent.planner = make()
        found = run_goals(
            task,
            bundle.contract,
            policy,
            args.goals,
            task.goal_seconds,
            1 / bundle.manifest.camera_period,
            args.seed,
            float('inf'),
        )
        keys = 'successes', 'episodes', 'success_low', 'success_high', 'seconds_mean'
        rows[name] = {key: found[key] for key in keys}
        print(name, rows[name], file=sys.stderr, flush=True)
    return rows


def own_runs(
    bundle: Bundle, task: Task, engine: Engine, policy: PlannerPolicy, seed: int
) -> list[Recorded]:
    """Latents of runs of the planner to goals of the whole workspace, reached or not."""
    task.rng = np.random.default_rng(seed)
    rate, runs = 1 / bundle.manifest.camera_period, []
    for number in range(OWN):
        policy.seed(seed + number)
        task.reset()
        task.set_goal(task.sample_goal(float('inf')))
        steps = simulate(task, bundle.contract, policy, task.goal_seconds, rate, 0.0, START)
        frames = [(stamp, engine.encode(value)) for what, stamp, value in steps if what == 'image']
        stamps, latents = zip(*frames)
        runs.append((np.array(stamps), np.stack(latents)))
    return runs


def with_radius(bundle: Bundle, episodes: Sequence[Recorded], factor: float) -> Roadmap:
    """Build with another radius of a node."""
    usual = roadmaps.RADIUS_BLOCKS
    roadmaps.RADIUS_BLOCKS = factor * usual
    try:
        return build_for(bundle, episodes)[0]
    finally:
        roadmaps.RADIUS_BLOCKS = usual


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('task', choices=TASKS)
    parser.add_argument('--data', nargs='+', type=Path, required=True, help='bags of the map')
    parser.add_argument('--fresh', nargs='+', type=Path, required=True, help='bags not in it')
    parser.add_argument('--goals', type=int, default=0, help='goals for each variant (0: none)')
    parser.add_argument('--seed', type=int, default=7000)
    return parser.parse_args()


if __name__ == '__main__':
    main()
