# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A policy that drives a simulated task, which waits for it, frame by frame as on a robot.

It is the same :class:`lewm_ros.Policy`, with goals from the task and without a clock. A plan is
available at once, but its free part still starts one block after the frame it is planned from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import time

import numpy as np

from lewm_ros.api import Policy, load_bundle
from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine, load_engine
from lewm_ros.planning import PlannerConfig
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import Task
from lewm_ros.time import NS_PER_S

#: Default time for a goal [s].
GOAL_SECONDS = 6.0


def any_goals(task: Task) -> tuple[Callable[[], np.ndarray], float]:
    """Return what draws any goal of a task, as its image, and the time for each [s]."""
    return lambda: task.set_goal(task.sample_goal(np.inf)), task.goal_seconds


class PlannerPolicy:
    """What :func:`lewm_ros.sim.collect.simulate` drives, around a :class:`lewm_ros.Policy`.

    Args:
        bundle: the model.
        contract: the robot.
        engine: runs the bundle.
        config: of the planner.
        task: the robot; it rests until there is a plan.
        new_goal: called at the start of an episode and then every ``goal_seconds``; returns a
            goal image (S, S, 3) uint8; by default that of the task.
        goal_seconds: [s].

    Attributes:
        forecasts: stamp [ns] and the roadmap's time to the goal [s] for each plan of the episode;
            empty without plans or a roadmap.
        camera_rate: of the frames that the model was trained on [Hz].
        plan_times: from a frame to its plan, encoding included [s], for each plan of all episodes.

    """

    def __init__(
        self,
        bundle: Bundle,
        contract: Contract,
        engine: Engine,
        config: PlannerConfig,
        task: Task,
        new_goal: Callable[[], np.ndarray] | None = None,
        goal_seconds: float = float('inf'),
    ) -> None:
        self.policy = Policy(bundle, contract, engine, config)
        self._reports = contract.action.executed is not None
        self._period = round(contract.period * NS_PER_S)
        self._rest, self._hold = task.rest, contract.stop.mode == 'hold'
        self._new_goal, self._goal_seconds = new_goal or task.goal_image, goal_seconds
        self.camera_rate = 1 / bundle.manifest.camera_period
        self.plan_times: list[float] = []
        self.reset()

    @classmethod
    def from_bundle(
        cls,
        name: str,
        task: Task,
        contract: Contract,
        seed: int,
    ) -> PlannerPolicy:
        """Drive ``task`` to any of its goals, with a new one each time the task's time is over."""
        bundle, _ = load_bundle(name)
        config = PlannerConfig(seed=seed)
        engine = load_engine(bundle, horizon=config.rollout_blocks(bundle.spec))
        return cls(bundle, contract, engine, config, task, *any_goals(task))

    def reset(self) -> None:
        """Begin an episode with an empty history; the next frame sets a goal."""
        self.policy.reset()
        self.policy.agent.goal.clear()
        self._goal_due = float('-inf')  # [ns]
        self.forecasts: list[tuple[int, float]] = []

    def resume(self, begin: int, held: np.ndarray, commands: np.ndarray, start: int) -> None:
        """Let the first plan begin at ``start`` [ns].

        Until then another source sends commands (n, A), from ``begin`` [ns] on, one per period;
        before, ``held`` (A,) is in effect.
        """
        agent = self.policy.agent
        self.follow(held, begin - self._period)
        self._goal_due = start - agent.history.block - agent.history.period // 2
        agent.expect(begin, self._period, commands)

    def follow(self, command: np.ndarray, stamp: int) -> None:
        """Record a command (A,) that another source sends at ``stamp`` [ns]."""
        self.policy.agent.history.append_action(stamp, command)

    def seed(self, seed: int) -> None:
        """Seed the search from the next reset on."""
        agent = self.policy.agent
        agent.config = replace(agent.config, seed=seed)

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """Process a frame, and plan if a plan is due."""
        if stamp >= self._goal_due:
            self.policy.aim(self._new_goal(), stamp)
            self._goal_due = stamp + self._goal_seconds * NS_PER_S
        if self._hold:
            self.policy.agent.pose = self._rest()
        began = time.perf_counter()
        plan = self.policy.observe(image, stamp)
        if plan is None:
            return
        self.plan_times.append(time.perf_counter() - began)
        if plan.outlook is not None:
            self.forecasts.append((stamp, plan.outlook.time_to_goal))

    def act(self, stamp: int) -> np.ndarray:
        """Return the command (A,) from ``stamp`` on."""
        command = self.policy.command(stamp)
        if command is None:  # nothing to hold yet
            command = self._rest()
            self.policy.executed(command, stamp)
            return command
        if self._reports:
            self.policy.executed(command, stamp)
        return command
