# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A figure of surprise over time around each kind of event, as in the LeWorldModel paper."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from lewm_ros.evaluation.detection import Trial
from lewm_ros.time import NS_PER_S
from lewm_ros.view.imagination import Imagination

BEFORE = 2.0  #: of an event, what is drawn [s]
COLUMNS = 4


def draw(
    target: Path,
    kinds: dict[str, list[Trial]],
    normal: Sequence[Trial],
    threshold: float,
    period: float,
) -> None:
    """Draw a PNG: for each kind the median score and the quartiles, and those of no event.

    Time 0 is the first frame that can show the event; ``period`` [s] is that between frames.
    """
    from matplotlib.figure import Figure

    columns = min(COLUMNS, len(kinds))
    rows = -(-len(kinds) // columns)
    figure = Figure(figsize=(3.2 * columns + 1, 2.6 * rows + 0.6), layout='constrained')
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes, (kind, trials) in zip(grid.flat, kinds.items()):
        starts = [t.shown for t in trials]
        after = min((t.stamps[-1] - t.shown) / NS_PER_S for t in trials)
        frames = np.arange(-round(BEFORE / period), int(after / period) + 1)
        for name, of, colour in (('no event', normal, 'C7'), (kind, trials, 'C1')):
            scores = np.stack([_aligned(t, s, frames, period) for t, s in zip(of, starts)])
            low, median, high = np.nanpercentile(scores, [25, 50, 75], axis=0)
            axes.fill_between(frames * period, low, high, color=colour, alpha=0.3, linewidth=0)
            axes.plot(frames * period, median, color=colour, linewidth=1.2, label=name)
        axes.axhline(threshold, color='C3', linestyle='--', linewidth=1, label='threshold')
        axes.axvline(0, color='black', linewidth=0.6, alpha=0.6)
        axes.set_title(kind.replace('_', ' '))
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter('{x:g}')
        axes.grid(alpha=0.3)
    for axes in grid.flat[len(kinds) :]:
        axes.set_visible(False)
    for axes in grid[:, 0]:
        axes.set_ylabel('surprise')
    for axes in grid[-1]:
        axes.set_xlabel('time [s]')
    lines, labels = grid[0, 0].get_legend_handles_labels()
    labels[1] = 'event'
    figure.legend(lines, labels, loc='outside upper right', ncols=3, frameon=False)
    figure.savefig(target, dpi=120, format='png')


def draw_expected(target: Path, kinds: dict[str, list[Trial]], imagination: Imagination) -> None:
    """Draw a PNG: for each kind what was predicted and observed at the first trial's peak score."""
    rows = [
        imagination.expected(*trials[0].strangest, name=kind.replace('_', ' '))
        for kind, trials in kinds.items()
        if trials[0].strangest is not None
    ]
    cv2.imwrite(str(target), np.concatenate(rows)[..., ::-1])


def _aligned(trial: Trial, start: int, frames: np.ndarray, period: float) -> np.ndarray:
    """Score of each frame counted from ``start`` [ns] on, NaN where there is none."""
    place = np.rint((trial.stamps - start) / NS_PER_S / period).astype(int) - frames[0]
    inside = (place >= 0) & (place < len(frames))
    row = np.full(len(frames), np.nan)
    row[place[inside]] = trial.scores[inside]
    return row
