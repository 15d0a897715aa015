# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How well events are detected against normal operation: AUROC, detection rates, delays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lewm_ros.evaluation.intervals import wilson
from lewm_ros.surprise.events import Event
from lewm_ros.time import NS_PER_S

RESAMPLES = 2000  #: of a bootstrap


@dataclass(frozen=True)
class Trial:
    """An episode with an event, or the same episode without one.

    Attributes:
        began: stamp of the first frame after it happened [ns].
        shown: stamp of the first frame that can show it [ns].
        stamps: (n,) int64 [ns] of the frames with a score.
        scores: (n,) their surprise.
        events: of each detector by kind, in the order of their start.
        strangest: the frame with the highest score in the second after ``shown``: its latents
            (2, D), predicted and observed, and its image (S, S, 3) uint8.

    """

    began: int
    shown: int
    stamps: np.ndarray
    scores: np.ndarray
    events: dict[str, list[Event]]
    strangest: tuple[np.ndarray, np.ndarray] | None = None

    def peak(self, start: int, seconds: float) -> float:
        """Highest score of the frames in ``seconds`` [s] from ``start`` [ns] on."""
        inside = (self.stamps >= start) & (self.stamps <= start + seconds * NS_PER_S)
        return float(self.scores[inside].max())

    def detection(self, kind: str, start: int, seconds: float) -> int | None:
        """Start [ns] of the detector's first event in the ``seconds`` [s] after ``start`` [ns]."""
        end = start + seconds * NS_PER_S
        return next((e.start for e in self.events[kind] if start <= e.start <= end), None)

    def alarmed(self) -> bool:
        """Whether a surprise alarm was already active when the event became visible."""
        return any(
            e.start < self.shown and (e.end is None or e.end > self.shown)
            for e in self.events['surprise']
        )

    def frames(self, start: int, stop: int) -> int:
        """Frames with a score from one stamp to another."""
        return int(np.diff(np.searchsorted(self.stamps, [start, stop]))[0])


def auroc(high: np.ndarray, low: np.ndarray) -> float:
    """Chance that one of ``high`` (n,) is above one of ``low`` (m,); a tie counts half."""
    return float(_wins(high, low).mean())


def auroc_interval(high: np.ndarray, low: np.ndarray, seed: int) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of :func:`auroc` (Efron & Tibshirani 1993, ch. 13).

    Trials are resampled: entry i of both (n,) belongs to trial i, and they stay together. Returns
    None where no resample differs, as at an AUROC of 1, about which resampling tells nothing.
    """
    count = len(high)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES)
    values = (drawn @ _wins(high, low) * drawn).sum(axis=1) / count**2
    below, above = np.percentile(values, [2.5, 97.5])
    return (float(below), float(above)) if below < above else None


def _wins(high: np.ndarray, low: np.ndarray) -> np.ndarray:
    return (high[:, None] > low) + 0.5 * (high[:, None] == low)


def detection_figures(
    trials: Sequence[Trial], normal: Sequence[Trial], seconds: float, seed: int
) -> dict[str, Any]:
    """Figures of surprise for one kind of event.

    Args:
        trials: with the event.
        normal: the same ones without it.
        seconds: how long scores and alarms count, from the first frame that can show the event
            on [s]. An alarm that was already active is not a detection.
        seed: of the bootstrap.

    """
    peaks = np.array([t.peak(t.shown, seconds) for t in trials])
    quiet = np.array([n.peak(t.shown, seconds) for t, n in zip(trials, normal, strict=True)])
    found = [(t, t.detection('surprise', t.shown, seconds)) for t in trials]
    delays = [t.frames(t.shown, start) for t, start in found if start is not None]
    interval = auroc_interval(peaks, quiet, seed)
    low, high = interval or (None, None)
    return {
        'auroc': auroc(peaks, quiet),
        'auroc_low': low,
        'auroc_high': high,
        **share('detected', len(delays), len(trials)),
        'delay_frames_median': float(np.median(delays)) if delays else None,
        'alarmed_before': sum(t.alarmed() for t in trials),
        'n': len(trials),
    }


def monitor_figures(trials: Sequence[Trial], kind: str, seconds: float) -> dict[str, Any]:
    """Figures of another detector in ``seconds`` [s] from the first frame after the event on."""
    found = [(t, t.detection(kind, t.began, seconds)) for t in trials]
    delays = [(start - t.began) / NS_PER_S for t, start in found if start is not None]
    return {
        'kind': kind,
        **share('detected', len(delays), len(trials)),
        'delay_seconds_median': float(np.median(delays)) if delays else None,
        'delay_seconds_max': max(delays, default=None),
    }


def share(name: str, count: int, total: int) -> dict[str, float]:
    """Return a share and its 95 % interval (Wilson) as NAME, NAME_low, NAME_high."""
    low, high = wilson(count, total)
    return {name: count / total, f'{name}_low': low, f'{name}_high': high}
