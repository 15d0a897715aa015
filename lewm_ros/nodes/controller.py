# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""controller_node: plays stamped plans by time and is the only publisher of commands.

The command stream depends on nothing but this node: whatever planner, encoder or camera do,
a command leaves at every control tick, and it is the stop command unless a valid plan covers
the tick and no watchdog of ``safety.py`` speaks: the camera is alive, the clock goes on, and the
robot executes what is sent. While one speaks every plan is dropped, so that only a newer one can
move the robot again. What an open anomaly does to the commands is the parameter ``on_anomaly``.
"""

from __future__ import annotations

from collections import Counter
from time import monotonic
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.duration import Duration
from sensor_msgs.msg import Image
from std_msgs.msg import UInt32
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.bringup.compose import main_of
from lewm_ros.control.limits import Limits
from lewm_ros.control.playback import Playback
from lewm_ros.control.watchdogs import CameraWatchdog, ClockWatchdog, ExecutionWatchdog
from lewm_ros.errors import ContractError, ObservationError
from lewm_ros.nodes.anomalies import EVENTS, OpenAnomalies
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM, LewmNode
from lewm_ros.nodes.diagnostics import Rate, Reasons
from lewm_ros.nodes.messages import (
    action_message,
    message_class,
    read_action,
    read_plan,
    stamp_of,
)
from lewm_ros.nodes.parameters import Parameter, dynamic
from lewm_ros.time import NS_PER_S

#: How long the last command may take to be delivered [s].
_LAST_WORDS = 0.2
#: How often it is looked who publishes what this node lives on [s].
_LOOK = 1.0
#: How long the others may take to start before it is said that they are missing [s].
_PATIENCE = 5.0


class ControllerNode(LewmNode):
    """Plays plans at the control rate, within the limits, and stops when in doubt."""

    PARAMETERS = dynamic(
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
        self._period = round(self._contract.period * NS_PER_S)
        self._delay = round(self._action.delay * NS_PER_S)
        self.check(self.params)
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
        self._limits = Limits(self._action, self._contract.period)
        timeout = self._contract.stop.observation_timeout
        self._camera = CameraWatchdog(timeout)
        self._clock_watchdog = ClockWatchdog(timeout, self._contract.period)
        self._execution = ExecutionWatchdog(self._action, timeout)
        self._doubts: set[str] = set()  # of the watchdogs that stopped something and still speak
        self._stops: Counter[str] = Counter()
        # The robot stands, as far as is known; of positions nothing is.
        hold = self._contract.stop.mode == 'hold'
        self._last = None if hold else np.zeros(self._action.size)
        self._sent = 0.0  # when [s, steady]
        self._planned = float('nan')  # when the newest plan came [s, steady]
        self._episode: int | None = None
        self._state = 'idle'
        self._refused = Reasons()
        self._ticks = self._on_time = self._plan_ends = self._anomaly_ticks = 0
        self._rate = Rate()
        self._slot = 0  # the timer first fires one period after its start
        self._anomalies = OpenAnomalies()
        self._seen: set[str] = set()  # topics that somebody published
        self.subscribe(JointTrajectory, 'plan', self._on_plan, NEWEST)
        self.subscribe(Image, 'latent', self._on_latent, STREAM)
        self.subscribe(UInt32, 'episode', self._on_episode, LATCHED)
        self.subscribe(DiagnosticArray, 'anomaly', self._on_anomaly, EVENTS)
        self._where = {'stale': f' on {self.resolve_topic_name("latent")}', 'clock': ''}
        executed = self._action.executed
        if executed is not None:
            kind = message_class(executed.type)
            self.subscribe(kind, executed.topic, self._on_executed, STREAM)
            self._where['executed'] = f' on {self.resolve_topic_name(executed.topic)}'
        self._start = monotonic()
        self.every(_LOOK, self._look)
        self.every(self._contract.period, self._tick)

    def check(self, values: dict[str, Any]) -> None:
        """Refuse to slow positions down."""
        if values['on_anomaly'] == 'slow' and self._action.kind == 'position':
            raise ContractError(
                "on_anomaly is 'slow', but action.kind is 'position': a part of a position is "
                "another position, not a slower one; expected 'stop' or 'ignore'"
            )

    def changed(self) -> None:
        """Say at once what an open anomaly does from now on."""
        self._say_anomaly()
        self._look()

    def deactivate(self) -> None:
        """Publish one stop command, whatever was playing, and wait until it is delivered."""
        stop = self._stop_command()
        if stop is None:
            return
        # No limits of change here: there is no later tick on which a ramp could go on.
        self._publish(np.clip(stop, *self._action.bounds))
        if self._command.get_subscription_count():
            self._command.wait_for_all_acked(Duration(seconds=_LAST_WORDS))

    def report(self) -> dict[str, Any]:
        """Figures of the command stream."""
        now, limits = monotonic(), self._limits
        clipped = zip(self._action.names, limits.clipped_by)
        return {
            'ticks': self._ticks,
            'ticks_on_time': self._on_time,
            'rate_hz': self._rate.hz,
            'state': self._state,
            'plan_age': now - self._planned,
            'frame_age': self._camera.age(now),
            'stale_stops': self._stops['stale'],
            'clock_stops': self._stops['clock'],
            'executed_stops': self._stops['executed'],
            'plan_ends': self._plan_ends,
            'on_anomaly': self.params['on_anomaly'],
            'anomaly_ticks': self._anomaly_ticks,
            'clipped': limits.clipped,
            **{f'clipped: {name}': int(count) for name, count in clipped if count},
            'rejected': limits.rejected,
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
            # It starts a block after its frame, which may be ahead by the timeout, and has blocks.
            if start - now > length + round(self._camera.timeout * NS_PER_S):
                raise ObservationError(
                    f'plan of {length / NS_PER_S:g} s starts {(start - now) / NS_PER_S:.2f} s '
                    'ahead: clocks differ'
                )
        except ObservationError as error:
            self._refused.add(str(error))
            self.conditions.set('refused', f'refused: {error}')
            return
        self.conditions.set('refused', None)
        self._planned = monotonic()
        self._playback.add(start, period, commands)

    def _on_latent(self, message: Image, received: int) -> None:
        # Of a clock that is ahead every plan would be played late by as much.
        ahead, text = (stamp_of(message) - self.now()) / NS_PER_S, None
        if ahead > self._camera.timeout:
            text = (
                f'latents{self._where["stale"]} are stamped {ahead:.2f} s ahead of this clock: '
                'not counted as seen'
            )
        else:
            self._camera.feed(monotonic())
        self.conditions.set('ahead', text)

    def _on_executed(self, message: Any, received: int) -> None:
        _, values = read_action(message, self._action, received)
        self._execution.reported(monotonic(), values)

    def _on_episode(self, message: UInt32, received: int) -> None:
        if self._episode not in (None, message.data):
            self._playback.clear()
            self._state = 'idle'
        self._episode = message.data

    def _on_anomaly(self, message: DiagnosticArray, received: int) -> None:
        self._anomalies.take(message)
        self._say_anomaly()

    def _say_anomaly(self) -> None:
        text = None
        if self._anomalies and self.params['on_anomaly'] != 'ignore':
            done = 'stopped' if self.params['on_anomaly'] == 'stop' else 'slowed down'
            text = f'{self._anomalies}: {done} until it has ended'
        self.conditions.set('anomaly', text)

    def _look(self) -> None:
        """Say which of the topics that move or stop the robot nobody publishes."""
        self.conditions.set('no plans', self._missing('plan', 'is planner_node running?'))
        self.conditions.set('no latents', self._missing('latent', 'is encoder_node running?'))
        others = self.count_publishers(self._command.topic_name) - 1
        self.conditions.set(
            'others',
            f'somebody else publishes commands on {self._command.topic_name} ({others})'
            if others
            else None,
        )
        text, reaction = None, self.params['on_anomaly']
        if reaction != 'ignore':
            blind = f"on_anomaly '{reaction}' is blind"
            text = self._missing('anomaly', blind)
            self._anomalies.watched &= self.count_publishers('anomaly') > 0
            if text is None and not self._anomalies.watched and self._patient():
                text = f'surprise_node is not active: {blind}'
        if text is not None and self._anomalies:
            text += (
                f', and {self._anomalies} is open: it stays so until a surprise_node starts again'
            )
        self.conditions.set('no anomalies', text)

    def _missing(self, name: str, remark: str) -> str | None:
        """Return a text if nobody publishes a topic any more, or never did."""
        topic = self.resolve_topic_name(name)
        if self.count_publishers(topic):
            self._seen.add(topic)
            return None
        if topic not in self._seen and not self._patient():
            return None
        return f'nobody publishes {topic}: {remark}'

    def _patient(self) -> bool:
        """Whether the others have had their time to start."""
        return monotonic() - self._start >= _PATIENCE

    def _tick(self) -> None:
        steady, now = monotonic(), self.now()
        effect = now + self._delay  # a plan says when commands work, not when they leave
        self._playback.forget(effect)
        playing = self._state in ('playing', 'anomaly')
        if self._doubtful(now, steady, playing or self._playback.planned):
            self._playback.clear()
            command = None
        else:
            command = self._playback.command(effect, self._period)
            if command is not None:
                self._state = 'playing'
                self.conditions.set('ended', None)
            elif playing:
                self._state = 'idle'
                self._plan_ends += 1
                self.conditions.set('ended', 'the plan ended and no newer one came: stopped')
        if self._anomalies:
            self._anomaly_ticks += 1
            if command is not None:
                command = self._held_back(command)
        self._send(command)
        self._count(steady)

    def _doubtful(self, now: int, steady: float, moving: bool) -> bool:
        """Whether a watchdog forbids to play; said where something was to be played."""
        found = {
            'stale': self._camera.wrong(steady),
            'clock': self._clock_watchdog.wrong(now, steady),
        }
        if self._action.executed is not None:
            found['executed'] = self._execution.wrong(steady)
        for key, wrong in found.items():
            if wrong is None:
                self._doubts.discard(key)
                self.conditions.set(key, None)
                if self._state == key:
                    self._state = 'idle'
            elif moving:
                self._stops[key] += key not in self._doubts
                self._doubts.add(key)
                self._state = key
                timeout = f'stop.observation_timeout {self._camera.timeout:g} s'
                self.conditions.set(key, f'{wrong}{self._where[key]}: stopped ({timeout})')
        return any(wrong is not None for wrong in found.values())

    def _held_back(self, command: np.ndarray) -> np.ndarray | None:
        """Return what an open anomaly leaves of a command (A,)."""
        if self.params['on_anomaly'] == 'ignore':
            return command
        self._state = 'anomaly'
        if self.params['on_anomaly'] == 'stop':
            return None
        return self.params['slow_factor'] * command  # towards zero, the stop of these kinds

    def _stop_command(self) -> np.ndarray | None:
        if self._contract.stop.mode == 'hold':
            return self._last
        return np.zeros(self._action.size)

    def _send(self, command: np.ndarray | None) -> None:
        """Limit and publish a command (A,), or the stop command where it is none or not finite.

        The hold of nothing is not sent.
        """
        elapsed = monotonic() - self._sent
        for wanted in (command, self._stop_command()):
            if wanted is None:
                continue
            limited = self._limits.apply(wanted, self._last, elapsed)
            if limited is not None:
                self._publish(limited)
                return

    def _publish(self, command: np.ndarray) -> None:
        self._last, self._sent = command, monotonic()
        self._execution.sent(self._sent, command)
        stamp = self.now() + self._delay
        self._command.publish(action_message(command, self._action, stamp, self._period))

    def _count(self, began: float) -> None:
        """Count ticks by the schedule: one that was never served counts as not on time."""
        period = self._contract.period
        slot = int((began - self._start) / period)
        self._ticks += max(slot - self._slot, 0)
        self._slot = max(slot, self._slot)
        self._rate.add()
        self._on_time += monotonic() - (self._start + slot * period) <= period / 2


def main() -> int:
    """Run the node as a program."""
    return main_of('controller_node')
