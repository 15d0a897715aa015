# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Quality of plans per millisecond: budgets, memory, early stop and precision of the CEM, and MPPI
and Adam in its place.

.venv/bin/python benchmarks/planners.py [BUNDLE] [--variants 'A;B'] [--goals N] [--far RAD] [--json]

First all variants plan on the same fixed problems, interleaved, each from the same last plan; then
each drives the waiting simulator to the same goals, as `lewm evaluate` does. Differences are to
the first variant, problem by problem or goal by goal, with their 95 % interval.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
import functools
import json
import sys
from typing import Any

from alternatives import MPPI, Adam, BenchmarkPlanner
from gradients import Gradient, gradient
import numpy as np
from planner_variants import VARIANTS, Variant
from tqdm import tqdm

from lewm_ros.api import planner_config
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.evaluation.evaluate import run_goals
from lewm_ros.files import find
from lewm_ros.planning import CEM, Plan, PlannerConfig
from lewm_ros.robot.history import Context
from lewm_ros.sim import make_task
from lewm_ros.sim.collect import START, RandomPolicy, simulate

BEST = {'cold_samples': 500, 'cold_iterations': 20, 'elites': 30}
SECONDS = 6.0  #: for each goal


class Bench:
    """Makes the planners of a bundle; one engine for each kind and precision."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        self.bundle, self.seed = bundle, seed
        self._engines: dict[tuple[str, str], Any] = {}

    def engine(self, name: str = 'onnxruntime', precision: str = 'f32') -> Any:
        """Load an engine on one thread, once."""
        key = name, precision
        if key not in self._engines:
            blocks = self.config({}).rollout_blocks(self.bundle.spec)
            self._engines[key] = load_engine(self.bundle, name, 1, precision, horizon=blocks)
        return self._engines[key]

    @functools.cache  # noqa: B019 - one bench in a process
    def gradient(self, runtime: str, blocks: int) -> Gradient:
        """Make the derivative for plans of so many blocks, once; a graph takes half a minute."""
        return gradient(self.bundle, runtime, blocks)

    def config(self, changes: dict[str, Any]) -> PlannerConfig:
        """Settings of the preset `live` with some changed."""
        return replace(planner_config('live', self.seed), **changes)

    def planner(self, variant: Variant) -> BenchmarkPlanner:
        """Make a variant's planner."""
        config = self.config(variant.changes)
        engine = self.engine(variant.engine, variant.precision)
        search: Any = None
        if variant.kind == 'mppi':
            options = dict(variant.options)
            sizes = replace(config.search(True), elites=options.pop('elites') or config.samples)
            search = MPPI(sizes, **options)
        elif variant.kind == 'adam':
            options, sizes = dict(variant.options), config.search(True)
            before = options.pop('before')
            cem = CEM(replace(sizes, iterations=before)) if before else None
            slope = self.gradient(options.pop('runtime'), config.horizon - 1)
            search = Adam(slope, sizes, before=cem, **options)
        planner = BenchmarkPlanner(
            self.bundle, engine, config, search if variant.memory else None, memory=variant.memory
        )
        planner.warm_up()
        return planner


@dataclass(frozen=True)
class Problem:
    """One call of the planner, with what it remembered; None at a cold start."""

    context: Context
    committed: np.ndarray
    goal: np.ndarray
    last: tuple[int, np.ndarray] | None


class Recorder(BenchmarkPlanner):
    """Keeps the problems that a closed loop poses."""

    problems: list[Problem]

    def plan(
        self,
        context: Context,
        committed: np.ndarray,
        goal: np.ndarray,
        budget: float | None = None,
    ) -> Plan:
        """Record the problem and plan."""
        last = self.memory if self.problems else None
        self.problems.append(Problem(context, committed.copy(), goal.copy(), last))
        return super().plan(context, committed, goal, budget)


