# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Watchdogs: each is asked at every control tick and answers with what is wrong, or None.

All of them count on a steady clock [s], so that neither a stamp nor another clock keeps a robot
moving.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from lewm_ros.robot.contract import Action
from lewm_ros.time import NS_PER_S

#: How far a report may be from what was sent, as a part of the range between the limits.
TOLERANCE = 0.05


class CameraWatchdog:
    """Wants an observation within ``timeout`` [s].

    Nothing seen yet counts as stale: a robot does not move before its first observation.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._seen: float | None = None

    def feed(self, now: float) -> None:
        """Note that an observation arrived at ``now``."""
        self._seen = now

    def age(self, now: float) -> float:
        """Seconds since the last observation; infinity if there was none."""
        return float('inf') if self._seen is None else now - self._seen

    def wrong(self, now: float) -> str | None:
        """Say for how long there was none, if it is longer than the timeout."""
        age = self.age(now)
        if age <= self.timeout:
            return None
        return 'no latent yet' if self._seen is None else f'no latent for {age:.2f} s'


class ClockWatchdog:
    """Wants the robot's clock, which plans are played by, to go on beside the steady one.

    Going back at all, or ahead by more than ``timeout`` [s], is wrong for that long: plans made
    before may be on their way until then. So is not having been asked for a period and the
    timeout: the process stood still, and what comes in next has waited. Standing still of the
    clock (a paused simulation) is wrong from then on until it moves.

    Args:
        timeout: [s].
        period: it is asked so often [s].

    """

    def __init__(self, timeout: float, period: float) -> None:
        self.timeout, self.period = timeout, period
        self._clock: int | None = None  # last reading [ns], and when it was taken
        self._read = self._moved = 0.0
        self._jump: tuple[float, str] | None = None

    def wrong(self, clock: int, now: float) -> str | None:
        """Say what is wrong with the clock, which reads ``clock`` [ns]."""
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
    """Wants what the robot reports as executed to be what was sent.

    A report matches if it is within the tolerance of a command sent within the last
    ``timeout`` + ``action.delay`` [s]. It is wrong when none has matched for ``timeout``, whether
    others came or none, and right again when all have matched for as long: somebody who takes
    over with a joystick stops the plan until they let go.
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
        """Note a command (A,) as it was published."""
        if self._matched is None:
            self._matched = now
        self._sent.append((now, command))
        while self._sent[0][0] < now - self._reach:
            self._sent.popleft()

    def reported(self, now: float, values: np.ndarray) -> None:
        """Note what the robot reports as executed, (A,) contract units."""
        self._reported, self._values = now, values
        recent = (c for at, c in reversed(self._sent) if at >= now - self._reach)
        if any((np.abs(values - c) <= self.tolerance).all() for c in recent):
            self._matched = now
            self._since = now if self._since is None else self._since
        else:
            self._since = None

    def pose(self, now: float) -> np.ndarray | None:
        """Return the newest report (A,), of positions; None if it is old, or no pose in the limits.

        Not older than ``timeout``, and finite; beyond the limits by the tolerance at most.
        """
        low, high = self._range
        fits = ((low <= self._values) & (self._values <= high)).all()
        return self._values if fits and now - self._reported <= self.timeout else None

    def wrong(self, now: float) -> str | None:
        """Say how the reports differ from what was sent, if they do."""
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
        return 'the robot executes something else than what is sent'
