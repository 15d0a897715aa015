# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cross-entropy method (CEM) over action sequences, with a deadline.

:class:`CEM` decides how long to search and what to return; a :class:`Search` runs one iteration.

As in the published planner, sample 0 is always the mean, the "variance" is the standard deviation
of the elites, and the result is a mean, not a sample. Two things differ: candidates are clipped to
the bounds, and the result is the mean with the lowest cost of all those tried, so that a search
never makes a warm start worse.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
import math
import time
from typing import NamedTuple

import numpy as np

from lewm_ros.errors import ConfigError, ModelError

MIN_STD = 1e-3  #: floor of the sampling std, so that equal elites do not end the search

Cost = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class CEMConfig:
    """Sizes of the search."""

    samples: int  #: S, candidates in an iteration, the mean included
    elites: int  #: best candidates that the next mean and std are computed from
    iterations: int
    keep: int = 5  #: elites returned for the next warm start
    exact_iterations: int = 2  #: final iterations with the exact cost, if there is a coarse one

    def __post_init__(self) -> None:
        if not 1 <= self.elites <= self.samples:
            raise ConfigError(
                f'CEM has {self.elites} elites of {self.samples} samples: expected elites in '
                '[1, samples]'
            )
        if not 0 <= self.keep <= self.elites:
            raise ConfigError(
                f'CEM keeps {self.keep} of {self.elites} elites: expected a number in [0, elites]'
            )


class Step(NamedTuple):
    """Result of one iteration. T steps of A numbers each."""

    mean: np.ndarray  #: (T, A) of the elites; unchanged if there are none
    std: np.ndarray  #: (T, A) of the elites, at least MIN_STD
    elites: np.ndarray  #: (E', T, A) candidates of finite cost, best first, at most ``elites``
    costs: np.ndarray  #: (E',) costs of the elites, float64
    cost_of_mean: float  #: of the mean of the sampling distribution; inf if not finite


class Search:
    """The iterations of one search over a cost function.

    Args:
        config: sizes.
        cost: (S, T, A) candidates → (S,) costs; a candidate whose cost is not finite is never
            chosen.
        low: lowest values, broadcast to (T, A); −inf for none.
        high: highest values, likewise.
        rng: source of all randomness.
        coarse_cost: a cheaper cost for the early iterations, or None.

    """

    def __init__(
        self,
        config: CEMConfig,
        cost: Cost,
        low: np.ndarray | float,
        high: np.ndarray | float,
        rng: np.random.Generator,
        coarse_cost: Cost | None = None,
    ) -> None:
        self.coarse = coarse_cost is not None  #: has a cheaper cost besides the exact one
        self._config, self._rng = config, rng
        self._low, self._high = low, high
        self._exact_cost, self._coarse_cost = cost, coarse_cost

    def iterate(
        self, mean: np.ndarray, std: np.ndarray, extra: np.ndarray | None, exact: bool
    ) -> Step:
        """Sample candidates around a mean, evaluate their costs and refit mean and std.

        Args:
            mean: (T, A), within bounds.
            std: (T, A) standard deviation of the samples.
            extra: (E, T, A) sequences to try as well, or None; at most S − 1 are used.
            exact: use the exact cost; otherwise the coarse one, if there is one.

        """
        cost = self._exact_cost if exact or self._coarse_cost is None else self._coarse_cost
        noise = self._rng.standard_normal((self._config.samples, *mean.shape))
        candidates = mean + std * noise
        candidates[0] = mean
        if extra is not None:
            used = extra[: self._config.samples - 1]
            candidates[1 : 1 + len(used)] = used
        candidates = np.clip(candidates, self._low, self._high)
        costs = _evaluate(cost, candidates)
        order = np.argsort(costs, kind='stable')[: self._config.elites]
        order = order[np.isfinite(costs[order])]
        elites = candidates[order]
        if len(elites):
            mean, std = elites.mean(axis=0), np.maximum(elites.std(axis=0), MIN_STD)
        return Step(mean, std, elites, costs[order], float(costs[0]))

    def cost(self, mean: np.ndarray) -> float:
        """Exact cost of one sequence (T, A); inf where not finite."""
        return float(_evaluate(self._exact_cost, mean[None])[0])


