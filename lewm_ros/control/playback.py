# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Timeline of planned commands: which command to send when.

The controller plays from it. The planner keeps the same timeline to know what will be executed
while a search runs.
"""

from __future__ import annotations

import numpy as np

from lewm_ros.robot.history import held_average


class Playback:
    """A timeline of planned commands, each held until the next; stamps are int64 [ns].

    A new plan replaces what was planned from its start on; earlier ticks still come from the
    plan before. Between the end of one plan and the start of a later one, nothing is planned.

    Args:
        action_size: A.
        hold: whether the player repeats the last command where nothing is planned; otherwise it
            sends zero. Only :meth:`expected` uses it.

    """

    def __init__(self, action_size: int, hold: bool = False) -> None:
        self._size = action_size
        self._hold = hold
        self.clear()

    def clear(self) -> None:
        """Drop every plan."""
        self._stamps = np.empty(0, dtype=np.int64)
        self._values = np.empty((0, self._size))
        self._planned = np.empty(0, dtype=bool)  # False from the end of a plan on

    def add(self, start: int, period: int, actions: np.ndarray) -> None:
        """Insert a plan (n, A) with ticks of ``period`` [ns] in the timeline at ``start`` [ns]."""
        keep = self._stamps < start
        ticks = start + period * np.arange(len(actions) + 1, dtype=np.int64)
        self._stamps = np.concatenate([self._stamps[keep], ticks])
        rest = actions[-1:] if self._hold else np.zeros((1, self._size))
        self._values = np.concatenate([self._values[keep], actions, rest])
        planned = np.arange(len(ticks)) < len(actions)
        self._planned = np.concatenate([self._planned[keep], planned])

    def forget(self, before: int) -> None:
        """Drop ticks that ended before a time [ns]."""
        first = max(int(np.searchsorted(self._stamps, before, side='right')) - 1, 0)
        self._stamps = self._stamps[first:]
        self._values = self._values[first:]
        self._planned = self._planned[first:]

    @property
    def planned(self) -> bool:
        """Whether any planned command is left."""
        return bool(self._planned.any())

    def command(self, at: int, period: int, before: np.ndarray | None = None) -> np.ndarray | None:
        """Return the average over [at, at + period), (A,); None where nothing is planned.

        Averaging plays a plan whose ticks are not aligned with the player's without a delay, and
        keeps its changes within their limits. If the plan begins within the period, ``before`` (A,)
        counts up to then; without it, nothing is planned yet. If the plan ends within the period,
        the average is over the part before its end.
        """
        index = int(np.searchsorted(self._stamps, at, side='right')) - 1
        if index < 0 or not self._planned[index]:
            after = np.flatnonzero(self._planned & (self._stamps > at))
            if before is None or not len(after) or self._stamps[after[0]] >= at + period:
                return None
            start = int(self._stamps[after[0]])
            rest = self.command(start, at + period - start)
            return before + (rest - before) * ((at + period - start) / period)
        ends = np.flatnonzero(~self._planned[index:])
        stop = min(at + period, int(self._stamps[index + ends[0]]))
        return held_average(self._stamps[index:], self._values[index:], np.array([at, stop]))[0]

    def expected(
        self, stamps: np.ndarray, values: np.ndarray, now: int, edges: np.ndarray
    ) -> np.ndarray | None:
        """Return what is or will be executed between edges, (m, A); None if unknown.

        Args:
            stamps: (n,) int64 [ns] of the commands executed so far, ascending.
            values: (n, A) those commands.
            now: [ns]; executed commands count up to here, plans from the last of them on.
            edges: (m + 1,) int64 [ns].

        """
        done = stamps <= now
        later = self._stamps > (stamps[done][-1] if done.any() else now)
        line = np.concatenate([stamps[done], self._stamps[later]])
        if len(line) == 0:
            return None
        held = np.concatenate([values[done], self._values[later]])
        average = held_average(line, held, edges)
        return None if np.isnan(average).any() else average
