# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The contact sheet of recordings: a timeline of episodes, gaps and commands over some frames."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from lewm_ros.bags.episodes import Episode
from lewm_ros.files import atomic_write
from lewm_ros.time import NS_PER_S

#: Frames on the sheet, and frames in a row.
FRAMES, COLUMNS = 24, 8
#: Commands and gaps that are drawn at most.
POINTS, GAPS = 4000, 2000
V = TypeVar('V')


class Thinned(Generic[V]):
    """Evenly spaced samples of a stream of unknown length: ``most`` to twice as many."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._stride = 1
        self._seen = 0
        self.items: list[V] = []

    @property
    def wants(self) -> bool:
        """Whether the next item will be kept."""
        return self._seen % self._stride == 0

    def add(self, item: V) -> None:
        """Add the next item."""
        if self.wants:
            self.items.append(item)
            if len(self.items) >= 2 * self._most:
                del self.items[1::2]
                self._stride *= 2
        self._seen += 1


class ContactSheet:
    """Collects episodes; keeps a bounded number of frames, commands and gaps.

    Args:
        names: of the action dimensions.
        bounds: lower and upper limits, each (A,).

    """

    def __init__(self, names: tuple[str, ...], bounds: tuple[np.ndarray, np.ndarray]) -> None:
        self._names = names
        self._bounds = bounds
        self._frames: Thinned[tuple[float, np.ndarray]] = Thinned(4 * FRAMES)
        self._commands: Thinned[tuple[float, np.ndarray]] = Thinned(POINTS)
        self._spans: list[tuple[float, float, bool]] = []
        self._gaps: list[tuple[float, float]] = []
        self._origin = 0
        self._end = 0.0
        self._bags: list[float] = []
        self._begins = True

    def bag(self) -> None:
        """Begin another bag, drawn after the one before."""
        self._bags.append(self._end)
        self._begins = True

    def add(self, episode: Episode, gaps: list[tuple[int, int]], windows: int) -> None:
        """Add an episode, the gaps [ns] between its frames and its number of windows."""
        start = int(episode.stamps[0])
        if self._begins or self._time(start) < self._end:  # or the clock was set back
            self._origin = start - round(self._end * NS_PER_S)
            self._begins = False
        self._end = self._time(int(episode.stamps[-1]))
        self._spans.append((self._time(start), self._end, windows > 0))
        self._gaps += [(self._time(a), self._time(b)) for a, b in gaps][: GAPS - len(self._gaps)]
        for stamp, image in zip(episode.stamps.tolist(), episode.images):
            # A copy, so that one frame does not keep the episode in memory.
            self._frames.add((self._time(stamp), image.copy() if self._frames.wants else image))
        inside = (episode.action_stamps >= start) & (episode.action_stamps <= episode.stamps[-1])
        for stamp, action in zip(episode.action_stamps[inside].tolist(), episode.actions[inside]):
            self._commands.add((self._time(stamp), action.copy()))

    def _time(self, stamp: int) -> float:
        return (stamp - self._origin) / NS_PER_S

    def _lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Times (n,) and commands (n, A); NaN between episodes interrupts the lines."""
        times = np.array([time for time, _ in self._commands.items])
        values = np.array([action for _, action in self._commands.items])
        values = values.reshape(len(times), len(self._names))
        starts = np.array([start for start, _, _ in self._spans])
        breaks = np.flatnonzero(np.diff(np.searchsorted(starts, times, side='right'))) + 1
        return np.insert(times, breaks, np.nan), np.insert(values, breaks, np.nan, axis=0)

    def draw(self, path: Path) -> None:
        """Write the PNG, atomically."""
        from matplotlib import pyplot

        count = min(FRAMES, len(self._frames.items))
        rows = -(-count // COLUMNS)
        figure = pyplot.figure(figsize=(14, 4 + 1.9 * rows), layout='constrained')
        heights = [4, 1.9 * rows]
        top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=heights)[:, 0]
        bars, lines = top.subplots(2, 1, sharex=True, height_ratios=[1, 4])
        for usable, colour, label in (
            (True, 'tab:green', 'episode'),
            (False, 'tab:gray', 'episode without usable windows'),
        ):
            spans = [(a, max(b - a, 1e-3)) for a, b, windows in self._spans if windows == usable]
            if spans:
                bars.broken_barh(spans, (0, 1), color=colour, edgecolor='white', label=label)
        if self._gaps:
            gaps = [(a, b - a) for a, b in self._gaps]
            bars.broken_barh(gaps, (0, 1), color='tab:red', edgecolor='tab:red', label='gap')
        for start in self._bags[1:]:
            bars.axvline(start, color='black', linewidth=1)
        bars.set(yticks=[], ylim=(0, 1))
        bars.legend(loc='lower left', bbox_to_anchor=(0, 1), ncols=3, frameon=False)
        times, values = self._lines()
        for name, column, low, high in zip(self._names, values.T, *self._bounds):
            # Normalised to the limits, so that dimensions of different units share one plot.
            share = 2 * (column - low) / (high - low) - 1
            lines.plot(times, share, drawstyle='steps-post', linewidth=0.7, label=name)
        lines.set(xlabel='time [s]', ylabel='commands', yticks=[-1, 1], yticklabels=['low', 'high'])
        lines.grid(axis='y')
        lines.legend(loc='upper right')
        chosen = np.linspace(0, len(self._frames.items) - 1, count).round().astype(int)
        cells = bottom.subplots(rows, COLUMNS, squeeze=False).ravel()
        for cell in cells:
            cell.set_axis_off()
        for cell, index in zip(cells, chosen):
            time, image = self._frames.items[index]
            cell.imshow(image)
            cell.set_title(f'{time:.1f} s', fontsize=9)
        with atomic_write(path) as partial:
            figure.savefig(partial, dpi=100, format='png')
        pyplot.close(figure)
