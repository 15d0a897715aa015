# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Plans laid end to end: the command that is to be held at any time."""

from __future__ import annotations

import numpy as np

from lewm_ros.history import held_average


class Track:
    """A held (piecewise constant) command over time, made of plans.

    A newer plan replaces everything from its start on, so the one playing goes on until the
    next begins. Where no plan covers a time the track rests.

    Args:
        size: A.
        hold: rest at the last planned command (position robots), not at zero.

    """

    def __init__(self, size: int, hold: bool = False) -> None:
        self._size = size
        self._hold = hold
        self.clear()

    def clear(self) -> None:
        """Forget all plans."""
        self._stamps = np.empty(0, dtype=np.int64)
        self._values = np.empty((0, self._size))
        self._planned = np.empty(0, dtype=bool)

    def splice(self, stamps: np.ndarray, values: np.ndarray, end: int) -> None:
        """Lay a plan over the track.

        Args:
            stamps: (n,) int64 [ns], ascending, n >= 1: when each command begins.
            values: (n, A) contract units, finite.
            end: when the last one ends [ns].

        """
        keep = self._stamps < stamps[0]
        rest = values[-1] if self._hold else np.zeros(self._size)
        self._stamps = np.concatenate([self._stamps[keep], stamps, [end]])
        self._values = np.concatenate([self._values[keep], values, [rest]])
        self._planned = np.concatenate(
            [self._planned[keep], np.ones(len(stamps), dtype=bool), [False]]
        )

    def forget_before(self, stamp: int) -> None:
        """Drop what ended before ``stamp`` [ns]."""
        first = max(int(np.searchsorted(self._stamps, stamp, side='right')) - 1, 0)
        self._stamps = self._stamps[first:]
        self._values = self._values[first:]
        self._planned = self._planned[first:]

    def planned(self, start: int, stop: int) -> bool:
        """Whether a plan covers ``start``, or begins before ``stop`` [ns]."""
        at = int(np.searchsorted(self._stamps, start, side='right')) - 1
        to = int(np.searchsorted(self._stamps, stop, side='left'))
        return bool(self._planned[max(at, 0) : to].any())

    def command(self, start: int, stop: int) -> np.ndarray:
        """Return the command (A,) averaged over [start, stop) [ns]."""
        stamps, values = self.held(start)
        return held_average(stamps, values, np.array([start, stop]))[0]

    def held(self, start: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the track from ``start`` [ns] on: stamps (n,), the first is start, and values.

        Before the first plan a holding track has that plan's first command: it knows of none
        before. It holds NaN if there is no plan at all.
        """
        at = int(np.searchsorted(self._stamps, start, side='right')) - 1
        first = np.zeros(self._size)
        if at >= 0:
            first = self._values[at]
        elif self._hold:
            first = self._values[0] if len(self._values) else np.full(self._size, np.nan)
        stamps = np.concatenate([[start], self._stamps[at + 1 :]]).astype(np.int64)
        return stamps, np.concatenate([first[None], self._values[at + 1 :]])

    def expected(
        self, stamps: np.ndarray, values: np.ndarray, now: int, edges: np.ndarray
    ) -> np.ndarray:
        """What is and will be executed between edges, averaged, (m, A).

        Args:
            stamps: (n,) int64 [ns] of the commands executed so far, ascending.
            values: (n, A) those commands.
            now: [ns]; up to here the executed commands count, from here on the track.
            edges: (m + 1,) int64 [ns].

        NaN where an edge lies before the first known command.

        """
        done = stamps < now
        later, planned = self.held(now)
        line = np.concatenate([stamps[done], later])
        return held_average(line, np.concatenate([values[done], planned]), edges)
