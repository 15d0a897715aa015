# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Time to encode a frame, to evaluate plan costs and to plan, for each engine on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache, partial
import logging
import time

import numpy as np
from tqdm import tqdm

from lewm_ros.bundle import Bundle
from lewm_ros.bundle.roadmap_file import read_roadmap
from lewm_ros.engines import ENGINES, Engine, load_engine
from lewm_ros.errors import EngineError
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner, goal_cost, weights
from lewm_ros.planning.roadmap import Roadmap
from lewm_ros.robot.history import Context
from lewm_ros.time import NS_PER_S

SAMPLES, STEPS = 300, 5  #: of a cost call, as published
COST_CALL = 'cost_call_300x5'
WORKS = ('encode', COST_CALL, 'plan_live')
REFERENCE = 'reference'
#: No round begins after this, except the first three [s].
SECONDS_PER_WORK = 20.0
#: Names of --provider, where an engine has another one.
_PROVIDERS = {
    'onnxruntime': {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'},
    'openvino': {'cpu': 'CPU'},
}
log = logging.getLogger('lewm')


@dataclass(frozen=True)
class Problem:
    """Random input, the same for every engine; latents are of the bundle's roadmap, if any."""

    image: np.ndarray  #: (S, S, 3) uint8
    context: np.ndarray  #: (H, D) latents
    past: np.ndarray  #: (H − 1, k·A) normalised blocks
    actions: np.ndarray  #: (300, 5, k·A) normalised blocks
    goal: np.ndarray  #: (D,) latent: a roadmap node, or the result of another such plan
    roadmap: Roadmap | None  #: of the bundle

    @classmethod
    def of(cls, bundle: Bundle, engine: Engine) -> Problem:
        """Make the one for a bundle; ``engine`` computes the goal where there is no roadmap."""
        manifest, rng = bundle.manifest, np.random.default_rng(0)
        size, block = manifest.image_size, manifest.frameskip * bundle.contract.action.size
        image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        context, past, actions = (
            rng.normal(size=shape).astype(np.float32)
            for shape in (
                (manifest.history, manifest.latent_size),
                (manifest.history - 1, block),
                (SAMPLES + 1, STEPS, block),
            )
        )
        roadmap = read_roadmap(bundle)
        if roadmap is None:
            goal = engine.rollout(context, past, actions[:1])[0, -1]
        else:  # a plan uses the roadmap only between recorded states
            nodes = rng.choice(roadmap.nodes, manifest.history + 1)
            context, goal = nodes[:-1], nodes[-1]
        return cls(image, context, past, actions[1:], goal, roadmap)


class EngineUnderTest:
    """One engine at one precision.

    Args:
        bundle: with a horizon of at least 5 blocks.
        name: of the engine.
        precision: 'f32' or 'bf16'.
        threads: of one call.
        provider: 'cpu', 'cuda' or '' for the engine's choice.

    Raises EngineError as ``load_engine``.

    """

    def __init__(
        self, bundle: Bundle, name: str, precision: str, threads: int, provider: str
    ) -> None:
        provider = _PROVIDERS.get(name, {}).get(provider, provider)
        # A shorter horizon makes an engine faster, and a planner may need less than 5 blocks.
        self._load = cache(partial(load_engine, bundle, name, threads, precision, provider))
        self._bundle = bundle
        self.engine = self._load(STEPS)

    def costs(self, problem: Problem) -> np.ndarray:
        """One cost call, (300,), in the engine's precision."""
        exact = self.engine.precision == 'f32'
        inputs = problem.context, problem.past, problem.actions
        arrays = problem.goal, weights('ramp', STEPS)
        return self.engine.costs(*inputs, goal_cost, arrays, exact).astype(float)

    def prepare(self, work: str, problem: Problem) -> Callable[[], object]:
        """Return the call to time for one of :data:`WORKS`, warmed up."""
        if work == 'plan_live':
            config = PlannerConfig()
            call: Callable[[], object] = self.plan_call(config, problem, problem.roadmap)
        elif work == 'encode':
            call = partial(self.engine.encode, problem.image)
        else:
            call = partial(self.costs, problem)
        call()
        return call

    def plan_call(
        self,
        config: PlannerConfig,
        problem: Problem,
        roadmap: Roadmap | None = None,
        cold: bool = False,
    ) -> Callable[[], object]:
        """Return a call that encodes a frame and plans, without a deadline.

        Each call is one block after the previous one and is warm-started from its plan, unless
        ``cold``.
        """
        bundle = self._bundle
        engine = self._load(config.rollout_blocks(bundle.spec))
        planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, config, roadmap)
        planner.warm_up()
        engine.encode(problem.image)
        past = bundle.spec.denormalise_block(problem.past)
        committed = np.zeros((bundle.manifest.frameskip, bundle.contract.action.size))
        stamp = 0

        def plan() -> None:
            nonlocal stamp
            stamp += round(bundle.block * NS_PER_S)
            if cold:
                planner.reset()
            engine.encode(problem.image)
            planner.plan(Context(stamp, problem.context, past), committed, problem.goal)

        return plan


