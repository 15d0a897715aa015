# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Quality of plans per millisecond: budgets, memory, early stop and precision of the CEM, and MPPI
and Adam in its place.

.venv/bin/python benchmarks/planners.py [BUNDLE] [--variants A,B] [--goals N] [--far RAD] [--json]

First all variants plan on the same fixed problems, interleaved, each from the same last plan; then
each drives the waiting simulator to the same goals, as `lewm evaluate` does. Differences are to
the first variant, problem by problem or goal by goal, with their 95 % interval.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field, replace
import json
import sys
from typing import Any

from alternatives import MPPI, Adam, BenchmarkPlanner
import numpy as np
from tqdm import tqdm

from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.history import Context
from lewm_ros.planning import CEM, Plan, PlannerConfig
from lewm_ros.share import find
from lewm_ros.sim import make_task
from lewm_training.closed_loop import PlannerPolicy, planner_config
from lewm_training.collect import START, RandomPolicy, simulate
from lewm_training.evaluate import run_goals

BEST = {'cold_samples': 500, 'cold_iterations': 20, 'elites': 30}
SECONDS = 6.0  #: for each goal


@dataclass(frozen=True)
class Variant:
    """How one variant differs from the preset `live`."""

    changes: dict[str, Any] = field(default_factory=dict)
    engine: str = 'onnxruntime'
    precision: str = 'f32'
    memory: bool = True
    kind: str = 'cem'  #: of the search: cem, mppi or adam
    options: dict[str, Any] = field(default_factory=dict)  #: of MPPI or Adam


def _warm(samples: int, iterations: int, **changes: Any) -> Variant:
    return Variant({'samples': samples, 'iterations': iterations} | changes)


def _cold(samples: int, iterations: int, elites: int = 10, **changes: Any) -> Variant:
    sizes = {'cold_samples': samples, 'cold_iterations': iterations, 'elites': elites}
    return Variant(sizes | changes, memory=False)


def _openvino(variant: Variant, precision: str, **changes: Any) -> Variant:
    changes = variant.changes | changes
    return replace(variant, changes=changes, engine='openvino', precision=precision)


def _mppi(temperature: float, decay: float | None, elites: int = 0, **changes: Any) -> Variant:
    """Of 64 x 3 samples; without elites all of them are averaged."""
    options = {'temperature': temperature, 'decay': decay, 'elites': elites}
    return Variant(changes, kind='mppi', options=options)


def _adam(steps: int, rate: float, before: int = 0) -> Variant:
    """After ``before`` iterations of the CEM with 64 samples."""
    return Variant(kind='adam', options={'steps': steps, 'rate': rate, 'before': before})


LIVE = Variant()
VARIANTS = {
    'live 64x3': LIVE,
    'no kept elites': Variant({'keep_elites': 0}),
    'keep 10': Variant({'keep_elites': 10}),
    '32x2': _warm(32, 2),
    '32x3': _warm(32, 3),
    '32x5': _warm(32, 5),
    '64x1': _warm(64, 1),
    '64x2': _warm(64, 2),
    '64x5': _warm(64, 5),
    '64x8': _warm(64, 8),
    '128x2': _warm(128, 2),
    '128x3': _warm(128, 3),
    '128x5': _warm(128, 5),
    '300x3': _warm(300, 3),
    '300x3, 30 elites': _warm(300, 3, elites=30),
    '5 elites': Variant({'elites': 5}),
    '20 elites': Variant({'elites': 20}),
    'std 0.3': Variant({'warm_std': 0.3}),
    'std 0.8': Variant({'warm_std': 0.8}),
    '64x5, gain 0.02': _warm(64, 5, min_gain=0.02),
    '64x8, gain 0.05': _warm(64, 8, min_gain=0.05),
    'live, gain 0.02': Variant({'min_gain': 0.02}),
    'live, gain 0.05': Variant({'min_gain': 0.05}),
    'live, openvino f32': _openvino(LIVE, 'f32'),
    'live, bf16, last 0 exact': _openvino(LIVE, 'bf16', exact_iterations=0),
    'live, bf16, last 2 exact': _openvino(LIVE, 'bf16', exact_iterations=2),
    '128x5, bf16, last 0 exact': _openvino(_warm(128, 5), 'bf16', exact_iterations=0),
    '128x5, bf16, last 2 exact': _openvino(_warm(128, 5), 'bf16', exact_iterations=2),
    'cold 64x3': _cold(64, 3),
    'cold 128x5': _cold(128, 5),
    'cold 64x10': _cold(64, 10),
    'cold 128x10': _cold(128, 10),
    'cold 300x5': _cold(300, 5, 30),
    'cold 300x10': _cold(300, 10, 30),
    'cold 300x10, 10 elites': _cold(300, 10, 10),
    'cold 300x10, gain 0.02': _cold(300, 10, 30, min_gain=0.02),
    'cold 300x10, gain 0.05': _cold(300, 10, 30, min_gain=0.05),
    'cold 300x10, openvino f32': _openvino(_cold(300, 10, 30), 'f32'),
    'cold 300x10, bf16, last 0 exact': _openvino(_cold(300, 10, 30), 'bf16', exact_iterations=0),
    'cold 300x10, bf16, last 2 exact': _openvino(_cold(300, 10, 30), 'bf16', exact_iterations=2),
    'cold 300x30': _cold(300, 30, 30),
    'cold 300x30, gain 0.01': _cold(300, 30, 30, min_gain=0.01),
    'cold 300x30, gain 0.02': _cold(300, 30, 30, min_gain=0.02),
    'cold 300x30, gain 0.05': _cold(300, 30, 30, min_gain=0.05),
    # The preset `cold`: though it searches widely, its mean starts from the shifted last plan.
    'preset cold': _warm(300, 10, elites=30, warm_std=1.0, keep_elites=0),
    'Adam 3': _adam(3, 0.2),
    'Adam 10': _adam(10, 0.2),
    'Adam 20': _adam(20, 0.1),
    '64x1, Adam 2': _adam(2, 0.1, before=1),
    '64x1, Adam 10': _adam(10, 0.1, before=1),
}


class Bench:
    """Makes the planners of a bundle; one engine for each kind and precision."""

    def __init__(self, bundle: Bundle, seed: int) -> None:
        self.bundle, self.seed = bundle, seed
        self._engines: dict[tuple[str, str], Any] = {}

    def engine(self, name: str = 'onnxruntime', precision: str = 'f32') -> Any:
        """Load an engine on one thread, once."""
        key = name, precision
        if key not in self._engines:
            self._engines[key] = load_engine(self.bundle, name, 1, precision)
        return self._engines[key]

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
            search = Adam(self.bundle, sizes, before=cem, **options)
        planner = BenchmarkPlanner(
            self.bundle, engine, config, search if variant.memory else None, memory=variant.memory
        )
        if not isinstance(search, Adam):  # its problem comes with the first plan
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
        """Note the problem and plan."""
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
        self._planner = planner
        self.noise: RandomPolicy | None = None

    def act(self, stamp: int) -> np.ndarray:
        """Command random noise, if there is any, until a plan is there."""
        if self.noise is not None and not self._planner.taken:
            self._rest = self.noise.act(stamp)
        return super().act(stamp)


def record(bench: Bench, task: Any, count: int, far: float, seed: int) -> dict[str, list[Problem]]:
    """Take ``count`` cold problems from the simulator, the arm at rest in half of them, and twice
    as many that a plan precedes.
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
