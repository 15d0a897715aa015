# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Planning agent: keeps history, goal and plans of a robot, and decides when to plan again.

The timeline of its own plans tells what will be executed while a search runs. A new plan is due
when the last one has been played for ``execute`` blocks, and immediately after a new goal.
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

#: Interval over which the command at a stamp is averaged [ns]; much shorter than a tick.
MOMENT = 1000
#: Hold time assumed for commands that are held until the next one [s].
LONG = 3600.0


@dataclass(frozen=True)
class PlanRequest:
    """Complete input of one search, so that the search can run in its own thread."""

    context: Context
    committed: np.ndarray  #: (k, A) commands over the first block, contract units
    previous: np.ndarray | None  #: (A,) command in effect at its start; None if there was none
    last: np.ndarray  #: (2, A) the commands at the start and at the end of its last tick
    goal: np.ndarray  #: (D,)
    config: PlannerConfig
    asked: int  #: time of the request [ns]
    episode: int


class PlanningAgent:
    """Plans one robot's actions towards its goal, block after block.

    Append latents and commands to the history as they arrive, call :meth:`observe` after each
    frame, then :meth:`plan`. A node whose callbacks must not block calls the parts of :meth:`plan`
    instead: :meth:`search` in another thread without a lock, all others under one lock.
    ``steady`` is the time of a clock that never jumps [s].

    Args:
        spec: of the model.
        contract: the robot.
        planner: runs the searches; made for the same model and robot.
        goal: tracks the goal; no goal is set yet.

    Attributes:
        history: latents and executed commands. A node appends to it.
        goal: the current goal, and the distance of the robot to it.
        config: settings of the next search.
        planner: runs the searches.
        pose: newest measured positions (A,), where they are known.

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
        self._delay = contract.action.delay_ns
        self._block = self.history.block
        self._outlook: Outlook | None = None
        self.pose: np.ndarray | None = None
        self._filled: int | None = None  # stamp of the last command that nobody sent [ns]
        self._episode = 0
        self._searched = -1  # episode that the planner's memory belongs to
        self._asked: int | None = None  # stamp of the latent of the last plan request

    def reset(self) -> None:
        """Forget frames, commands and plans (new episode, clock jump); the goal stays."""
        self.history.clear()
        self.goal.forget_frames()
        self._playback.clear()
        self._episode += 1
        self._asked = self._outlook = None

    @property
    def outlook(self) -> Outlook | None:
        """Roadmap outlook of the newest plan; None without a goal, a plan for it, or a roadmap."""
        return None if self.goal.pursued is None else self._outlook

    def set_goal(self, latent: np.ndarray, stamp: int, steady: float) -> bool:
        """Set a goal latent (D,) with its ``stamp`` [ns]; return False if it is the current goal.

        In that case only the stamp changes; otherwise a plan is due at once.
        """
        goal = self.goal
        if goal.pursued is not None and np.array_equal(latent, goal.pursued):
            goal.stamp = stamp
            return False
        self._outlook = None
        goal.set(latent, stamp, steady)
        self._asked = None
        return True

    def expect(self, start: int, period: int, commands: np.ndarray) -> None:
        """Count with commands (n, A) that another source sends from ``start`` [ns] on.

        Each is held for ``period`` [ns]. They last until they end, or a plan begins.
        """
        self._playback.add(start + self._delay, period, commands)

    def observe(self, stamp: int, latent: np.ndarray, steady: float) -> bool:
        """Compare the newest latent (D,) with the goal; return whether the state changed."""
        newest = self.history.newest_action
        if self._hold and newest in (None, self._filled):
            # A robot with stop mode hold gets no command before its first plan, and there is no
            # plan without past actions: the measured positions fill the gap, or the model's mean
            # action, repeated as needed.
            fill = self._mean_action if self.pose is None else self.pose
            hold = round((self.history.hold or LONG) * NS_PER_S)
            if self.pose is not None:
                hold = min(hold, self._block)
            for at in range(stamp if newest is None else newest + hold, stamp + 1, hold):
                self.history.append_action(at, fill)
            self._filled = self.history.newest_action
        return self.goal.observe(stamp, latent, steady)

    def ask(self) -> bool:
        """Return whether a plan is due on the newest frame; if so, it counts as requested."""
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

        Returns None without a goal, a complete context, or all commands since its first frame. A
        plan is then due again at the next frame.
        """
        newest, goal = self.history.newest, self.goal.pursued
        context = None if newest is None else self.history.context(newest)
        self._asked = None
        if context is None:
            return None
        edges = block_edges(context.stamp, context.stamp + self._block, self.history.parts)
        # A command sent now takes effect after the delay; everything before that is decided.
        decided = now + self._delay
        stamps, values = self.history.actions()
        committed = self._playback.expected(stamps, values, decided, edges)
        begin, end = edges[-2:]
        ends = np.array([[begin, begin + MOMENT], [end - MOMENT, end]])
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
        """Search for a plan; with ``live``, within the time budget, counted from the frame."""
        planner = self.planner
        if planner.config is not request.config:
            planner.adopt(request.config)
        if self._searched != request.episode:
            planner.reset()
            self._searched = request.episode
        budget = None
        if live:
            # The block begins with the frame: the time since it was taken is spent already. The
            # first command is due action.delay before it takes effect.
            age = (request.asked + self._delay - request.context.stamp) / NS_PER_S
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
        """Add a plan that will be executed to the timeline; return False if it must not be played.

        That is so if it belongs to a past episode, if there is no goal any more, or if the clock
        was set back and the plan would be played much too late.
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
        """Plan on the newest frame if a plan is due; ``now`` is in [ns], ``steady`` in [s]."""
        request = self.prepare(now) if self.ask() else None
        if request is None:
            return None
        plan = self.search(request, live)
        return plan if self.commit(plan, request, now, steady) else None
