# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Receding-horizon planning in latent space: context and goal in, a stamped plan out.

A plan is based on the latent with stamp t. Its first block, [t, t + block), is executed while the
search runs, so it is committed; the free part starts at t + block. The next search starts from the
last plan, shifted by the time that has passed. A candidate has one command per block, or one per
tick. Its cost is that of the commands as the controller will limit them: see
:meth:`lewm_ros.control.limits.Limits.project`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from itertools import product
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from lewm_ros.control.limits import Limits
from lewm_ros.errors import ModelError
from lewm_ros.planning.cem import CEM, CEMConfig, Cost, Search, Solution
from lewm_ros.planning.config import PlannerConfig, shares_first
from lewm_ros.planning.costs import goal_cost, weights
from lewm_ros.planning.goal_policy import GoalPolicy
from lewm_ros.planning.roadmap import Field, Roadmap, field_cost
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.history import Context, held_average
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.time import NS_PER_S

if TYPE_CHECKING:  # it is handed in; planning imports no runtime
    from lewm_ros.engines import Engine

#: Hysteresis: frames are on the map until their gap exceeds this many limits, then off it until the
#: gap is within the limit again. The cost function must not change with every other frame.
LEAVE = 2.0
#: Fraction of a control period for which plans apply ``max_rate``. The limit counts real time, so
#: this leaves a margin for ticks that come early.
RATED = 0.9
#: Times to the goal are exact up to this many blocks above the current one; longer times come out
#: too long. Most nodes of the map can therefore be left out.
DETOUR = 2.0


@dataclass(frozen=True)
class Outlook:
    """The way to the goal according to the roadmap. Gaps are latent distances to recordings."""

    time_to_goal: float  #: estimate from the newest frame [s]; NaN if that is off the map
    goal_gap: float
    frame_gap: float
    gap_limit: float  #: a goal with a larger gap is unlike anything recorded
    frame_limit: float  #: the same for a frame; larger if the last frame was on the map
    connected: bool  #: recorded movements lead from the frame to the goal

    @property
    def on_map(self) -> bool:
        """Whether the newest frame looks like something recorded."""
        return self.frame_gap <= self.frame_limit

    @property
    def reachable(self) -> bool | None:
        """Whether recorded movements lead to the goal; None where the frame is off the map."""
        if self.goal_gap > self.gap_limit:
            return False
        return self.connected if self.on_map else None

    @property
    def problem(self) -> str | None:
        """What is wrong with the goal or the newest frame; None where nothing is."""
        for what, gap, limit in (
            ('the goal', self.goal_gap, self.gap_limit),
            ('the newest frame', self.frame_gap, self.frame_limit),
        ):
            if gap > limit:
                return f'{what} is unlike anything recorded (gap {gap:.3g}, limit {limit:.3g})'
        return None if self.connected else 'no recorded movements lead from here to the goal'


@dataclass(frozen=True)
class Plan:
    """Commands for the time from ``start`` on, one per control tick."""

    start: int  #: [ns], the context's stamp plus one block
    period: int  #: control period [ns]
    actions: np.ndarray  #: ((N − 1)·k, A) float64, contract units
    cost: float  #: of this plan
    std: float  #: of the elites' costs
    iterations: int
    rollouts: int  #: candidates evaluated
    warm: bool  #: started from the last plan
    deadline_missed: bool  #: iterations were left out because the budget was spent
    outlook: Outlook | None = None  #: by the roadmap; None without one

    @property
    def end(self) -> int:
        """End of the last tick [ns]."""
        return self.start + len(self.actions) * self.period


