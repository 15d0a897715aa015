# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""controller_node: plays stamped plans by time and is the only publisher of commands.

The command stream depends on nothing but this node: whatever planner, encoder or camera do,
a command leaves at every control tick, and it is the stop command unless a valid plan covers
the tick and the camera is alive. What an open anomaly does to the commands is the parameter
``on_anomaly``.
"""

from __future__ import annotations

from collections import deque
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.duration import Duration
from sensor_msgs.msg import Image
from std_msgs.msg import UInt32
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.errors import ContractError, ObservationError
from lewm_ros.history import NANOSECOND
from lewm_ros.nodes.anomalies import EVENTS, OpenAnomalies
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM, LewmNode
from lewm_ros.nodes.compose import main_of
from lewm_ros.nodes.diagnostics import Reasons
from lewm_ros.nodes.messages import action_message, message_class, read_plan
from lewm_ros.nodes.parameters import Parameter
from lewm_ros.planning.playback import Playback
from lewm_ros.safety import Limits, Watchdog

#: A plan that starts later than this [s] plus its own length comes from another clock.
_FAR_AHEAD = 5.0
#: How long the last command may take to be delivered [s].
_LAST_WORDS = 0.2
#: How often somebody is looked for who publishes anomalies [s].
_LOOK = 3.0


class ControllerNode(LewmNode):
    """Plays plans at the control rate, within the limits, and stops when in doubt."""

    PARAMETERS = (
        Parameter(
            'on_anomaly',
            'ignore',
            'What an open event on the topic anomaly does to the commands: nothing, scale them '
            'by slow_factor, or replace them by the stop command until it has ended.',
            choices=('ignore', 'slow', 'stop'),
        ),
        Parameter('slow_factor', 0.5, 'Of velocities and efforts while slow.', 0.0, 1.0),
    )

    def configure(self) -> None:
        """Read the contract and create the one command publisher."""
        self._contract = self.load_contract()
        self._action = self._contract.action
        self._period = round(self._contract.period * NANOSECOND)
        self._delay = round(self._action.delay * NANOSECOND)
        if self.params['on_anomaly'] == 'slow' and self._action.kind == 'position':
            raise ContractError(
                "on_anomaly is 'slow', but action.kind is 'position': a part of a position is "
                "another position, not a slower one; expected 'stop' or 'ignore'"
            )
        try:
            action_message(np.zeros(self._action.size), self._action, 0)
        except (AttributeError, IndexError, TypeError) as error:
            raise ContractError(
                f'action.fields {list(self._action.fields)} do not fit {self._action.type}: {error}'
            ) from error
        self._command = self.publisher(message_class(self._action.type), self._action.topic, NEWEST)

    def activate(self) -> None:
        """Start the stream of commands."""
        self._playback = Playback(self._action.size)
        self._limits = Limits(self._action)
        self._watchdog = Watchdog(self._contract.stop.observation_timeout)
        self._last: np.ndarray | None = None
        self._episode: int | None = None
        self._state = 'idle'
        self._refused = Reasons()
        self._ticks = self._on_time = self._stale_stops = self._plan_ends = 0
        self._published: deque[float] = deque(maxlen=100)
        self._slot = 0  # the timer first fires one period after its start
        self.subscribe(JointTrajectory, 'plan', self._on_plan, NEWEST)
        self.subscribe(Image, 'latent', self._on_latent, STREAM)
        self.subscribe(UInt32, 'episode', self._on_episode, LATCHED)
        self._anomalies = OpenAnomalies()
        self._anomaly_ticks = 0
        if self.params['on_anomaly'] != 'ignore':
            self.subscribe(DiagnosticArray, 'anomaly', self._on_anomaly, EVENTS)
            self.every(_LOOK, self._look)
        self._start = time.monotonic()
        self.every(self._contract.period, self._tick)

    def deactivate(self) -> None:
        """Publish one stop command, whatever was playing, and wait until it is delivered."""
        stop = self._stop_command()
        if stop is None:
            return
        # No max_step here: there is no later tick on which a ramp could go on.
        self._publish(np.clip(stop, *self._action.bounds))
        if self._command.get_subscription_count():
            self._command.wait_for_all_acked(Duration(seconds=_LAST_WORDS))

    def report(self) -> dict[str, Any]:
        """Figures of the command stream."""
        times = list(self._published)
        rate = (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0.0
        return {
            'ticks': self._ticks,
            'ticks_on_time': self._on_time,
            'rate_hz': rate,
            'state': self._state,
            'stale_stops': self._stale_stops,
            'plan_ends': self._plan_ends,
            'on_anomaly': self.params['on_anomaly'],
            'anomaly_ticks': self._anomaly_ticks,
            'clipped': self._limits.clipped,
            'refused_plans': self._refused.total,
            **self._refused.figures('refused'),
        }

    def _on_plan(self, message: JointTrajectory, received: int) -> None:
        try:
            start, period, commands = read_plan(message, self._action, self._period)
            now, length = self.now(), period * len(commands)
            if start + length <= now:
                raise ObservationError(
                    'plan lies wholly in the past: the planner is too slow, or clocks differ'
                )
            if start - now > _FAR_AHEAD * NANOSECOND + length:
                raise ObservationError('plan starts far in the future: clocks differ')
        except ObservationError as error:
            self._refused.add(str(error))
            self.conditions.set('refused', f'refused: {error}')
            return
        self.conditions.set('refused', None)
        self._playback.add(start, period, commands)

    def _on_latent(self, message: Image, received: int) -> None:
        self._watchdog.feed(time.monotonic())
        self.conditions.set('stale', None)

    def _on_episode(self, message: UInt32, received: int) -> None:
        if self._episode not in (None, message.data):
            self._playback.clear()
            self._state = 'idle'
        self._episode = message.data

    def _on_anomaly(self, message: DiagnosticArray, received: int) -> None:
        self._anomalies.take(message)
        text = None
        if self._anomalies:
            done = 'stopped' if self.params['on_anomaly'] == 'stop' else 'slowed down'
            text = f'{self._anomalies}: {done} until it has ended'
        self.conditions.set('anomaly', text)

    def _look(self) -> None:
        """Say where nobody would tell of an anomaly, or of its end."""
        topic = self.resolve_topic_name('anomaly')
        text = None
        if not self.count_publishers(topic):
            text = f"nobody publishes {topic}: on_anomaly '{self.params['on_anomaly']}' is blind"
            if self._anomalies:
                text = (
                    f'nobody publishes {topic} any more, and {self._anomalies} is open: it stays '
                    'so until a surprise_node starts again'
                )
        self.conditions.set('no anomalies', text)

    def _tick(self) -> None:
        steady = time.monotonic()
        effect = self.now() + self._delay  # a plan says when commands work, not when they leave
        command = self._playback.command(effect, self._period)
        self._playback.forget(effect)
        if command is not None and self._watchdog.stale(steady):
            self._stale_stop(self._watchdog.age(steady))
            command = None
        elif command is not None:
            self._state = 'playing'
            self.conditions.set('ended', None)
        elif self._state in ('playing', 'anomaly'):
            self._state = 'idle'
            self._plan_ends += 1
            self.conditions.set('ended', 'the plan ended and no newer one came: stopped')
        if self._anomalies:
            self._anomaly_ticks += 1
            if command is not None:
                command = self._held_back(command)
        self._send(self._stop_command() if command is None else command)
        self._count(steady)

    def _held_back(self, command: np.ndarray) -> np.ndarray | None:
        """Return what an open anomaly leaves of a command (A,)."""
        self._state = 'anomaly'
        if self.params['on_anomaly'] == 'stop':
            return None
        return self.params['slow_factor'] * command  # towards zero, the stop of these kinds

    def _stale_stop(self, age: float) -> None:
        """Drop the plan: when the camera is back, only a new plan may move the robot."""
        self._playback.clear()
        self._stale_stops += 1
        self._state = 'stale'
        seen = 'no latent yet' if np.isinf(age) else f'no latent for {age:.2f} s'
        self.conditions.set(
            'stale',
            f'{seen} on {self.resolve_topic_name("latent")}: stopped '
            f'(stop.observation_timeout {self._watchdog.timeout} s)',
        )

    def _stop_command(self) -> np.ndarray | None:
        if self._contract.stop.mode == 'hold':
            return self._last
        return np.zeros(self._action.size)

    def _send(self, command: np.ndarray | None) -> None:
        """Limit and publish a command (A,); None, the hold of nothing, is not sent."""
        if command is None:
            return
        limited = self._limits.apply(command, self._last)
        if limited is None:  # not finite: the one thing to do is to stop
            limited = self._stop_command()
        if limited is not None:
            self._publish(limited)

    def _publish(self, command: np.ndarray) -> None:
        self._last = command
        stamp = self.now() + self._delay
        self._command.publish(action_message(command, self._action, stamp, self._period))

    def _count(self, began: float) -> None:
        """Count ticks by the schedule: one that was never served counts as not on time."""
        period = self._contract.period
        slot = int((began - self._start) / period)
        self._ticks += max(slot - self._slot, 0)
        self._slot = max(slot, self._slot)
        now = time.monotonic()
        self._published.append(now)
        self._on_time += now - (self._start + slot * period) <= period / 2


def main() -> int:
    """Run the node as a program."""
    return main_of('controller_node')
