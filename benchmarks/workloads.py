# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The published planning problem: plans to time, and results and costs to compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lewm_ros.engines import Engine
from lewm_ros.evaluation.benchmark import SAMPLES, STEPS, EngineUnderTest, Problem
from lewm_ros.evaluation.benchmark import WORKS as SHORT_WORKS
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner, goal_cost, weights
from lewm_ros.progress import progress
from lewm_ros.robot.history import Context
from lewm_ros.robot.spec import ModelSpec

ELITES = 30  #: as published
WORKS = (*SHORT_WORKS, 'plan_300x10', 'plan_300x30')
TOLERANCE = 1e-4  #: largest relative difference to the reference that counts as exact


class Verdict(NamedTuple):
    """How an engine's results compare with the reference's, on one problem."""

    same_latent: bool
    same_costs: bool
    cost_difference: float  #: largest of 300, relative to the reference
    elites_kept: int  #: of the reference's 30


def judge(
    tested: EngineUnderTest, problem: Problem, latent: np.ndarray, costs: np.ndarray
) -> Verdict:
    """Compare with the reference's latent (D,) and costs (300,)."""
    own = tested.costs(problem)
    apart = np.abs(tested.engine.encode(problem.image) - latent).max() / np.abs(latent).max()
    difference = float((np.abs(own - costs) / costs).max())
    best, own_best = (set(np.argsort(c, kind='stable')[:ELITES]) for c in (costs, own))
    kept = len(best & own_best)
    same_costs = difference <= TOLERANCE and kept == ELITES
    return Verdict(bool(apart <= TOLERANCE), same_costs, difference, kept)


def prepare(tested: EngineUnderTest, work: str, problem: Problem) -> Callable[[], object]:
    """Return the call to time for one of :data:`WORKS`."""
    if work in SHORT_WORKS:
        return tested.prepare(work, problem)
    iterations = int(work.removeprefix('plan_300x'))
    config = PlannerConfig(
        horizon=STEPS,
        samples=SAMPLES,
        elites=ELITES,
        iterations=iterations,
        cold_samples=SAMPLES,
        cold_iterations=iterations,
    )
    return tested.plan_call(config, problem, cold=True)


#: Searches by name: precision of their rollouts, and last iterations in f32.
SEARCHES = {'f32': ('f32', 0), 'bf16, last 2 in f32': ('bf16', 2), 'bf16': ('bf16', 0)}


class Start(NamedTuple):
    """Context and goal of a planning problem."""

    latents: np.ndarray  #: (H, D)
    past: np.ndarray  #: (H − 1, k·A) contract units
    committed: np.ndarray  #: (k, A) contract units
    goal: np.ndarray  #: (D,)


def planned_costs(
    spec: ModelSpec, engines: Mapping[str, Engine], starts: Sequence[Start], cost: str
) -> dict[str, np.ndarray]:
    """Costs (n,) in f32 of plans 300 x 10, by the name of their search.

    Args:
        spec: of the model.
        engines: by precision; 'f32' is one of them.
        starts: n of them.
        cost: of :class:`PlannerConfig`.

    """
    found = {}
    for name, (precision, last) in SEARCHES.items():
        if precision not in engines:
            continue
        config = PlannerConfig(
            horizon=min(PlannerConfig.horizon, spec.horizon),
            samples=SAMPLES,
            elites=ELITES,
            iterations=10,
            cold_samples=SAMPLES,
            cold_iterations=10,
            exact_iterations=last,
            cost=cost,
        )
        costs = []
        for start in progress(starts, desc=name, unit='plan'):
            planner = RecedingHorizonPlanner(spec, spec.contract, engines[precision], config)
            context = Context(0, start.latents, start.past)
            plan = planner.plan(context, start.committed, start.goal)
            costs.append(cost_of(spec, engines['f32'], start, plan.actions, cost))
        found[name] = np.array(costs)
    return found


def cost_of(spec: ModelSpec, engine: Engine, start: Start, actions: np.ndarray, cost: str) -> float:
    """Cost of free actions (n·k, A), contract units, after the committed ones."""
    commands = np.concatenate([start.committed, actions])
    blocks = spec.normalise_block(commands.reshape(1, len(commands) // spec.frameskip, -1))
    past = spec.normalise_block(start.past).astype(np.float32)
    latents = engine.rollout(start.latents, past, blocks.astype(np.float32))
    steps = weights(cost, blocks.shape[1])
    steps[0] = 0.0  # of the committed block, which no plan changes
    return float(goal_cost(latents, start.goal, steps)[0])
