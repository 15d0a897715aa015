# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The published planning problem on one engine: plans to time, and results to compare."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lewm_ros.evaluation.benchmark import SAMPLES, STEPS, EngineUnderTest, Problem
from lewm_ros.evaluation.benchmark import WORKS as SHORT_WORKS
from lewm_ros.planning import PlannerConfig

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
