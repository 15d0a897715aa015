# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What is noticed of a topic while it is recorded: its rate, its gaps, what never came."""

from __future__ import annotations

from collections import deque
from statistics import median

from lewm_ros.time import NS_PER_S

#: The usual period is the median of this many intervals; fewer than a few say nothing.
INTERVALS, FEW = 64, 5


class Flow:
    """The messages of one topic, as they come.

    Args:
        gap: a longer pause is a gap [s].
        regular: whether the topic has a rate; otherwise messages are only counted.
        stamped: whether its messages say when they were made; when they came says too little
            to call one missing.

    Attributes:
        messages: that came.
        lost: that the middleware says were sent and never came.
        missing: periods without a message, by the stamps; an estimate that includes what the
            sender itself left out.
        gaps: pauses longer than ``gap``.
        longest: longest pause [s].

    """

    def __init__(self, gap: float, regular: bool = True, stamped: bool = True) -> None:
        self.messages = self.lost = self.missing = self.gaps = 0
        self.longest = 0.0
        self._gap = gap
        self._regular = regular
        self._stamped = stamped
        self._last = 0
        self._long: list[float] = []  # intervals in a row that are too long [periods]
        self._intervals: deque[float] = deque(maxlen=INTERVALS)

    @property
    def period(self) -> float:
        """The usual time between two messages [s]; NaN while it is not known."""
        return median(self._intervals) if len(self._intervals) >= FEW else float('nan')

    def arrived(self, stamp: int) -> float:
        """Take note of a message by its stamp [ns]; return the length of the gap before it [s].

        0.0 where there was none. A stamp that jumps back, as a simulation's does, starts anew.
        """
        self.messages += 1
        last, self._last = self._last, stamp
        if not self._regular or not last:
            return 0.0
        pause = (stamp - last) / NS_PER_S
        if pause < 0:
            self._intervals.clear()
            self._long.clear()
            return 0.0
        period = self.period
        if self._stamped and period > 0:  # neither unknown nor of stamps that stand still
            self._count_missing(pause / period)
        self._intervals.append(pause)
        self.longest = max(self.longest, pause)
        if pause <= self._gap:
            return 0.0
        self.gaps += 1
        return pause

    def _count_missing(self, periods: float) -> None:
        """Take note of an interval; a message that was only late makes the next one short."""
        if periods > 1.5:
            self._long.append(periods)
        elif self._long:
            self.missing += max(round(sum(self._long) + periods) - len(self._long) - 1, 0)
            self._long.clear()
