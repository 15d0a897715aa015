# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""One control tick in, one command out: whatever planner, encoder or camera do.

The command is the stop command unless a valid plan covers the tick and every watchdog of
``watchdogs.py`` is satisfied: the camera is alive, the clock goes on, and the robot executes what
is sent. While one is not, every plan is dropped, so that only a newer one can move the robot again.
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
        0.5, 'Of velocities and efforts while slow.', 0.0, 1.0, dynamic=True
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def check(self, action: Action) -> None:
        """Raise ConfigError where it is impossible for this kind of action."""
        if self.on_anomaly == 'slow' and action.kind == 'position':
            raise ConfigError(
                "on_anomaly is 'slow', but action.kind is 'position': a part of a position is "
                "another position, not a slower one; expected 'stop' or 'ignore'"
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
        delay: of the robot [ns]: a command sent now takes effect so much later.
        state: 'idle', 'playing', 'anomaly', or the watchdog that stopped the robot last and still
            objects: 'stale' (camera), 'clock' or 'executed'.
        warnings: what a watchdog that stopped something objects to, by watchdog.
        stops: how often each watchdog stopped the robot.
        ended: the last plan ended and no newer one came.
        plan_ends: how often that happened.
        anomaly_ticks: ticks while an anomaly was open.
        played: ticks for which a plan had a command.
        exceeded: those whose command was beyond the limits, as counted from the plans' command
            of the tick before, however punctual the ticks were: the planner does not know the
            limits.
        planned: when the newest plan came [s, steady]; NaN if none did.
        limits: between the plan and the robot; counts what it had to change.
        camera: watchdog of the frames.

    Raises ConfigError for a reaction that the contract's action cannot do.

    """

    def __init__(self, contract: Contract, reaction: Reaction = IGNORE) -> None:
        action, timeout = contract.action, contract.stop.observation_timeout
        self.delay = round(action.delay * NS_PER_S)
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
        self._due = 0  # the last tick, had it been punctual [ns]
        # What the plans had for the last tick: when [ns], (A,).
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
        # It starts a block after its frame, which may be ahead by the timeout, and has blocks.
        if start - now > length + round(self.camera.timeout * NS_PER_S):
            raise ObservationError(
                f'plan of {length / NS_PER_S:g} s starts {(start - now) / NS_PER_S:.2f} s '
                'ahead: clocks differ'
            )
        self.planned = steady
        self._playback.add(start, period, commands)

    def observe(self, stamp: int, now: int, steady: float) -> float | None:
        """Note a frame of ``stamp`` [ns].

        Returns how far ahead of this clock it is stamped [s] where that is more than the
        timeout: such a frame does not count, because plans on it would be played late by as much.
        """
        ahead = (stamp - now) / NS_PER_S
        if ahead > self.camera.timeout:
            return ahead
        self.camera.feed(steady)
        return None

    def executed(self, values: np.ndarray, steady: float) -> None:
        """Note what the robot reports as executed, (A,) contract units."""
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
        effect = self._due + self.delay  # a plan says when commands work, not when they leave
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
        """Return the last command (A,) to send before the end; None for the hold of nothing.

        There are no limits of change: no later tick could finish a ramp.
        """
        stop = self._stop_command()
        return None if stop is None else np.clip(stop, *self._action.bounds)

    def _watchdog_tripped(self, now: int, steady: float, moving: bool) -> bool:
        """Whether a watchdog forbids to play; noted where something was to be played."""
        found = {'stale': self.camera.wrong(steady), 'clock': self._clock.wrong(now, steady)}
        if self._action.executed is not None:
            found['executed'] = self._execution.wrong(steady)
        for key, wrong in found.items():
            if wrong is None:
                self.warnings.pop(key, None)
                if self.state == key:
                    self.state = 'idle'
            elif moving:
                self.stops[key] += key not in self.warnings
                self.warnings[key] = wrong
                self.state = key
        return any(wrong is not None for wrong in found.values())

    def _apply_anomaly_policy(self, command: np.ndarray) -> np.ndarray | None:
        """Return what an open anomaly leaves of a command (A,)."""
        if self._reaction.on_anomaly == 'ignore':
            return command
        self.state = 'anomaly'
        if self._reaction.on_anomaly == 'stop':
            return None
        return self._reaction.slow_factor * command  # towards zero, the stop of these kinds

    def _punctual(self, now: int) -> int:
        """Return when this tick was due [ns]: a period after the last, if less than half one late.

        Late ticks would make uneven changes of a plan at its limits, and go beyond them. A clock
        that is set forward by less counts as late until a tick comes early.
        """
        due = self._due + self._period
        return due if due <= now < due + self._period // 2 else now

    def _exceeds(self, command: np.ndarray, steady: float) -> bool:
        """Whether a command (A,) of the plans would be limited if every tick were punctual."""
        before = self._before(steady)
        if self._wanted is not None:
            then, before = self._wanted
            # After ticks that never came it sees the change of more than a period.
            periods = max(self._due - then, self._period) / self._period
            command = before + (command - before) / periods
        possible = self.limits.project(command[None], before)[0]
        return not np.allclose(possible, command)

    def _before(self, steady: float) -> np.ndarray | None:
        """Return (A,) what limits of change count from: the last command, or the first pose."""
        return self._execution.pose(steady) if self._last is None else self._last

    def _stop_command(self) -> np.ndarray | None:
        return self._last if self._hold else np.zeros(self._action.size)

    def _limit(self, command: np.ndarray | None, steady: float) -> np.ndarray | None:
        """Limit a command (A,), or the stop command where it is none or not finite."""
        for wanted in (command, self._stop_command()):
            if wanted is None:
                continue
            limited = self.limits.apply(wanted, self._before(steady), steady - self._sent)
            if limited is not None:
                self._last, self._sent = limited, steady
                self._execution.sent(steady, limited)
                return limited
        return None