@dataclass(frozen=True)
class Row:
    """Time of one work on one engine."""

    work: str  #: one of :data:`WORKS`
    engine: str
    precision: str
    provider: str
    rounds: int
    ms_p50: float
    ms_p95: float
    ratio_to_reference: float  #: the reference's ms_p50 over this one, from the same rounds


def benchmark(
    bundle: Bundle,
    names: Sequence[str] | None,
    threads: int,
    provider: str = '',
    rounds: int = 30,
) -> list[Row]:
    """Time every work on the reference and on other engines, in f32 and bf16.

    Args:
        bundle: with a horizon of at least 5 blocks.
        names: of the other engines; None: all that are installed.
        threads: of one call.
        provider: 'cpu', 'cuda' or '' for the engine's choice.
        rounds: calls of each work, at most.

    Raises EngineError where a named engine cannot run the bundle; see :func:`check`.

    """
    engines = load_engines(bundle, names, threads, provider)
    problem = Problem.of(bundle, engines[0].engine)
    rows = []
    for work in WORKS:
        # Frames are encoded in f32 whatever an engine's precision.
        tested = [e for e in engines if work != 'encode' or e.engine.precision == 'f32']
        calls = [e.prepare(work, problem) for e in tested]
        times = time_interleaved(calls, rounds, SECONDS_PER_WORK, work)
        rows += [summarise(work, e.engine, taken, times[0]) for e, taken in zip(tested, times)]
    return rows


def check(names: Sequence[str] | None, threads: int, rounds: int) -> None:
    """Raise EngineError where an engine is unknown, or a number less than 1."""
    for name in names or ():
        if name not in ENGINES:
            raise EngineError(f'engine is {name!r}: expected some of {", ".join(ENGINES)}')
    if threads < 1 or rounds < 1:
        raise EngineError(f'threads is {threads}, rounds {rounds}: expected at least 1')


def load_engines(
    bundle: Bundle, names: Sequence[str] | None, threads: int, provider: str
) -> list[EngineUnderTest]:
    """Load the reference, then each engine in f32 and, where that is native, in bf16."""
    engines = [EngineUnderTest(bundle, REFERENCE, 'f32', threads, provider)]
    for name in ENGINES if names is None else names:
        if name == REFERENCE:
            continue
        try:
            engines.append(EngineUnderTest(bundle, name, 'f32', threads, provider))
        except EngineError as error:
            if names is not None:
                raise
            log.info('no %s: %s', name, error)
            continue
        with suppress(EngineError):  # bf16 is only available where it is faster than f32
            engines.append(EngineUnderTest(bundle, name, 'bf16', threads, provider))
    return engines


def summarise(work: str, engine: Engine, taken: np.ndarray, reference: np.ndarray) -> Row:
    """Summarise times (rounds,) [ms] beside those of the reference from the same rounds."""
    p50, p95 = map(float, np.percentile(taken, [50, 95]))
    ratio = float(np.percentile(reference, 50)) / p50
    names = engine.name, engine.precision, engine.provider
    return Row(work, *names, len(taken), p50, p95, ratio)


def time_interleaved(
    calls: Sequence[Callable[[], object]], most: int, seconds: float, name: str = ''
) -> np.ndarray:
    """Time calls in turn, in another order each round.

    Args:
        calls: what is timed.
        most: rounds; the first three are run in any case, unless ``most`` is less.
        seconds: no round is begun after this.
        name: for the progress bar.

    Returns:
        (calls, rounds) [ms].

    """
    order = np.random.default_rng(0)
    rounds: list[np.ndarray] = []
    began = time.perf_counter()
    with tqdm(desc=name, total=most, unit='round', leave=False) as bar:
        while len(rounds) < most and (len(rounds) < 3 or time.perf_counter() - began < seconds):
            taken = np.empty(len(calls))
            for index in order.permutation(len(calls)):
                started = time.perf_counter()
                calls[index]()
                taken[index] = 1e3 * (time.perf_counter() - started)
            rounds.append(taken)
            bar.update()
    return np.array(rounds).T
