# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Command loop: one command per control tick, whatever planner, encoder or camera do.

It returns the stop command unless a valid plan covers the tick and no watchdog of ``watchdogs.py``
has tripped: the camera is alive, the clock advances, and the robot executes what is sent. While one
is tripped, every plan is dropped, so that only a newer plan can move the robot again.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from lewm_ros.control.limits import Limits
from lewm_ros.control.playback import Playback
from lewm_ros.control.watchdogs import CameraWatchdog, ClockWatchdog, ExecutionWatchdog
from lewm_ros.errors import ConfigError, ObservationError
from lewm_ros.robot.contract import Action, Contract
from lewm_ros.robot.settings import check_settings, setting
from lewm_ros.time import NS_PER_S

#: What an open anomaly does to the commands: nothing, scale them, or stop the robot.
REACTIONS = ('ignore', 'slow', 'stop')


@dataclass(frozen=True)
class Reaction:
    """What an open anomaly does to the commands."""

    on_anomaly: str = setting(
        'ignore',
        'What an open event on the topic `anomaly` does to the commands: nothing, scale them by '
        '`slow_factor`, or replace them by the stop command until it has ended.',
        choices=REACTIONS,
        dynamic=True,
    )
    slow_factor: float = setting(
        0.5,
        'Factor on velocities and efforts while an open event slows the robot.',
        0.0,
        1.0,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def check(self, action: Action) -> None:
        """Raise ConfigError if it is not possible for this kind of action."""
        if self.on_anomaly == 'slow' and action.kind == 'position':
            raise ConfigError(
                "on_anomaly is 'slow', but action.kind is 'position': scaling a position does "
                "not slow the robot; expected 'stop' or 'ignore'"
            )


IGNORE = Reaction()


class CommandLoop:
    """Plays plans by time within the limits of a contract, and stops when in doubt.

    ``now`` is the robot's clock [ns], which plans and frames are stamped by; ``steady`` is a clock
    that never jumps [s]. Not thread safe.

    Args:
        contract: the robot.
        reaction: to an open anomaly.

    Attributes:
        delay: time from sending a command to its effect on the robot [ns].
        state: 'idle', 'playing', 'anomaly', or the watchdog that stopped the robot last and is
            still tripped: 'stale' (camera), 'clock' or 'executed'.
        warnings: reason of each watchdog that stopped something and is still tripped, by watchdog.
        stops: how often each watchdog stopped the robot.
        ended: the last plan ended and no newer one came.
        plan_ends: how often that happened.
        anomaly_ticks: ticks while an anomaly was open.
        played: ticks for which a plan had a command.
        exceeded: those whose planned command was beyond the limits, counted from the planned
            command of the tick before and corrected for late ticks. If it grows, the planner does
            not know the limits.
        planned: when the newest plan arrived [s, steady]; NaN if none did.
        limits: limits between plan and robot; counts what they changed.
        camera: watchdog of the frames.

    Raises ConfigError for a reaction that the contract's action does not support.

    """

    def __init__(self, contract: Contract, reaction: Reaction = IGNORE) -> None:
        action, timeout = contract.action, contract.stop.observation_timeout
        self.delay = action.delay_ns
        self._period = round(contract.period * NS_PER_S)
        self._action = action
        self._hold = contract.stop.mode == 'hold'
        self._playback = Playback(action.size)
        self.limits = Limits(action, contract.period)
        self.camera = CameraWatchdog(timeout)
        self._clock = ClockWatchdog(timeout, contract.period)
        self._execution = ExecutionWatchdog(action, timeout)
        # The robot is assumed to stand still; its positions are unknown, unless it reports them.
        self._last = None if self._hold else np.zeros(action.size)
        self._sent = 0.0  # when [s, steady]
        self._due = 0  # when the last tick was due [ns]
        # Planned command of the last tick: when it was due [ns], (A,).
        self._wanted: tuple[int, np.ndarray] | None = None
        self.state = 'idle'
        self.warnings: dict[str, str] = {}
        self.stops: Counter[str] = Counter()
        self.ended = False
        self.plan_ends = self.anomaly_ticks = 0
        self.played = self.exceeded = 0
        self.planned = float('nan')
        self.react(reaction)

    def react(self, reaction: Reaction) -> None:
        """Change what an open anomaly does to the commands."""
        reaction.check(self._action)
        self._reaction = reaction

    def add_plan(
        self, start: int, period: int, commands: np.ndarray, now: int, steady: float
    ) -> None:
        """Play commands (n, A), contract units, from ``start`` [ns] on, each for ``period`` [ns].

        Raises ObservationError for a plan that lies wholly in the past or starts too far ahead.
        """
        length = period * len(commands)
        if start + length <= now:
            raise ObservationError(
                'plan lies wholly in the past: the planner is too slow, or clocks differ'
            )
        # A plan lasts at least a block and starts one after its frame, which may be ahead by the
        # timeout.
        if start - now > length + round(self.camera.timeout * NS_PER_S):
            raise ObservationError(
                f'plan of {length / NS_PER_S:g} s starts {(start - now) / NS_PER_S:.2f} s '
                'ahead: clocks differ'
            )
        self.planned = steady
        self._playback.add(start, period, commands)

    def observe(self, stamp: int, now: int, steady: float) -> float | None:
        """Record a frame of ``stamp`` [ns].

        Returns how far its stamp is ahead of ``now`` [s] if that is more than the timeout, else
        None. Such a frame does not count, because plans based on it would be played that much late.
        """
        ahead = (stamp - now) / NS_PER_S
        if ahead > self.camera.timeout:
            return ahead
        self.camera.feed(steady)
        return None

    def executed(self, values: np.ndarray, steady: float) -> None:
        """Record what the robot reports as executed, (A,) contract units, or its positions.

        Positions beside a contract without ``action.executed`` are where the first command starts.
        """
        self._execution.reported(steady, values)

    def drop_plans(self) -> None:
        """Drop every plan (new episode)."""
        self._playback.clear()
        self.state = 'idle'

    def tick(self, now: int, steady: float, anomaly: bool = False) -> np.ndarray | None:
        """Return the command (A,), contract units, to send now.

        None where there is nothing to hold yet: ``stop.mode`` is hold and no plan has been played.

        Args:
            now: [ns].
            steady: [s].
            anomaly: whether an anomaly is open.

        """
        self._due = self._punctual(now)
        effect = self._due + self.delay  # plans are stamped by effect, not by sending
        self._playback.forget(effect)
        playing = self.state in ('playing', 'anomaly')
        command = None
        if self._watchdog_tripped(now, steady, playing or self._playback.planned):
            self._playback.clear()
        else:
            command = self._playback.command(effect, self._period, self._before(steady))
            if command is not None:
                self.state, self.ended = 'playing', False
            elif playing:
                self.state, self.ended = 'idle', True
                self.plan_ends += 1
        if anomaly:
            self.anomaly_ticks += 1
            if command is not None:
                command = self._apply_anomaly_policy(command)
        if command is None or self.state != 'playing':
            self._wanted = None
        else:
            self.played += 1
            self.exceeded += self._exceeds(command, steady)
            self._wanted = self._due, command
        return self._limit(command, steady)

    def stop(self) -> np.ndarray | None:
        """Return the last command (A,) to send before shutdown; None if there is nothing to hold.

        Step and rate limits do not apply: no later tick could finish a ramp.
        """
        stop = self._stop_command()
        return None if stop is None else np.clip(stop, *self._action.bounds)

    def _watchdog_tripped(self, now: int, steady: float, moving: bool) -> bool:
        """Return whether a watchdog has tripped; recorded only if something was to be played."""
        found = {'stale': self.camera.wrong(steady), 'clock': self._clock.wrong(now, steady)}
        if self._action.executed is not None:
            found['executed'] = self._execution.wrong(steady)
        for key, wrong in found.items():
            if wrong is None:
                self.warnings.pop(key, None)
                if self.state == key:
                    self.state = 'idle'
            elif moving or key in self.warnings:
                self.stops[key] += key not in self.warnings
                self.warnings[key] = wrong
                if moving:
                    self.state = key
        return any(wrong is not None for wrong in found.values())

    def _apply_anomaly_policy(self, command: np.ndarray) -> np.ndarray | None:
        """Apply the reaction to an open anomaly to a command (A,); None: stop."""
        if self._reaction.on_anomaly == 'ignore':
            return command
        self.state = 'anomaly'
        if self._reaction.on_anomaly == 'stop':
            return None
        return self._reaction.slow_factor * command  # towards zero, the stop of these kinds

    def _punctual(self, now: int) -> int:
        """Return when this tick was due [ns]: a period after the last if less than half one late.

        Played at late ticks, a plan at its limits would change unevenly and exceed them. A clock
        set forward by less than half a period counts as a late tick until a tick comes early.
        """
        due = self._due + self._period
        return due if due <= now < due + self._period // 2 else now

    def _exceeds(self, command: np.ndarray, steady: float) -> bool:
        """Return whether a planned command (A,) would be limited if every tick were on time."""
        before = self._before(steady)
        if self._wanted is not None:
            then, before = self._wanted
            # After missed ticks, the change is that of more than one period.
            periods = max(self._due - then, self._period) / self._period
            command = before + (command - before) / periods
        possible = self.limits.project(command[None], before)[0]
        return not np.allclose(possible, command)

    def _before(self, steady: float) -> np.ndarray | None:
        """Return the (A,) that step and rate limits count from: last command, or reported pose."""
        return self._execution.pose(steady) if self._last is None else self._last

    def _stop_command(self) -> np.ndarray | None:
        return self._last if self._hold else np.zeros(self._action.size)

    def _limit(self, command: np.ndarray | None, steady: float) -> np.ndarray | None:
        """Limit a command (A,), or the stop command if it is None or not finite."""
        for wanted in (command, self._stop_command()):
            if wanted is None:
                continue
            limited = self.limits.apply(wanted, self._before(steady), steady - self._sent)
            if limited is not None:
                self._last, self._sent = limited, steady
                self._execution.sent(steady, limited)
                return limited
        return None