@dataclass(frozen=True)
class Solution:
    """What a search found. T steps of A numbers each."""

    mean: np.ndarray  #: (T, A) float64, within bounds
    cost: float  #: of the mean
    std: float  #: of the last elites' costs
    elites: np.ndarray  #: (≤ keep, T, A), best first
    iterations: int  #: done
    rollouts: int  #: candidates evaluated
    cut: bool  #: the deadline ended the search before its last iteration

    @classmethod
    def given(cls, mean: np.ndarray, cost: float) -> Solution:
        """Return a solution that no search produced, such as the output of a policy."""
        return cls(mean, cost, 0.0, mean[None][:0], iterations=0, rollouts=1, cut=False)


class CEM:
    """Cross-entropy search. Its result does not depend on earlier searches."""

    def __init__(self, config: CEMConfig) -> None:
        self.config = config
        # Durations in the last search [s], by whether the cost was exact; for the deadline only.
        self._iteration_time: dict[bool, float] = {}
        self._check_time = math.inf

    def solve(
        self,
        search: Search,
        mean: np.ndarray,
        std: np.ndarray | float,
        extra: np.ndarray | None = None,
        deadline: float | None = None,
    ) -> Solution:
        """Search for a sequence of low cost.

        Args:
            search: runs the iterations.
            mean: (T, A) to start from, within bounds.
            std: standard deviation of the first samples, broadcast to (T, A).
            extra: (E, T, A) sequences to try in the first iteration, or None.
            deadline: on the clock of ``time.perf_counter`` [s], or None. The first iteration
                always runs; another one only if it and the last check of the mean are
                expected to end in time.

        Raises ModelError if no candidate of the first iteration has a finite cost.

        """
        config = self.config
        # At least half of a short search stays coarse; otherwise the coarse cost saves nothing.
        exact_last = min(config.exact_iterations, config.iterations // 2)
        end, done = config.iterations, 0
        exact = not search.coarse
        std = np.broadcast_to(np.asarray(std, dtype=float), mean.shape)
        best, best_cost = mean, math.inf
        elites, elite_costs = mean[None], np.array([math.inf])
        cut = False
        while done < end and not cut:
            if not exact and done >= end - exact_last:
                exact, best_cost = True, math.inf  # coarse and exact costs are not comparable
            started = time.perf_counter()
            step = search.iterate(mean, std, extra if done == 0 else None, exact)
            done += 1
            if step.cost_of_mean < best_cost:
                best, best_cost = mean, step.cost_of_mean
            if len(step.costs) == 0:
                break
            mean, std, elites, elite_costs = step.mean, step.std, step.elites, step.costs
            now = time.perf_counter()
            self._iteration_time[exact] = now - started
            if deadline is not None and done < end:
                next_exact = exact or done >= end - exact_last
                needed = self._iteration_time.get(next_exact, now - started)
                # The check of the mean below needs time too: at most that of an iteration.
                cut = now + needed + min(needed, self._check_time) > deadline
        if not math.isfinite(elite_costs[0]):
            raise ModelError(
                f'none of {done * config.samples} candidate plans has a finite cost: expected '
                'finite latents, goal and weights'
            )
        started = time.perf_counter()
        cost_of_mean = search.cost(mean)
        self._check_time = time.perf_counter() - started
        if cost_of_mean < best_cost or not exact:  # coarse costs are not comparable
            best, best_cost = mean, cost_of_mean
        if not math.isfinite(best_cost):  # samples have a cost, but no mean does
            best, best_cost = elites[0], float(elite_costs[0])
        return Solution(
            mean=best,
            cost=float(best_cost),
            std=float(elite_costs.std()),
            elites=elites[: config.keep],
            iterations=done,
            rollouts=done * config.samples + 1,
            cut=cut,
        )


def _evaluate(cost: Cost, candidates: np.ndarray) -> np.ndarray:
    """Return costs (S,) float64; those that are not finite become inf and rank last."""
    costs = np.asarray(cost(candidates), dtype=float)
    if costs.shape != (len(candidates),):
        raise ModelError(
            f'costs have shape {costs.shape} for {len(candidates)} candidates: expected '
            f'({len(candidates)},)'
        )
    return np.where(np.isfinite(costs), costs, np.inf)
