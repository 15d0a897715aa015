# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Statistics of a topic while it is recorded: rate, gaps, missing messages."""

from __future__ import annotations

from collections import deque
from statistics import median

from lewm_ros.time import NS_PER_S

#: The period is the median of the last INTERVALS intervals; it is unknown below FEW.
INTERVALS, FEW = 64, 5


class Flow:
    """Statistics of the messages of one topic.

    Args:
        gap: a longer pause is a gap [s].
        regular: whether the topic has a rate; otherwise messages are only counted.
        stamped: whether its messages have a header stamp; receive times are too uncertain to
            count missing messages.

    Attributes:
        messages: received.
        lost: reported as lost by the middleware.
        missing: periods without a message, by the stamps; an estimate that includes messages
            the sender skipped.
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
        """Median time between two messages [s]; NaN while it is unknown."""
        return median(self._intervals) if len(self._intervals) >= FEW else float('nan')

    def arrived(self, stamp: int) -> float:
        """Count a message by its stamp [ns]; return the length of the gap before it [s].

        0.0 where there was none. A stamp that jumps back, as in simulation, starts over.
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
        if self._stamped and period > 0:  # known, and stamps advance
            self._count_missing(pause / period)
        self._intervals.append(pause)
        self.longest = max(self.longest, pause)
        if pause <= self._gap:
            return 0.0
        self.gaps += 1
        return pause

    def _count_missing(self, periods: float) -> None:
        """Count an interval; after a late message the next interval is short."""
        if periods > 1.5:
            self._long.append(periods)
        elif self._long:
            self.missing += max(round(sum(self._long) + periods) - len(self._long) - 1, 0)
            self._long.clear()
