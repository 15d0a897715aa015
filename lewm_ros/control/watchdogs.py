# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Watchdogs: each is polled at every control tick and returns what is wrong, or None.

Timeouts are measured on a steady clock [s], so that neither a stamp nor another clock can keep a
robot moving.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from lewm_ros.robot.contract import Action
from lewm_ros.time import NS_PER_S

#: Largest difference of a report from what was sent, as a fraction of the range between limits.
TOLERANCE = 0.05


class CameraWatchdog:
    """Trips if no observation arrives within ``timeout`` [s].

    No observation yet counts as stale: a robot does not move before its first observation.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._seen: float | None = None

    def feed(self, now: float) -> None:
        """Record that an observation arrived at ``now``."""
        self._seen = now

    def age(self, now: float) -> float:
        """Seconds since the last observation; infinity if there was none."""
        return float('inf') if self._seen is None else now - self._seen

    def wrong(self, now: float) -> str | None:
        """Return for how long there was no observation, if longer than the timeout."""
        age = self.age(now)
        if age <= self.timeout:
            return None
        return 'no latent yet' if self._seen is None else f'no latent for {age:.2f} s'


class ClockWatchdog:
    """Trips if the robot's clock, which plans are played by, does not advance with the steady one.

    If the clock jumps back at all, or ahead by more than ``timeout`` [s], it trips for that long:
    plans made before the jump may still arrive. It does the same if it was not polled for a period
    plus ``timeout``: the process was stalled, and the next messages are old. If the clock stands
    still for more than ``timeout`` (a paused simulation), it trips until the clock moves.

    Args:
        timeout: [s].
        period: polling period [s].

    """

    def __init__(self, timeout: float, period: float) -> None:
        self.timeout, self.period = timeout, period
        self._clock: int | None = None  # last reading [ns], and when it was taken
        self._read = self._moved = 0.0
        self._jump: tuple[float, str] | None = None

    def wrong(self, clock: int, now: float) -> str | None:
        """Return what is wrong with the clock, which reads ``clock`` [ns]."""
        if self._clock is None:
            self._moved = now
        else:
            passed = (clock - self._clock) / NS_PER_S
            if passed < 0:
                self._jump = now, f'the clock went back by {-passed:.3g} s'
            elif now - self._read > self.timeout + self.period:
                self._jump = now, f'no control tick for {now - self._read:.3g} s'
            elif passed - (now - self._read) > self.timeout:
                self._jump = now, f'the clock went ahead by {passed:.3g} s'
            if passed != 0:
                self._moved = now
        self._clock, self._read = clock, now
        if self._jump is not None and now - self._jump[0] <= self.timeout:
            return self._jump[1]
        still = now - self._moved
        return f'the clock has stood still for {still:.2f} s' if still > self.timeout else None


class ExecutionWatchdog:
    """Trips if the robot reports something other than what was sent.

    A report matches if it is within the tolerance of a command sent within the last
    ``timeout`` + ``action.delay`` [s]. The watchdog trips when no report has matched for
    ``timeout``, whether others arrived or not, and recovers when all have matched for as long. An
    operator who takes over with a joystick thus stops the plan until they let go.
    """

    def __init__(self, action: Action, timeout: float) -> None:
        low, high = action.bounds
        given = None if action.executed is None else action.executed.tolerance
        self.tolerance = TOLERANCE * (high - low) if given is None else np.array(given)
        self.timeout = timeout
        self._reach = timeout + action.delay
        self._sent: deque[tuple[float, np.ndarray]] = deque()
        self._matched: float | None = None  # last matching report, or the first command
        self._since: float | None = None  # all reports have matched since
        self._reported, self._values = float('-inf'), np.full(action.size, np.nan)
        self._range = low - self.tolerance, high + self.tolerance
        self._mismatch = False

    def sent(self, now: float, command: np.ndarray) -> None:
        """Record a command (A,) as it was published."""
        if self._matched is None:
            self._matched = now
        self._sent.append((now, command))
        while self._sent[0][0] < now - self._reach:
            self._sent.popleft()

    def reported(self, now: float, values: np.ndarray) -> None:
        """Record what the robot reports as executed, (A,) contract units."""
        self._reported, self._values = now, values
        recent = (c for at, c in reversed(self._sent) if at >= now - self._reach)
        if any((np.abs(values - c) <= self.tolerance).all() for c in recent):
            self._matched = now
            self._since = now if self._since is None else self._since
        else:
            self._since = None

    def pose(self, now: float) -> np.ndarray | None:
        """Return the newest reported positions (A,); None if they are unusable.

        Usable positions are finite, at most ``timeout`` old, and at most the tolerance beyond the
        limits.
        """
        low, high = self._range
        fits = ((low <= self._values) & (self._values <= high)).all()
        return self._values if fits and now - self._reported <= self.timeout else None

    def wrong(self, now: float) -> str | None:
        """Return how the reports differ from what was sent, or None."""
        if self._matched is None:  # nothing was sent
            return None
        if now - self._matched > self.timeout:
            self._mismatch, self._since = True, None
        elif self._since is not None and now - self._since >= self.timeout:
            self._mismatch = False
        if not self._mismatch:
            return None
        if now - self._reported > self.timeout:
            return 'the robot does not report what it executes'
        return 'the robot executes something other than what is sent'
