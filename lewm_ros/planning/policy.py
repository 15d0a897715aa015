# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The planning agent: what it has seen, what it has planned, and when it plans again.

It keeps the history of the robot, its goal, and the time line of its own plans, which says what
will be executed while it thinks. A plan is due when the last one has been played for
``execute`` blocks, and at once after a new goal.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lewm_ros.control.playback import Playback
from lewm_ros.planning.goal import Goal
from lewm_ros.planning.receding_horizon import (
    Outlook,
    Plan,
    PlannerConfig,
    RecedingHorizonPlanner,
)
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.history import Context, History, block_edges
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.time import NS_PER_S

#: Time over which the command at a stamp is read [ns]; far shorter than a tick.
MOMENT = 1000
#: A command without an end holds at least so long [s].
LONG = 3600.0


@dataclass(frozen=True)
class PlanRequest:
    """Everything that one search needs, so that it can run on a thread of its own."""

    context: Context
    committed: np.ndarray  #: (k, A) commands over the first block, contract units
    previous: np.ndarray | None  #: (A,) the command at its start; None where there was none
    last: np.ndarray  #: (2, A) the commands at the start and at the end of its last tick
    goal: np.ndarray  #: (D,)
    config: PlannerConfig
    asked: int  #: when [ns]
    episode: int


class PlanningAgent:
    """Plans one robot's actions towards its goal, block after block.

    Append what comes to the history, call :meth:`observe` after each frame, then :meth:`plan`. A
    node whose search must not block its callbacks calls the parts of that: all but :meth:`search`
    under one lock, and that on another thread without it. ``steady`` is a clock [s]
    that never jumps.

    Args:
        spec: of the model.
        contract: the robot.
        planner: searches; made for the same model and robot.
        goal: what is pursued, so far nothing.

    Attributes:
        history: latents and executed commands. A node appends to it.
        goal: what is pursued, and how near the robot is.
        config: settings of the next search.
        planner: searches.

    """

    def __init__(
        self, spec: ModelSpec, contract: Contract, planner: RecedingHorizonPlanner, goal: Goal
    ) -> None:
        self.history = History.of_model(spec, contract.action)
        self.goal = goal
        self.config = planner.config
        self.planner = planner
        self._mean_action = np.array(spec.action_mean)
        self._hold = contract.stop.mode == 'hold'
        self._playback = Playback(contract.action.size, hold=self._hold)
        self._delay = round(contract.action.delay * NS_PER_S)
        self._block = self.history.block
        self._outlook: Outlook | None = None
        self._episode = 0
        self._searched = -1  # episode that the planner's memory belongs to
        self._asked: int | None = None  # stamp of the latent that a plan was last asked on

    def reset(self) -> None:
        """Forget frames, commands and plans (new episode, clock jump); the goal stays."""
        self.history.clear()
        self.goal.forget_frames()
        self._playback.clear()
        self._episode += 1
        self._asked = self._outlook = None

    @property
    def outlook(self) -> Outlook | None:
        """Of the newest plan to the goal pursued, by the roadmap; None without one of these."""
        return None if self.goal.pursued is None else self._outlook

    def set_goal(self, latent: np.ndarray, stamp: int, steady: float) -> bool:
        """Pursue a goal latent (D,) of ``stamp`` [ns]; False where it is the one pursued already.

        Then it has the new stamp and nothing else changes; else a plan is due at once.
        """
        goal = self.goal
        if goal.pursued is not None and np.array_equal(latent, goal.pursued):
            goal.stamp = stamp
            return False
        self._outlook = None
        goal.set(latent, stamp, steady)
        self._asked = None
        return True

    def observe(self, stamp: int, latent: np.ndarray, steady: float) -> bool:
        """Compare the newest latent (D,) of the history; whether the goal's state changed."""
        stamps, values = self.history.actions()
        if self._hold and (values == self._mean_action).all():
            # A holding robot is sent nothing before its first plan, and without any action
            # there would never be one: the model's mean action stands in, as often as needed.
            hold = round((self.history.hold or LONG) * NS_PER_S)
            for at in range(int(stamps[-1]) + hold if len(stamps) else stamp, stamp + 1, hold):
                self.history.append_action(at, self._mean_action)
        return self.goal.observe(stamp, latent, steady)

    def ask(self) -> bool:
        """Whether a plan is due on the newest frame; it counts as asked for then."""
        newest = self.history.newest
        if newest is None or self.goal.pursued is None:
            return False
        # Frames are a camera period apart: the one nearest to the due time counts.
        wait = self.config.execute * self._block - self.history.period // 2
        if self._asked is not None and newest < self._asked + wait:
            return False
        self._asked = newest
        return True

    def prepare(self, now: int) -> PlanRequest | None:
        """Gather what a search at ``now`` [ns] needs.

        None without a goal, a whole context, or the commands since its first frame; then a plan
        is due again at the next frame.
        """
        newest, goal = self.history.newest, self.goal.pursued
        context = None if newest is None else self.history.context(newest)
        self._asked = None
        if context is None:
            return None
        edges = block_edges(context.stamp, context.stamp + self._block, self.history.parts)
        # What is sent from now on takes effect after the delay; all before that is decided.
        decided = now + self._delay
        stamps, values = self.history.actions()
        committed = self._playback.expected(stamps, values, decided, edges)
        ends = np.stack([edges[-2:] - MOMENT, edges[-2:]], axis=1)
        last = self._playback.expected(stamps, values, decided, ends)
        before = int(np.searchsorted(stamps, context.stamp))
        previous = values[before - 1] if before else None
        self._playback.forget(context.stamp)
        if committed is None or last is None:
            return None
        self._asked = context.stamp
        if goal is None:
            return None
        return PlanRequest(
            context, committed, previous, last[:, 0], goal, self.config, now, self._episode
        )

    def search(self, request: PlanRequest, live: bool = True) -> Plan:
        """Plan; with ``live``, within the time that the settings allow from the frame on."""
        planner = self.planner
        if planner.config is not request.config:
            planner.adopt(request.config)
        if self._searched != request.episode:
            planner.reset()
            self._searched = request.episode
        budget = None
        if live:
            # The block begins with the frame: the time since it was taken is spent already.
            age = (request.asked - request.context.stamp) / NS_PER_S
            budget = max(planner.budget - age, 0.0)
        return planner.plan(
            request.context,
            request.committed,
            request.goal,
            budget,
            request.previous,
            request.last,
        )

    def commit(self, plan: Plan, request: PlanRequest, now: int, steady: float) -> bool:
        """Count on a plan being executed; False where it must not be played.

        It belongs to a past episode, nothing is pursued any more, or the clock was set back and
        it would be played long after.
        """
        if request.episode != self._episode or now < request.asked or self.goal.pursued is None:
            return False
        self._playback.add(plan.start, plan.period, plan.actions)
        if np.array_equal(request.goal, self.goal.pursued):
            self._outlook = plan.outlook
            if plan.outlook is not None:
                self.goal.foresee(plan.outlook.time_to_goal, steady)
        return True

    def plan(self, now: int, steady: float, live: bool = False) -> Plan | None:
        """Return a plan on the newest frame if one is due; arguments as of the parts [ns]."""
        request = self.prepare(now) if self.ask() else None
        if request is None:
            return None
        plan = self.search(request, live)
        return plan if self.commit(plan, request, now, steady) else None