class Driver(PlannerPolicy):
    """The evaluation's policy with a planner of ours; may begin with random commands."""

    def __init__(self, bench: Bench, task: Any, planner: BenchmarkPlanner) -> None:
        bundle, engine = bench.bundle, bench.engine()
        super().__init__(
            bundle, bundle.contract, engine, planner.config, lambda: task.set_goal(task.goal)
        )
        self.policy.agent.planner = planner
        self._taken = planner.taken
        self.noise: RandomPolicy | None = None

    def act(self, stamp: int) -> np.ndarray:
        """Command random noise, if there is any, until a plan is there."""
        if self.noise is None or self._taken:
            return super().act(stamp)
        command = self.noise.act(stamp)
        self.policy.executed(command, stamp)
        return command


def record(bench: Bench, task: Any, count: int, far: float, seed: int) -> dict[str, list[Problem]]:
    """Take ``count`` cold-start problems from the simulator, half of them with the arm at rest, and
    twice as many problems with a previous plan.
    """
    bundle = bench.bundle
    contract = bundle.contract
    task.rng, rng = np.random.default_rng(seed), np.random.default_rng(seed)
    cold, warm = [], []
    for index in range(count):
        task.reset()
        task.set_goal(task.sample_goal(far))
        planner = Recorder(bundle, bench.engine(), bench.config({}))
        planner.problems = []
        driver = Driver(bench, task, planner)
        if index % 2:
            driver.noise = RandomPolicy(contract, rng)
        rate, phase = 1 / bundle.manifest.camera_period, rng.uniform(0, contract.period)
        for _ in simulate(task, contract, driver, 1.8, rate, phase, START):
            pass
        cold.append(planner.problems[0])
        warm += [planner.problems[1], planner.problems[3]]
    return {'cold': cold, 'warm': warm}


def measure(
    bench: Bench, names: list[str], problems: list[Problem], seed: int
) -> dict[str, dict[str, Any]]:
    """Cost of each variant's plan relative to the zero plan's, and what it took."""
    planners = {name: bench.planner(VARIANTS[name]) for name in names}
    judge = BenchmarkPlanner(bench.bundle, bench.engine(), bench.config(BEST), memory=False)
    costs: dict[str, list[float]] = {name: [] for name in names}
    zeros, bests = [], []
    for index, p in enumerate(tqdm(problems, desc='problems', unit='problem')):
        given = p.context, p.committed, p.goal
        zeros.append(judge.rest_cost(*given))
        bests.append(judge.plan(*given).cost)
        for name, planner in planners.items():
            planner.continue_from(p.goal, p.last, [seed, index])
            plan = planner.plan(*given)
            costs[name].append(judge.cost_of(*given, plan.actions))
    zero = np.array(zeros)
    best = np.minimum(bests, np.min(list(costs.values()), axis=0))
    first = np.array(costs[names[0]]) / zero
    rows = {}
    for name in names:
        ratio = np.array(costs[name]) / zero
        rows[name] = {
            'problems': len(problems),
            'ratio': float(ratio.mean()),
            'gap': float(((np.array(costs[name]) - best) / zero).mean()),
            'difference': interval(ratio - first),
            'rollouts': float(np.mean([plan.rollouts for _, plan in planners[name].taken])),
            'ms': float(np.median([ms for ms, _ in planners[name].taken])),
        }
    return rows


class Watch:
    """A task that notes when each goal was reached first."""

    def __init__(self, task: Any) -> None:
        self._task = task
        self.times: list[float] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._task, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == 'rng':  # run_goals seeds the task's
            self._task.rng = value
        else:
            super().__setattr__(name, value)

    def reset(self) -> None:
        """Begin another goal."""
        self._task.reset()
        self.times.append(SECONDS)

    def reached(self) -> bool:
        """Whether the arm is there; the first time is noted."""
        there = bool(self._task.reached())
        if there:
            self.times[-1] = min(self.times[-1], self._task.time)
        return there


