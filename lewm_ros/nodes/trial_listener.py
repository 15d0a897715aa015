# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Subscriptions of trial_node to the robot, the simulator and the other nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Header
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.errors import ConfigError
from lewm_ros.evaluation.report import GoalResult, Teleport, TrialRecord
from lewm_ros.nodes.anomalies import EVENTS, OpenAnomalies
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM, LewmNode
from lewm_ros.nodes.diagnostics import values_of
from lewm_ros.nodes.goals import time_to_goal
from lewm_ros.nodes.messages import message_class, stamp_of, to_ns
from lewm_ros.robot.fields import read_fields
from lewm_ros.robot.imaging import from_message
from lewm_ros.sim import Task, find_task
from lewm_ros.time import NS_PER_S

#: Time within which a teleport must raise an event [s].
EVENT_TIMEOUT = 0.5


class TrialListener(LewmNode):
    """Fills the record of a trial from the topics.

    Attributes:
        record: of the trial.

    """

    _judge: Any = None  # a lewm_ros.sim.task.Judge

    def configure(self) -> None:
        """Read the contract; a trial judges a simulated task by its true state."""
        bundle, self._contract = self.load_bundle()
        state = self._contract.state
        if state is None:
            raise ConfigError(
                f'contract {self._contract.name} has no state: a trial needs it to judge success'
            )
        self._state = state
        self._task = find_task(self.params['task'])
        self._judge = self._task.judge()
        self._block = round(bundle.block * NS_PER_S)

    def cleanup(self) -> None:
        """Close the environment that judges, where the task is one."""
        if isinstance(self._judge, Task):
            self._judge.close()
        self._judge = None

    def activate(self) -> None:
        """Listen to everything."""
        self.record = TrialRecord(self._task.name, self._task.unit)
        self._start = self.now()
        self._pose = np.empty(0)  # until the first state arrives
        self._goal: np.ndarray | None = None
        self._goal_image: np.ndarray | None = None
        self._filming = self._planner_drives = False
        self._time_to_goal = float('nan')  # by the roadmap [s]
        self._reached_at: int | None = None
        self._events: list[tuple[int, int]] = []  # (received, frame stamp) of opened events
        self._anomalies = OpenAnomalies()
        self._perturbed: list[int] = []
        self._figures: dict[str, dict[str, str]] = {}
        kind = message_class(self._state.type)
        self.subscribe(kind, self._state.topic, self._on_state, STREAM)
        self.subscribe(Image, self._contract.camera.topic, self._on_image, STREAM)
        self.subscribe(Image, 'goal_image', self._on_goal_image, LATCHED)
        self.subscribe(DiagnosticArray, 'goal_status', self._on_goal_status, LATCHED)
        self.subscribe(Float32, 'surprise', self._on_surprise, STREAM)
        self.subscribe(Float32, 'surprise/threshold', self._on_threshold, LATCHED)
        self.subscribe(DiagnosticArray, 'anomaly', self._on_anomaly, EVENTS)
        self.subscribe(JointTrajectory, 'plan', self._on_plan, NEWEST)
        self.subscribe(Header, 'sim/perturbed', self._on_perturbed, STREAM)
        self.subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, STREAM)

    def counters(self) -> dict[str, int]:
        """Counts of ticks and late plans, as the nodes report them."""
        controller = self._figures.get('controller_node', {})
        planner = self._figures.get('planner_node', {})
        return {
            'ticks': int(controller.get('ticks', 0)),
            'ticks_on_time': int(controller.get('ticks_on_time', 0)),
            'late_plans': int(planner.get('late_plans', 0)),
        }

    def missing(self) -> str | None:
        """What is still missing before the trial can begin."""
        if self._pose.size == 0:
            return f'no state on {self._state.topic}'
        # No surprise score is needed: a holding robot has none until it has been sent a command.
        if not int(self._figures.get('encoder_node', {}).get('encoded', 0)):
            return 'no frame has been encoded: is the encoder running?'
        for node in ('planner_node', 'controller_node', 'surprise_node'):
            if self._figures.get(node, {}).get('lifecycle') != 'active':
                return f'{node} is not active'
        return None

    def judge_teleport(self, stamp: int) -> Teleport:
        """Compare scores and events before and after the teleport at ``stamp`` [ns]."""
        at = (stamp - self._start) / NS_PER_S
        scores = self.record.surprise
        before = [s for t, s in scores if at - 1 <= t < at]
        after = [s for t, s in scores if at <= t < at + 1]
        delays = [
            (received - stamp) / 1e6
            for received, frame in self._events
            if frame >= stamp and received - stamp <= EVENT_TIMEOUT * NS_PER_S
        ]
        return Teleport(
            at, max(before, default=0.0), max(after, default=0.0), min(delays, default=None)
        )

    def wait(self, seconds: float) -> Iterator[None]:
        """Wait for some time [s]."""
        until = self.now() + round(seconds * NS_PER_S)
        while self.now() < until:
            yield

    def until(self, missing: Callable[[], str | None], timeout: float) -> Iterator[None]:
        """Wait until nothing is missing. Raises ConfigError saying what was, at the end."""
        until = time.monotonic() + timeout  # not the node's time, which may stand still
        while (lack := missing()) is not None:
            if time.monotonic() > until:
                raise ConfigError(f'gave up after {timeout:g} s: {lack}')
            yield

    def print_result(self, what: str, number: int, count: int, result: GoalResult) -> None:
        """Print the result of one of ``count`` goals."""
        shown = f'reached after {result.seconds:.1f} s' if result.reached else 'missed'
        print(
            f'{what} {number + 1}/{count}: {shown}, '
            f'final error {result.final_error:.3f} {self.record.unit}',
            flush=True,
        )

    def _on_state(self, message: Any, received: int) -> None:
        state = read_fields(message, self._state.fields)
        self._pose = self._task.goal_of(state)
        if self._goal is None or self._reached_at is not None:
            return
        if self._judge.achieves(self._pose, self._goal):
            self._reached_at = received

    def _on_image(self, message: Image, received: int) -> None:
        if self._filming:
            shot = stamp_of(message), from_message(message), self._time_to_goal
            self.record.film.append(shot)

    def _on_goal_image(self, message: Image, received: int) -> None:
        self._goal_image = from_message(message)

    def _on_goal_status(self, message: DiagnosticArray, received: int) -> None:
        self._time_to_goal = time_to_goal(message)

    def _on_surprise(self, message: Float32, received: int) -> None:
        self.record.surprise.append(((received - self._start) / NS_PER_S, message.data))

    def _on_threshold(self, message: Float32, received: int) -> None:
        self.record.threshold = float(message.data)

    def _on_anomaly(self, message: DiagnosticArray, received: int) -> None:
        for values in self._anomalies.take(message):
            if values['kind'] == 'surprise':
                self._events.append((received, stamp_of(message)))

    def _on_plan(self, message: JointTrajectory, received: int) -> None:
        if self._planner_drives:
            age = (received - stamp_of(message) + self._block) / 1e6
            self.record.plans.append(((received - self._start) / NS_PER_S, age))

    def _on_perturbed(self, message: Header, received: int) -> None:
        self._perturbed.append(to_ns(message.stamp))

    def _on_diagnostics(self, message: DiagnosticArray, received: int) -> None:
        for status in message.status:
            namespace, _, node = f'/{status.name}'.rpartition('/')
            if (namespace or '/') != self.get_namespace():
                continue  # of another robot
            self._figures[node] = values_of(status)
            if node == 'planner_node' and self._planner_drives:
                at = (received - self._start) / NS_PER_S
                self.record.plan_ms.append((at, float(self._figures[node]['plan_ms_last'])))
