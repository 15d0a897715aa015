# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Stamped values in order: late ones are sorted in, a clock that was set back is detected."""

from __future__ import annotations

from bisect import bisect_left
from operator import itemgetter
from typing import Generic, TypeVar

import numpy as np

from lewm_ros.time import NS_PER_S

#: A value further behind the newest than this [ns] is not late: the clock was set back.
BEHIND = NS_PER_S // 2
#: The clock was set back too if more than this many values in a row are behind the newest.
RUN = 5

V = TypeVar('V')


class Timeline(Generic[V]):
    """Values in the order of their stamps [ns], each stamp once.

    Late values are held until a newer one arrives. If the clock turns out to have been set back
    instead, they belong to the next timeline.

    Attributes:
        entries: (stamp, value), ascending.
        late: (stamp, value) not yet sorted in.
        duplicates: values dropped because their stamp exists already.
        sorted_in: number of late values that were sorted in.

    """

    def __init__(self) -> None:
        self.entries: list[tuple[int, V]] = []
        self.late: list[tuple[int, V]] = []
        self.duplicates = 0
        self.sorted_in = 0

    @property
    def newest(self) -> int | None:
        """Newest stamp [ns], or None."""
        return self.entries[-1][0] if self.entries else None

    def add(self, stamp: int, value: V) -> bool:
        """Add a value. False, and the value is not kept, if the clock was set back.

        Then a new timeline begins, with ``late`` and this value.
        """
        newest = self.newest
        if newest is None or stamp > newest:
            self.settle()
            self.entries.append((stamp, value))
        elif stamp == newest:
            self.duplicates += 1
        elif newest - stamp > BEHIND or len(self.late) == RUN:
            return False
        else:
            self.late.append((stamp, value))
        return True

    def settle(self) -> None:
        """Sort in the late values."""
        for stamp, value in self.late:
            place = bisect_left(self.entries, stamp, key=itemgetter(0))
            if place < len(self.entries) and self.entries[place][0] == stamp:
                self.duplicates += 1
            else:
                self.entries.insert(place, (stamp, value))
                self.sorted_in += 1
        self.late.clear()

    def stamps(self) -> np.ndarray:
        """Return the stamps (n,) int64 [ns]."""
        return np.array([stamp for stamp, _ in self.entries], dtype=np.int64)
