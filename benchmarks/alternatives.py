# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Optimisers to compare with the planner's CEM: MPPI, and Adam on the actions of the plan.

Each has the interface of :class:`lewm_ros.planning.CEM`. The planner thus still does the shifting,
the committed block, the clipping and the units.
"""

from __future__ import annotations

import math
import time
from typing import Any

from gradients import Gradient
import numpy as np

from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.planning import CEM, CEMConfig, Plan, PlannerConfig, RecedingHorizonPlanner, Solution
from lewm_ros.planning.cem import MIN_STD, Search, Step
from lewm_ros.robot.history import Context


class MPPI:
    """Model predictive path integral: the mean moves to the weighted average of the samples.

    Args:
        config: sizes; ``elites`` are the samples that are averaged, all of them or the best.
        temperature: of the weights, in standard deviations of the averaged samples' costs.
        decay: factor on the standard deviation after each iteration; None: use the weighted
            standard deviation of the samples, as in TD-MPC.

    """

    def __init__(self, config: CEMConfig, temperature: float, decay: float | None = None) -> None:
        self.config = config
        self._temperature, self._decay = temperature, decay

    def solve(
        self,
        search: Search,
        mean: np.ndarray,
        std: np.ndarray | float,
        extra: np.ndarray | None = None,
        deadline: float | None = None,
    ) -> Solution:
        """Search without a deadline; see :meth:`lewm_ros.planning.CEM.solve`."""
        spread = np.broadcast_to(np.asarray(std, dtype=float), mean.shape)
        best, best_cost = mean, math.inf
        step = None
        for _ in range(self.config.iterations):
            first = step is None
            step = Step(*search.iterate(mean, spread, extra if first else None, True))
            if step.cost_of_mean < best_cost:
                best, best_cost = mean, step.cost_of_mean
            scale = max(self._temperature * float(step.costs.std()), 1e-12)
            weights = np.exp((step.costs[0] - step.costs) / scale)
            weights /= weights.sum()
            mean = np.tensordot(weights, step.elites, 1)
            if self._decay is None:
                variance = np.tensordot(weights, (step.elites - mean) ** 2, 1)
                spread = np.maximum(np.sqrt(variance), MIN_STD)
            else:
                spread = spread * self._decay
        assert step is not None  # noqa: S101 - CEMConfig has at least one iteration
        cost = search.cost(mean)
        if cost < best_cost:
            best, best_cost = mean, cost
        return Solution(
            mean=best,
            cost=best_cost,
            std=float(step.costs.std()),
            elites=step.elites[: self.config.keep],
            iterations=self.config.iterations,
            rollouts=self.config.iterations * self.config.samples + 1,
            cut=False,
        )


class Adam:
    """Optimises one plan by gradient steps; returns the best plan visited.

    Args:
        gradient: of the cost of a plan; see :func:`gradients.gradient`.
        config: of ``before``; ``keep`` of its elites are returned.
        steps: gradient steps; each costs a rollout and its derivative.
        rate: learning rate [standard deviations of the training actions].
        before: CEM whose result is refined; None: start from the given mean.

    """

    def __init__(
        self,
        gradient: Gradient,
        config: CEMConfig,
        steps: int,
        rate: float,
        before: CEM | None = None,
    ) -> None:
        self.config = config
        self._gradient, self._steps, self._rate, self._before = gradient, steps, rate, before
        self._problem: tuple[np.ndarray, ...] = ()
        self._bounds: tuple[np.ndarray, np.ndarray] = np.array(-np.inf), np.array(np.inf)

    def load(self, *problem: np.ndarray, bounds: tuple[np.ndarray, np.ndarray]) -> None:
        """Set the gradient's inputs after the plan, and the lower and upper bounds of the plan."""
        self._problem, self._bounds = problem, bounds

    def solve(
        self,
        search: Search,
        mean: np.ndarray,
        std: np.ndarray | float,
        extra: np.ndarray | None = None,
        deadline: float | None = None,
    ) -> Solution:
        """Descend without a deadline; see :meth:`lewm_ros.planning.CEM.solve`."""
        elites, rollouts = mean[None][:0], 0
        if self._before is not None:
            found = self._before.solve(search, mean, std, extra)
            mean, elites, rollouts = found.mean, found.elites, found.rollouts
        best, best_cost = mean, math.inf
        first, second = np.zeros_like(mean), np.zeros_like(mean)
        for step in range(1, self._steps + 1):
            slope, cost = self._gradient(mean, *self._problem)
            if cost < best_cost:
                best, best_cost = mean, cost
            first = 0.9 * first + 0.1 * slope
            second = 0.999 * second + 0.001 * slope**2
            size = np.sqrt(second / (1 - 0.999**step)) + 1e-8
            mean = np.clip(mean - self._rate * first / (1 - 0.9**step) / size, *self._bounds)
        cost_of_last = search.cost(mean)
        if cost_of_last < best_cost:
            best, best_cost = mean, cost_of_last
        return Solution(
            mean=best,
            cost=best_cost,
            std=0.0,
            elites=elites,
            iterations=self._steps,
            rollouts=rollouts + self._steps + 1,
            cut=False,
        )


