# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The last seconds of surprise: scores, threshold, anomalies, level."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, replace
from enum import Enum

import numpy as np

from lewm_ros.surprise.events import TIMED
from lewm_ros.time import NS_PER_S

#: Time without a score after which the level is 'no scores' [s].
SILENT_AFTER = 2.0
#: Scores above this fraction of the threshold are 'raised'.
RAISED = 0.5
#: Anomalies kept; the oldest that have ended are dropped first.
MAX_ANOMALIES = 100


class Level(Enum):
    """State of the robot, as a word."""

    SILENT = 'no scores'
    UNCALIBRATED = 'not calibrated'
    NORMAL = 'normal'
    RAISED = 'raised'
    ANOMALY = 'ANOMALY'


@dataclass(frozen=True)
class Anomaly:
    """One event on the topic ``anomaly``. Stamps in [ns]."""

    kind: str  #: surprise, or the monitor that raised it
    id: str
    start: int
    end: int | None = None  #: None while it lasts
    peak_score: float = float('nan')

    @property
    def peak_text(self) -> str:
        """Its peak: a score, a mean of scores, or a time; empty if unknown."""
        if np.isnan(self.peak_score):
            return ''
        return f'peak {show(self.peak_score)}{" s" if self.kind in TIMED else ""}'


@dataclass(frozen=True)
class Snapshot:
    """The trace at one moment, to be drawn.

    Attributes:
        now: the moment, on the clock of the stamps [ns].
        span: how far back scores reach [s].
        times: (n,) float64, of each score before ``now`` [s], from -span to 0.
        scores: (n,) float64; may be NaN or inf.
        threshold: of an event, None while not calibrated.
        alpha: false-alarm rate per window that the threshold was calibrated for, or None.
        anomalies: oldest first.
        level: of the newest score.
        silent: since the last score [s]; inf if there was none.

    """

    now: int
    span: float
    times: np.ndarray
    scores: np.ndarray
    threshold: float | None
    alpha: float | None
    anomalies: tuple[Anomaly, ...]
    level: Level
    silent: float

    @property
    def score(self) -> float:
        """The newest score; NaN if there is none within the span."""
        return float(self.scores[-1]) if self.scores.size else float('nan')

    @property
    def rate(self) -> float:
        """Scores per second [Hz] over the last ten; 0 where they have stopped."""
        recent = self.times[-11:]
        if recent.size < 2 or recent[-1] <= recent[0] or self.silent > SILENT_AFTER:
            return 0.0
        return float((recent.size - 1) / (recent[-1] - recent[0]))

    @property
    def open(self) -> tuple[Anomaly, ...]:
        """The anomalies that have not ended."""
        return tuple(a for a in self.anomalies if a.end is None)

    def ago(self, stamp: int) -> float:
        """Return the time from ``now`` to a stamp [s], negative in the past."""
        return (stamp - self.now) / NS_PER_S

    def headline(self) -> str:
        """One line of text, without the level."""
        return '   '.join(self.texts())

    def texts(self) -> list[str]:
        """Score, threshold, open anomalies and their duration, time without scores."""
        parts = [f'surprise {show(self.score)}']
        if text := self.threshold_text():
            parts.append(text)
        elif self.level is Level.UNCALIBRATED:
            parts.append('no threshold, no events')
        if self.open:
            lasting = -min(self.ago(a.start) for a in self.open)
            kinds = ', '.join(sorted({a.kind for a in self.open}))
            since = f' for {lasting:.1f} s' if self.now else ''  # else no score has come yet
            parts.append(f'open{since}: {kinds}')
        if SILENT_AFTER < self.silent < float('inf'):
            parts.append(f'no scores for {self.silent:.0f} s')
        return parts

    def threshold_text(self) -> str:
        """The threshold with its alpha; empty while there is none."""
        if self.threshold is None:
            return ''
        promise = '' if self.alpha is None else f' (alpha {self.alpha:g})'
        return f'threshold {show(self.threshold)}{promise}'


def show(score: float) -> str:
    """Format a score with three significant digits; from 1000 on without an exponent."""
    if not np.isfinite(score):
        return '--' if np.isnan(score) else 'infinite'
    return f'{score:.3g}' if abs(score) < 1000 else f'{score:.0f}'


class Trace:
    """Collects scores and anomalies. Not thread safe: hand snapshots to other threads.

    The current time is the newest stamp plus the time since it was received. A camera with another
    clock, or a bag, is thus drawn correctly. A stamp that goes back (a clock jump, a bag that
    starts over) clears scores and anomalies.

    Args:
        span: how far back scores are kept [s].

    """

    def __init__(self, span: float) -> None:
        self.span = span
        self.threshold: float | None = None
        self.alpha: float | None = None
        self._scores: deque[tuple[int, float]] = deque()
        self._anomalies: dict[tuple[str, str, int], Anomaly] = {}
        self.newest = 0  #: stamp of the newest score [ns]; 0 if there is none
        self._heard = 0.0  # when, on the steady clock [s]

    def add(self, stamp: int, score: float, heard: float) -> None:
        """Add the score of the frame at ``stamp`` [ns], received at ``heard`` [s, steady]."""
        if stamp < self.newest:
            self._scores.clear()
            self._anomalies.clear()
        self.newest, self._heard = stamp, heard
        self._scores.append((stamp, score))
        while self._scores[0][0] < stamp - self.span * NS_PER_S:
            self._scores.popleft()

    def note(self, anomaly: Anomaly) -> None:
        """Add the start or end of an anomaly."""
        self._anomalies[anomaly.kind, anomaly.id, anomaly.start] = anomaly
        while len(self._anomalies) > MAX_ANOMALIES:
            ended = [key for key, known in self._anomalies.items() if known.end is not None]
            del self._anomalies[min(ended or self._anomalies, key=lambda key: key[2])]

    def nothing_open(self, stamp: int) -> None:
        """End all open anomalies: surprise_node was started at ``stamp`` [ns]."""
        for key, known in self._anomalies.items():
            if known.end is None:
                self._anomalies[key] = replace(known, end=max(known.start, stamp))

    def snapshot(self, heard: float) -> Snapshot:
        """Return the trace at ``heard`` [s, steady]."""
        silent = heard - self._heard if self.newest else float('inf')
        now = self.newest + round(silent * NS_PER_S) if self.newest else 0
        kept = [(s, v) for s, v in self._scores if s >= now - self.span * NS_PER_S]
        anomalies = tuple(sorted(self._anomalies.values(), key=lambda a: a.start))
        return Snapshot(
            now=now,
            span=self.span,
            times=np.array([(s - now) / NS_PER_S for s, _ in kept]),
            scores=np.array([v for _, v in kept], dtype=float),
            threshold=self.threshold,
            alpha=self.alpha,
            anomalies=anomalies,
            level=self._level(silent, anomalies),
            silent=silent,
        )

    def _level(self, silent: float, anomalies: tuple[Anomaly, ...]) -> Level:
        if any(a.end is None for a in anomalies):
            return Level.ANOMALY  # also while silent: a gap of frames is one
        if silent > SILENT_AFTER:
            return Level.SILENT
        if self.threshold is None:
            return Level.UNCALIBRATED
        calm = self._scores[-1][1] < RAISED * self.threshold  # false for NaN
        return Level.NORMAL if calm else Level.RAISED
