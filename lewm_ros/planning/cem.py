# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The cross-entropy method over action sequences, in numpy, under a deadline.

It knows no model: a cost function in, a sequence out. As in the published planner, sample 0 is
always the mean, "variance" is the elites' standard deviation, and a mean is returned, not a
sample. Different from it: candidates are clipped to bounds, and of all the means that were
tried the one with the lowest cost is returned, so that a warm start never gets worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import time

import numpy as np

from lewm_ros.errors import ModelError

MIN_STD = 1e-3  #: floor of the sampling spread, so that equal elites do not end the search

Cost = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CEMConfig:
    """Sizes of the search."""

    samples: int  #: S, candidates in an iteration, the mean included
    elites: int  #: best candidates that the next mean and spread are computed from
    iterations: int
    keep: int = 5  #: elites handed back, for the next warm start

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.samples:
            raise ModelError(
                f'CEM has {self.elites} elites of {self.samples} samples: expected elites in '
                '[1, samples]'
            )
        if self.iterations < 1:
            raise ModelError(f'CEM iterations are {self.iterations}: expected at least 1')
        if not 0 <= self.keep <= self.elites:
            raise ModelError(
                f'CEM keeps {self.keep} of {self.elites} elites: expected a number in [0, elites]'
            )


@dataclass(frozen=True)
class Solution:
    """What a search found. T steps of A numbers each."""

    mean: np.ndarray  #: (T, A) float64, within bounds
    cost: float  #: of the mean
    spread: float  #: standard deviation of the last elites' costs
    elites: np.ndarray  #: (≤ keep, T, A), best first
    iterations: int  #: done
    rollouts: int  #: candidates evaluated
    cut: bool  #: the deadline ended the search before the last iteration


class CEM:
    """Cross-entropy search. What it finds does not depend on earlier searches."""

    def __init__(self, config: CEMConfig) -> None:
        self.config = config
        self._check_time = np.inf  # of one sequence, in the last search [s]

    def solve(
        self,
        cost: Cost,
        low: np.ndarray | float,
        high: np.ndarray | float,
        mean: np.ndarray,
        std: np.ndarray | float,
        extra: np.ndarray | None,
        rng: np.random.Generator,
        deadline: float | None = None,
    ) -> Solution:
        """Search for a sequence of low cost.

        Args:
            cost: (S, T, A) candidates → (S,) costs; a candidate whose cost is not finite is
                never chosen.
            low: lowest values, broadcast to (T, A); −inf for none.
            high: highest values, likewise.
            mean: (T, A) to start from.
            std: initial spread, broadcast to (T, A).
            extra: (E, T, A) sequences to try in the first iteration, or None; at most S − 1
                are used.
            rng: source of all randomness.
            deadline: on the clock of ``time.perf_counter`` [s], or None. The first iteration
                always runs; another one only if it and the last check of the mean are
                expected to end in time.

        Raises ModelError if no candidate of the first iteration has a finite cost.

        """
        mean = np.clip(mean, low, high)
        spread = np.broadcast_to(np.asarray(std, dtype=float), mean.shape)
        best, best_cost = mean, np.inf
        elites, elite_costs = mean[None], np.array([np.inf])
        rollouts = done = 0
        cut = False
        while done < self.config.iterations and not cut:
            started = time.perf_counter()
            candidates = self._sample(mean, spread, extra if done == 0 else None, rng)
            candidates = np.clip(candidates, low, high)
            costs = _evaluate(cost, candidates)
            done += 1
            rollouts += len(candidates)
            if costs[0] < best_cost:
                best, best_cost = mean, costs[0]
            order = np.argsort(costs, kind='stable')[: self.config.elites]
            order = order[np.isfinite(costs[order])]
            if len(order) == 0:
                break
            elites, elite_costs = candidates[order], costs[order]
            mean = elites.mean(axis=0)
            spread = np.maximum(elites.std(axis=0), MIN_STD)
            now = time.perf_counter()
            last = now - started
            # The check of the mean below needs time too: at most that of an iteration.
            needed = last + min(last, self._check_time)
            cut = deadline is not None and now + needed > deadline
        if not np.isfinite(elite_costs[0]):
            raise ModelError(
                f'none of {rollouts} candidate plans has a finite cost: expected finite latents, '
                'goal and weights'
            )
        started = time.perf_counter()
        cost_of_mean = _evaluate(cost, mean[None])[0]
        self._check_time = time.perf_counter() - started
        rollouts += 1
        if cost_of_mean < best_cost:
            best, best_cost = mean, cost_of_mean
        if not np.isfinite(best_cost):  # samples have a cost, but no mean does
            best, best_cost = elites[0], elite_costs[0]
        return Solution(
            mean=best,
            cost=float(best_cost),
            spread=float(elite_costs.std()),
            elites=elites[: self.config.keep],
            iterations=done,
            rollouts=rollouts,
            cut=cut and done < self.config.iterations,
        )

    def _sample(
        self,
        mean: np.ndarray,
        std: np.ndarray,
        extra: np.ndarray | None,
        rng: np.random.Generator,
    ) -> np.ndarray:
        candidates = mean + std * rng.standard_normal((self.config.samples, *mean.shape))
        candidates[0] = mean
        if extra is not None:
            used = extra[: self.config.samples - 1]
            candidates[1 : 1 + len(used)] = used
        return candidates


def _evaluate(cost: Cost, candidates: np.ndarray) -> np.ndarray:
    """Costs (S,) float64, infinite where not finite, so that those rank last."""
    costs = np.asarray(cost(candidates), dtype=float)
    if costs.shape != (len(candidates),):
        raise ModelError(
            f'costs have shape {costs.shape} for {len(candidates)} candidates: expected '
            f'({len(candidates)},)'
        )
    return np.where(np.isfinite(costs), costs, np.inf)