class BenchmarkPlanner(RecedingHorizonPlanner):
    """The planner with another optimiser, or without warm starts; records the time of each plan.

    Args:
        bundle: the model.
        engine: runs it.
        config: settings.
        warm: optimiser that replaces the warm CEM, or None.
        memory: False: every search is a cold start.

    """

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        config: PlannerConfig,
        warm: Any = None,
        memory: bool = True,
    ) -> None:
        super().__init__(bundle, bundle.contract, engine, config)
        self._warm = warm or self._warm
        self._remembers = memory
        self.taken: list[tuple[float, Plan]] = []  #: [ms] and the plan, for every call

    def plan(
        self,
        context: Context,
        committed: np.ndarray,
        goal: np.ndarray,
        budget: float | None = None,
    ) -> Plan:
        """Plan as the planner does and note the time."""
        started = time.perf_counter()
        if not self._remembers:
            self._last = None
        plan = super().plan(context, committed, goal, budget)
        self.taken.append((1e3 * (time.perf_counter() - started), plan))
        return plan

    def continue_from(
        self, goal: np.ndarray, last: tuple[int, np.ndarray] | None, seed: list[int]
    ) -> None:
        """Pretend that ``last`` was this planner's own plan to ``goal``; fix the noise."""
        self.reset()
        self._rng = np.random.default_rng(seed)
        self._goal = np.array(goal)
        if last is not None:
            start, tracks = last
            self._last = start, tracks[:, : 1 + self.config.keep_elites]

    def rest_cost(self, context: Context, committed: np.ndarray, goal: np.ndarray) -> float:
        """Exact cost of the zero plan: normalised 0 in every tick."""
        search = self._search(self._cold.config, context, committed, goal)
        return search.cost(np.clip(0.0, self._low, self._high))

    @property
    def memory(self) -> tuple[int, np.ndarray] | None:
        """What the next search would start from."""
        return self._last

    def cost_of(
        self, context: Context, committed: np.ndarray, goal: np.ndarray, actions: np.ndarray
    ) -> float:
        """Exact cost of commands ((N − 1)·k, A), contract units."""
        blocks = self._bundle.spec.normalise(actions).reshape(self._free, -1)
        return self._search(self._cold.config, context, committed, goal).cost(blocks)

    def _search(
        self, config: CEMConfig, context: Context, committed: np.ndarray, goal: np.ndarray
    ) -> Search:
        for solver in (self._cold, self._warm):
            if isinstance(solver, Adam):
                solver.load(
                    context.latents,
                    self._bundle.spec.normalise_block(context.past),
                    self._bundle.spec.normalise(committed).reshape(-1),
                    goal,
                    self._weights,
                    bounds=(self._low, self._high),
                )
        return super()._search(config, context, committed, goal)