def drive(bench: Bench, task: Any, name: str, goals: int, far: float | None) -> dict[str, Any]:
    """Closed-loop success of one variant."""
    watch, planner = Watch(task), bench.planner(VARIANTS[name])
    bundle = bench.bundle
    driver = Driver(bench, watch, planner)
    rate = 1 / bundle.manifest.camera_period
    row = run_goals(watch, bundle.contract, driver, goals, SECONDS, rate, bench.seed, far)
    warm = [ms for ms, plan in planner.taken if plan.warm or not VARIANTS[name].memory]
    return row | {'times': watch.times, 'ms': float(np.median(warm))}


def interval(differences: np.ndarray) -> list[float]:
    """Mean and half of its 95 % interval."""
    half = 1.96 * differences.std(ddof=1) / np.sqrt(len(differences)) if len(differences) > 1 else 0
    return [float(differences.mean()), float(half)]


def tables(results: dict[str, Any]) -> str:
    """Render Markdown."""
    lines = []
    for kind in ('cold', 'warm'):
        if kind not in results:
            continue
        count = next(iter(results[kind].values()))['problems']
        lines += [
            f'\n{kind}: {count} problems; cost / cost of the zero plan, its excess over the best '
            'plan known, difference to the first row\n',
            '| planner | cost | excess | difference | rollouts | ms (p50) |',
            '|---|---|---|---|---|---|',
        ]
        for name, r in results[kind].items():
            mean, half = r['difference']
            lines.append(
                f'| {name} | {r["ratio"]:.3f} | {r["gap"]:.3f} | {mean:+.3f} ± {half:.3f} '
                f'| {r["rollouts"]:.0f} | {r["ms"]:.1f} |'
            )
    if 'closed' in results:
        lines += [
            '\nclosed loop; time to the goal counts the whole time where it was not reached\n',
            '| planner | reached | 95 % interval | there at the end | median error [rad] '
            '| time to goal [s] | difference [s] | ms (p50) |',
            '|---|---|---|---|---|---|---|---|',
        ]
        first = np.array(next(iter(results['closed'].values()))['times'])
        for name, r in results['closed'].items():
            mean, half = interval(np.array(r['times']) - first)
            lines.append(
                f'| {name} | {r["successes"]}/{r["episodes"]} '
                f'| {r["success_low"]:.2f} to {r["success_high"]:.2f} | {r["within_at_end"]} '
                f'| {r["final_error_median"]:.3f} | {np.mean(r["times"]):.2f} '
                f'| {mean:+.2f} ± {half:.2f} | {r["ms"]:.1f} |'
            )
    return '\n'.join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('bundle', nargs='?', default='reacher')
    parser.add_argument('--variants', help='some, separated by semicolons (default: all)')
    parser.add_argument('--problems', type=int, default=40, help='cold ones; 0 for none')
    parser.add_argument('--kinds', default='cold,warm', help='of problems (default cold,warm)')
    parser.add_argument('--goals', type=int, default=0, help='in closed loop (default 0: none)')
    parser.add_argument('--far', type=float, default=2.0, help='of the goals [rad] (default 2)')
    parser.add_argument('--seed', type=int, default=1000)
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    names = args.variants.split(';') if args.variants else list(VARIANTS)
    unknown = [name for name in names if name not in VARIANTS]
    if unknown:
        sys.exit(f'--variants has {unknown}: expected some of {list(VARIANTS)}')
    bench = Bench(Bundle.load(find('bundle', args.bundle)), args.seed)
    task = make_task('reacher', bench.bundle.manifest.image_size, args.seed)
    results: dict[str, Any] = {}
    if args.problems:
        recorded = record(bench, task, args.problems, args.far, args.seed)
        scratch = [name for name in names if not VARIANTS[name].memory]
        for kind, chosen in (('cold', scratch), ('warm', names)):
            if chosen and kind in args.kinds.split(','):
                results[kind] = measure(bench, chosen, recorded[kind], args.seed)
    if args.goals:
        results['closed'] = {n: drive(bench, task, n, args.goals, args.far) for n in names}
    task.close()
    print(json.dumps(results) if args.json else tables(results))


if __name__ == '__main__':
    main()