class RecedingHorizonPlanner:
    """Plans one robot's actions towards a goal latent.

    Not thread safe. Equal calls after :meth:`reset` give equal plans, unless a budget ends a
    search early.

    Args:
        spec: of the model that ``engine`` runs.
        contract: the robot; its limits may be tighter than the model's.
        engine: from ``lewm_ros.engines.load_engine``.
        config: settings.
        roadmap: built from latents of the model; None: the cost is the squared distance.
        policy: computes the commands in place of a search; None: search.

    Raises ConfigError if the contract does not fit the model's, ModelError if the model's rollout
    is shorter than ``config.horizon``.

    """

    def __init__(
        self,
        spec: ModelSpec,
        contract: Contract,
        engine: Engine,
        config: PlannerConfig,
        roadmap: Roadmap | None = None,
        policy: GoalPolicy | None = None,
    ) -> None:
        contract.check_against_bundle(spec.contract)
        if config.horizon > spec.horizon:
            raise ModelError(
                f'horizon is {config.horizon} blocks: the rollout of bundle {spec.name} has '
                f'{spec.horizon}; choose a shorter one'
            )
        self._spec = spec
        self._engine = engine
        self._roadmap, self._policy = roadmap, policy
        self._limits = Limits(contract.action, contract.period)
        self._holds = contract.action.kind == 'position'
        self._ticks = spec.frameskip
        self._free = config.horizon - 1
        self._size = contract.action.size
        self._block = round(spec.block * NS_PER_S)
        self._period = round(contract.period * NS_PER_S)
        #: Ticks that one step of a candidate lasts.
        self._step = self._ticks if config.candidates == 'block' else 1
        shape = self._free * self._ticks // self._step, self._size
        low, high = (
            np.broadcast_to(spec.normalise(bound), shape) for bound in contract.action.bounds
        )
        self._clip = config.clip
        self._low = low if config.clip else np.full_like(low, -np.inf)
        self._high = high if config.clip else np.full_like(high, np.inf)
        self._weights = weights(config.cost, config.horizon)
        self._weights[0] = 0.0  # what the committed block leads to is the same for every plan
        self._shares_first = shares_first(spec)
        self.adopt(config)
        self.reset()

    def adopt(self, config: PlannerConfig) -> None:
        """Use other settings from the next plan on, which still starts from the last plan.

        Horizon, candidates, cost, policy, roadmap and clip stay those of the constructor; a new
        seed takes effect at the next reset.
        """
        self.config = config
        self.budget = config.deadline_fraction * self._spec.block  #: for a live plan [s]
        self._cold = CEM(config.search(warm=False))
        self._warm = CEM(config.search(warm=True))

    def reset(self) -> None:
        """Forget the last plan (new episode): the next search is cold."""
        self._rng = np.random.default_rng(self.config.seed)
        self._goal: np.ndarray | None = None
        self._field: Field | None = None
        self._on_map = True
        self._last: tuple[int, np.ndarray] | None = None  # start, (T, 1 + E, A) normalised

    def warm_up(self) -> None:
        """Run rollouts of every size and precision once, because first calls may take seconds."""
        spec = self._spec
        past = np.zeros((spec.history - 1, self._ticks * self._size))
        context = Context(0, np.zeros((spec.history, spec.latent_size)), past)
        committed, goal = np.zeros((self._ticks, self._size)), np.zeros(spec.latent_size)
        mean = np.clip(np.zeros_like(self._low), self._low, self._high)
        field = None if self._roadmap is None else self._roadmap.field(goal)
        begun = self._begin(context, committed)
        for cem, by in product((self._cold, self._warm), {None, field}):
            search = self._search(cem.config, begun, committed[-1:], self._cost(goal, by))
            for exact in {True, not search.coarse}:
                search.iterate(mean, np.ones_like(mean), None, exact)
            search.cost(mean)
        self.reset()

    def plan(
        self,
        context: Context,
        committed: np.ndarray,
        goal: np.ndarray,
        budget: float | None = None,
        previous: np.ndarray | None = None,
        last: np.ndarray | None = None,
    ) -> Plan:
        """Search for the best commands after the committed block.

        Args:
            context: what the model reads now.
            committed: (k, A) commands that are and will be executed over
                [context.stamp, context.stamp + block), averaged per tick, contract units.
            goal: (D,) latent of the goal image; a new goal makes the search cold.
            budget: time that this call may take [s]; live, use :attr:`budget`. None for no
                limit.
            previous: (A,) command in effect at the start of the committed block, contract units;
                step and rate limits count from it. None if unknown.
            last: (m, A) all commands in effect during the last tick of the committed block, if
                its ticks are not aligned with the commands. None: its last row.

        Raises ModelError if an input has the wrong shape or the result is not finite.

        """
        deadline = None if budget is None else time.perf_counter() + budget
        if np.shape(committed) != (self._ticks, self._size):
            raise ModelError(
                f'committed actions have shape {np.shape(committed)}: expected '
                f'{(self._ticks, self._size)}, one row per tick of a block'
            )
        if not (np.isfinite(committed).all() and np.isfinite(goal).all()):
            raise ModelError('the committed actions or the goal hold NaN: expected finite numbers')
        if self._goal is None or not np.array_equal(goal, self._goal):
            self._goal, self._last = np.array(goal), None
            self._field = None if self._roadmap is None else self._roadmap.field(goal)
        outlook = None if self._field is None else self._look(self._field, context.latents[-1])
        field = self._field if outlook is not None and outlook.on_map else None
        start = context.stamp + self._block
        last = committed[-1:] if last is None else last
        if self._clip:
            possible = self._limits.project(committed, previous)
            last, committed = last + possible[-1] - committed[-1], possible
        begun = self._begin(context, committed)
        rest = np.broadcast_to(self._rest(last[-1]), self._low.shape)
        seeds = self._shifted(start, rest)
        warm = len(seeds) > 0
        cem = self._warm if warm else self._cold
        now = np.inf if outlook is None else outlook.time_to_goal
        search = self._search(cem.config, begun, last, self._cost(goal, field, now))
        if self._policy is not None:
            before = np.asarray(context.latents[-1], dtype=np.float32)
            mean = self._ask(self._policy, before, begun, goal, field, rest)
            solution = Solution.given(mean, search.cost(mean))
        else:
            solution = cem.solve(
                search,
                mean=np.clip(seeds[0] if warm else rest, self._low, self._high),
                std=self.config.warm_std if warm else self.config.std,
                extra=np.concatenate([rest[None], seeds[1:]]),
                deadline=deadline,
            )
        actions = self._commands(solution.mean, last)
        if not np.isfinite(actions).all():  # such a plan must never be returned
            raise ModelError('the plan found is not finite: expected finite candidates')
        self._remember(start, solution)
        return Plan(
            start=start,
            period=self._period,
            actions=actions,
            cost=solution.cost,
            std=solution.std,
            iterations=solution.iterations,
            rollouts=solution.rollouts,
            warm=warm,
            deadline_missed=solution.cut,
            outlook=outlook,
        )

    def foresee(self, context: Context, committed: np.ndarray, plan: Plan) -> np.ndarray:
        """Predict the latents (N, D) after each block of a plan, the committed block first.

        Args:
            context: context that the plan was made from.
            committed: committed block of the plan.
            plan: plan of this planner.

        """
        latents, past, first = self._begin(context, committed)
        free = self._spec.normalise(plan.actions).reshape(self._free, -1).astype(np.float32)
        after = self._engine.rollout(latents, past, np.concatenate([first, free])[None])[0]
        return after if len(first) else np.concatenate([latents[-1:], after])

    def _look(self, field: Field, latent: np.ndarray) -> Outlook:
        limit = field.roadmap.gap_limit
        gap, connected = field.locate(latent)
        outlook = Outlook(
            time_to_goal=float(field.value(latent)),
            goal_gap=field.gap,
            frame_gap=gap,
            gap_limit=limit,
            frame_limit=LEAVE * limit if self._on_map else limit,
            connected=connected,
        )
        self._on_map = outlook.on_map
        return outlook if outlook.on_map else replace(outlook, time_to_goal=float('nan'))

    def _cost(
        self, goal: np.ndarray, field: Field | None, now: float = np.inf
    ) -> tuple[Any, tuple[np.ndarray, ...]]:
        """Return the cost of latents after the committed block, and its other arguments.

        ``now`` is the current time to the goal according to the field [s].
        """
        first = int(self._shares_first)
        weights = self._weights[first:]
        if field is None:
            return goal_cost, (goal, weights)
        counted = np.flatnonzero(weights)[0]
        whole = self._engine.captures
        arrays = field.arrays if whole else field.within(now + DETOUR * self._spec.block)
        return field_cost, (weights[counted:].astype(np.float32), *arrays)

    def _search(
        self,
        config: CEMConfig,
        begun: tuple[np.ndarray, ...],
        last: np.ndarray,
        by: tuple[Any, tuple[np.ndarray, ...]],
    ) -> Search:
        latents, past, first = begun
        function, arrays = by

        def cost(candidates: np.ndarray, exact: bool) -> np.ndarray:
            shape = (len(candidates), len(first) + self._free, self._ticks * self._size)
            actions = np.empty(shape, dtype=np.float32)
            actions[:, : len(first)] = first
            commands = self._spec.normalise(self._commands(candidates, last))
            actions[:, len(first) :] = commands.reshape(len(candidates), self._free, -1)
            return self._engine.costs(latents, past, actions, function, arrays, exact)

        coarse: Cost | None = None
        if self._engine.precision != 'f32':
            coarse = partial(cost, exact=False)
        exact = partial(cost, exact=True)
        return Search(config, exact, self._low, self._high, self._rng, coarse)

    def _commands(self, candidates: np.ndarray, previous: np.ndarray) -> np.ndarray:
        """Commands at each tick (..., (N − 1)·k, A), contract units, of candidates (..., T, A).

        ``previous`` (m, A) are the commands of the tick before them.
        """
        commands = self._spec.denormalise(np.repeat(candidates, self._step, axis=-2))
        if not self._clip:
            return commands
        return self._limits.project(commands, previous, RATED * self._limits.period)

    def _rest(self, previous: np.ndarray) -> np.ndarray:
        """Return the normalised command (A,) that keeps the robot at rest: hold or zero."""
        return self._spec.normalise(previous if self._holds else np.zeros(self._size))

    def _ask(
        self,
        policy: GoalPolicy,
        before: np.ndarray,
        begun: tuple[np.ndarray, ...],
        goal: np.ndarray,
        field: Field | None,
        rest: np.ndarray,
    ) -> np.ndarray:
        """Return the normalised commands (T, A) of a policy, continued by ``rest``.

        ``before`` (D,) is the latent one block earlier than the plan's free part. With a field, a
        goal farther than in training becomes the point that far along the path.
        """
        latents, past, first = begun
        if len(first):
            after = self._engine.rollout(latents, past, first[None])[0]
            latents = np.concatenate([latents, after])
        latent = latents[-1]
        if field is not None:
            goal = field.ahead(latent, policy.blocks * self._spec.block)
        commands = policy.commands(before, latent, goal)
        steps = np.repeat(commands, self._ticks // self._step, axis=0)[: len(rest)]
        commands = np.concatenate([steps, rest[len(steps) :]])
        return np.clip(commands, self._low, self._high)

    def _begin(self, context: Context, committed: np.ndarray) -> tuple[np.ndarray, ...]:
        """Return what candidates start from: latents, past blocks and committed block.

        The committed block is empty if it has been rolled out once for all candidates.
        """
        first = self._spec.normalise(committed).reshape(1, -1).astype(np.float32)
        past = self._spec.normalise_block(context.past).astype(np.float32)
        latents = np.asarray(context.latents, dtype=np.float32)
        if self._shares_first:
            after = self._engine.rollout(latents, past, first[None])[0]
            latents = np.concatenate([latents[1:], after])
            past = np.concatenate([past, first])[1:]
            first = first[:0]
        return latents, past, first

    def _remember(self, start: int, solution: Solution) -> None:
        tracks = np.concatenate([solution.mean[None], solution.elites])
        self._last = start, tracks.transpose(1, 0, 2)

    def _shifted(self, start: int, rest: np.ndarray) -> np.ndarray:
        """Return the last mean and elites from ``start`` [ns] on, (1 + E, T, A); empty if unusable.

        They are piecewise constant, so a shift in time averages them over the new steps. Beyond
        their end, positions are held and other commands are those of ``rest`` (T, A).
        """
        if self._last is None:
            return np.empty((0, *rest.shape))
        began, tracks = self._last
        steps, count, size = tracks.shape
        step = self._step * self._period
        if not began <= start < began + steps * step:
            return np.empty((0, *rest.shape))
        after = tracks[-1:] if self._holds else np.broadcast_to(rest[:1, None], (1, count, size))
        held = np.concatenate([tracks, after]).reshape(steps + 1, -1)
        stamps = began + step * np.arange(steps + 1)
        edges = start + step * np.arange(steps + 1)
        return held_average(stamps, held, edges).reshape(steps, count, size).transpose(1, 0, 2)
