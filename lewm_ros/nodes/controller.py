# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""controller_node: the only publisher of commands, one at every control tick.

The command stream depends on nothing but this node: it is a
:class:`~lewm_ros.control.loop.CommandLoop`, fed with plans, frames, reports and open anomalies.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.duration import Duration
from sensor_msgs.msg import Image
from std_msgs.msg import UInt32
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.control.loop import CommandLoop, Reaction
from lewm_ros.errors import ConfigError, ObservationError
from lewm_ros.nodes.anomalies import EVENTS, OpenAnomalies
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM, LewmNode
from lewm_ros.nodes.figures import Rate, Reasons
from lewm_ros.nodes.messages import action_message, message_class, read_action, read_plan, stamp_of
from lewm_ros.nodes.parameters import parameters_of
from lewm_ros.robot.fields import JointOrder
from lewm_ros.robot.settings import from_values
from lewm_ros.time import NS_PER_S

#: How long the stop command at the end may take to be delivered [s].
DELIVERY_TIMEOUT = 0.2
#: How often the publishers of required topics are checked [s].
CHECK_PERIOD = 1.0
#: Share of commands beyond the limits above which a warning names the planner.
MOST_EXCEEDED = 0.1
#: How long other nodes may take to start before they count as missing [s].
START_TIMEOUT = 5.0


