# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Figures that nodes report: counts by reason, percentiles, rates, memory."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
import os
from pathlib import Path
import threading
import time

import numpy as np

from lewm_ros.time import NS_PER_S


class Reasons:
    """Counts by reason. Thread safe, and bounded even if every reason is a new text."""

    KEPT = 20

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, reason: str) -> None:
        """Count one more of a reason."""
        with self._lock:
            if reason not in self._counts and len(self._counts) >= self.KEPT:
                reason = 'other'
            self._counts[reason] = self._counts.get(reason, 0) + 1

    @property
    def total(self) -> int:
        """Sum of all counts."""
        with self._lock:
            return sum(self._counts.values())

    def figures(self, prefix: str) -> dict[str, int]:
        """Counts by 'prefix: reason', for a report."""
        with self._lock:
            return {f'{prefix}: {reason}': count for reason, count in self._counts.items()}


class Recent:
    """The last values of a figure, and percentiles of them. Appending is thread safe."""

    def __init__(self) -> None:
        self._values: deque[float] = deque(maxlen=4096)

    def add(self, value: float) -> None:
        """Append a value."""
        self._values.append(value)

    @property
    def last(self) -> float:
        """The newest value; NaN if there is none."""
        return self._values[-1] if self._values else float('nan')

    def percentile(self, percent: float) -> float:
        """Return a percentile of the values kept; NaN if there are none."""
        values = list(self._values)
        return float(np.percentile(values, percent)) if values else float('nan')

    def percentiles(self, name: str, *percents: int) -> dict[str, float]:
        """Percentiles by 'name_p50' and so on, for a report."""
        return {f'{name}_p{percent}': self.percentile(percent) for percent in percents}


class Rate:
    """How often something happens [Hz]: over the last seconds, by the steady clock."""

    WINDOW = 5.0  #: how far back is counted [s]

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._times: deque[float] = deque(maxlen=round(2000 * self.WINDOW))  # twice the highest

    def add(self) -> None:
        """Note that it happened now. Thread safe."""
        self._times.append(time.monotonic())

    @property
    def hz(self) -> float:
        """Events per second, over the window or the time since the start if that is shorter."""
        now = time.monotonic()
        window = min(self.WINDOW, now - self._began)
        recent = sum(t > now - window for t in list(self._times))
        return recent / window if window > 0 else 0.0


class StampRate:
    """Rate of stamps [Hz], over the last seconds of the stamps' own clock.

    Reordered stamps and duplicates do not matter. A jump by more than half of the window, or a
    pause of that length, starts over.

    Args:
        window: how far back is counted [s].

    """

    KEPT = 4096

    def __init__(self, window: float = 5.0) -> None:
        self._window = round(window * NS_PER_S)
        self._stamps: list[int] = []  # ascending; the first is at the start of the window

    def add(self, stamp: int) -> None:
        """Note a stamp [ns]."""
        if self._stamps and 2 * abs(stamp - self._stamps[-1]) > self._window:
            self.clear()
        if stamp in self._stamps:
            return
        insort(self._stamps, stamp)
        older = bisect_right(self._stamps, self._stamps[-1] - self._window)
        del self._stamps[: max(0, older - 1, len(self._stamps) - self.KEPT)]

    def clear(self) -> None:
        """Start over."""
        self._stamps.clear()

    @property
    def hz(self) -> float:
        """Stamps per second; NaN until they fill the window."""
        span = self._stamps[-1] - self._stamps[0] if self._stamps else 0
        if span < self._window:
            return float('nan')
        return (len(self._stamps) - 1) * NS_PER_S / span


def resident_mb() -> float:
    """Return the resident memory of this process [MB], NaN where /proc does not say it."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return float('nan')
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6