class ControllerNode(LewmNode):
    """Executes plans at the control rate, within the limits; stops if a plan must not run."""

    PARAMETERS = parameters_of(Reaction)

    def configure(self) -> None:
        """Read the contract and create the one command publisher."""
        self._contract = self.load_contract()
        self._action = self._contract.action
        self._period = round(self._contract.period * NS_PER_S)
        for text in self._contract.remarks():
            self.get_logger().warning(text)
        self.check(self.params)
        try:
            action_message(np.zeros(self._action.size), self._action, 0)
        except (AttributeError, IndexError, TypeError) as error:
            raise ConfigError(
                f'action.fields {list(self._action.fields)} do not fit {self._action.type}: {error}'
            ) from error
        self._command = self.publisher(
            message_class(self._action.type),
            self._action.topic,
            NEWEST,
            alone='end all but one, or put a multiplexer such as twist_mux in between',
            heard='start the driver of the robot, or correct action.topic in the contract',
        )

    def activate(self) -> None:
        """Start the stream of commands."""
        self._loop = CommandLoop(self._contract, from_values(Reaction, self.params))
        self._episode: int | None = None
        self._refused = Reasons()
        self._ticks = self._on_time = 0
        self._played = self._exceeded = 0  # as of the last check
        self._rate = Rate()
        self._slot = 0  # the timer first fires one period after its start
        self._anomalies = OpenAnomalies()
        self._seen: set[str] = set()  # topics that have had a publisher
        self.subscribe(JointTrajectory, 'plan', self._on_plan, NEWEST)
        self.subscribe(Image, 'latent', self._on_latent, STREAM)
        self.subscribe(UInt32, 'episode', self._on_episode, LATCHED)
        self.subscribe(DiagnosticArray, 'anomaly', self._on_anomaly, EVENTS)
        # What each watchdog listens to, for its warning.
        self._where = {'stale': f' on {self.resolve_topic_name("latent")}', 'clock': ''}
        executed = self._action.executed
        if executed is not None:
            kind = message_class(executed.type)
            self._order = JointOrder(executed.fields)
            self.subscribe(kind, executed.topic, self._on_executed, STREAM)
            self._where['executed'] = f' on {self.resolve_topic_name(executed.topic)}'
        self.subscribe_to_pose(self._contract, self._on_pose)
        self._start = monotonic()
        self.every(CHECK_PERIOD, self._check_publishers)
        self.every(self._contract.period, self._tick)

    def check(self, values: dict[str, Any]) -> None:
        """Refuse the anomaly reaction that slows down, for position commands."""
        from_values(Reaction, values).check(self._action)

    def changed(self) -> None:
        """Apply the new reaction to an open anomaly at once."""
        self._loop.react(from_values(Reaction, self.params))
        self._report_anomaly()
        self._check_publishers()

    def deactivate(self) -> None:
        """Publish one stop command, whatever was playing, and wait until it is delivered."""
        stop = self._loop.stop()
        if stop is None:
            return
        self._publish(stop)
        if self._command.get_subscription_count():
            self._command.wait_for_all_acked(Duration(seconds=DELIVERY_TIMEOUT))

    def report(self) -> dict[str, Any]:
        """Figures of the command stream."""
        now, loop = monotonic(), self._loop
        clipped = zip(self._action.names, loop.limits.clipped_by)
        return {
            'ticks': self._ticks,
            'ticks_on_time': self._on_time,
            'rate_hz': self._rate.hz,
            'state': loop.state,
            'plan_age': now - loop.planned,
            'frame_age': loop.camera.age(now),
            **{f'{key}_stops': loop.stops[key] for key in ('stale', 'clock', 'executed')},
            'plan_ends': loop.plan_ends,
            'on_anomaly': self.params['on_anomaly'],
            'anomaly_ticks': loop.anomaly_ticks,
            'clipped': loop.limits.clipped,
            **{f'clipped: {name}': int(count) for name, count in clipped if count},
            'exceeded': loop.exceeded,
            'rejected': loop.limits.rejected,
            'refused_plans': self._refused.total,
            **self._refused.figures('refused'),
        }

    def _on_plan(self, message: JointTrajectory, received: int) -> None:
        try:
            plan = read_plan(message, self._action, self._period)
            self._loop.add_plan(*plan, self.now(), monotonic())
        except ObservationError as error:
            self._refused.add(str(error))
            self.conditions.set('refused', f'refused: {error}')
            return
        self.conditions.set('refused', None)

    def _on_latent(self, message: Image, received: int) -> None:
        ahead = self._loop.observe(stamp_of(message), self.now(), monotonic())
        self.conditions.set(
            'ahead',
            None
            if ahead is None
            else f'latents{self._where["stale"]} are stamped {ahead:.2f} s ahead of this clock: '
            'they do not count as observations',
        )

    def _on_executed(self, message: Any, received: int) -> None:
        _, values = read_action(message, self._action, received, self._order)
        self._loop.executed(values, monotonic())

    def _on_pose(self, pose: np.ndarray) -> None:
        self._loop.executed(pose, monotonic())

    def _on_episode(self, message: UInt32, received: int) -> None:
        if self._episode not in (None, message.data):
            self._loop.drop_plans()
        self._episode = message.data

    def _on_anomaly(self, message: DiagnosticArray, received: int) -> None:
        self._anomalies.take(message)
        self._report_anomaly()

    def _report_anomaly(self) -> None:
        text = None
        if self._anomalies and self.params['on_anomaly'] != 'ignore':
            done = 'stopped' if self.params['on_anomaly'] == 'stop' else 'slowed down'
            text = f'{self._anomalies}: {done} until it has ended'
        self.conditions.set('anomaly', text)

    def _check_publishers(self) -> None:
        """Warn about topics that move or stop the robot and have no publisher."""
        self.conditions.set('no plans', self._missing('plan', 'is planner_node running?'))
        self.conditions.set('no latents', self._missing('latent', 'is encoder_node running?'))
        text, reaction = None, self.params['on_anomaly']
        if reaction != 'ignore':
            blind = f"on_anomaly '{reaction}' cannot react"
            text = self._missing('anomaly', blind)
            name = self.resolve_topic_name('anomaly')
            self._anomalies.watched &= self.count_publishers(name) > 0
            if text is None and not self._anomalies.watched and self._others_started():
                text = f'surprise_node is not active, or not calibrated: {blind}'
        if text is not None and self._anomalies:
            text += f'; open until a surprise_node watches again: {self._anomalies}'
        self.conditions.set('no anomalies', text)
        self._check_limits()

    def _check_limits(self) -> None:
        """Warn about a planner whose commands exceed the limits."""
        played, exceeded = self._loop.played - self._played, self._loop.exceeded - self._exceeded
        self._played, self._exceeded = self._loop.played, self._loop.exceeded
        text = None
        if exceeded > MOST_EXCEEDED * played:
            publishers = self.get_publishers_info_by_topic(self.resolve_topic_name('plan'))
            names = ', '.join(sorted(info.node_name for info in publishers)) or 'a planner'
            text = (
                f'{exceeded} of the last {played} commands of {names} were beyond the limits of '
                'the contract'
            )
        self.conditions.set('exceeded', text)

    def _missing(self, name: str, remark: str) -> str | None:
        """Return a text if a topic lost its publisher, or has none after the start-up time."""
        topic = self.resolve_topic_name(name)
        if self.count_publishers(topic):
            self._seen.add(topic)
            return None
        if topic not in self._seen and not self._others_started():
            return None
        return f'nobody publishes {topic}: {remark}'

    def _others_started(self) -> bool:
        """Whether the start-up time of the other nodes is over."""
        return monotonic() - self._start >= START_TIMEOUT

    def _tick(self) -> None:
        began, loop = monotonic(), self._loop
        command = loop.tick(self.now(), began, bool(self._anomalies))
        if command is not None:
            self._publish(command)
        for key, where in self._where.items():
            text = loop.warnings.get(key)
            timeout = f'stop.observation_timeout {loop.camera.timeout:g} s'
            self.conditions.set(key, text and f'{text}{where}: stopped ({timeout})')
        ended = 'the plan ended and no newer one came: stopped'
        self.conditions.set('ended', ended if loop.ended else None)
        self._count(began)

    def _publish(self, command: np.ndarray) -> None:
        stamp = self.now() + self._loop.delay
        self._command.publish(action_message(command, self._action, stamp, self._period))

    def _count(self, began: float) -> None:
        """Count ticks by the schedule: a missed tick counts as not on time."""
        period = self._contract.period
        slot = int((began - self._start) / period)
        self._ticks += max(slot - self._slot, 0)
        self._slot = max(slot, self._slot)
        self._rate.add()
        self._on_time += monotonic() - (self._start + slot * period) <= period / 2
