# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From a stream of surprise scores to events with a start, a peak and an end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count
import math

from lewm_ros.errors import CalibrationError
from lewm_ros.surprise.config import SurpriseConfig
from lewm_ros.time import NS_PER_S

#: Kinds of anomalies: a frame that the model did not predict; a running mean of the score above
#: nominal; a frozen image although commands should move the robot; no frames.
KINDS = ('surprise', 'drift', 'frozen_camera', 'frame_gap')
#: Those whose score is a time [s].
TIMED = ('frozen_camera', 'frame_gap')


@dataclass(frozen=True)
class Event:
    """One anomaly. Stamps are those of the frames [ns]."""

    id: int  #: 1, 2, ... in the order of their start, over all kinds
    kind: str  #: one of :data:`KINDS`
    start: int  #: first score above the threshold
    peak: int  #: highest score so far
    peak_score: float
    threshold: float
    alpha: float | None  #: false-alarm probability per window that the threshold guarantees
    end: int | None = None  #: first of the low scores that ended it; None while it lasts


class EventDetector:
    """Starts an event above a threshold; ends it after some time below a lower threshold.

    Args:
        kind: of its events. Their score is the surprise, its running mean, or [s] for
            :data:`TIMED`.
        threshold: of the score; an event starts above it.
        release: fraction of the threshold; scores below it are low.
        hold: how long scores must stay low until an event ends [s].
        alpha: noted in the events.
        ids: where events get their numbers from, if several detectors share them.

    Raises CalibrationError for values that make no sense.

    """

    def __init__(
        self,
        kind: str,
        threshold: float,
        release: float = SurpriseConfig.release,
        hold: float = SurpriseConfig.hold,
        alpha: float | None = None,
        ids: Iterator[int] | None = None,
    ) -> None:
        if not (math.isfinite(threshold) and threshold > 0):
            raise CalibrationError(f'threshold is {threshold}: expected a finite score above 0')
        if not 0 < release <= 1:
            raise CalibrationError(f'release is {release}: expected a fraction in (0, 1]')
        if not (math.isfinite(hold) and hold >= 0):
            raise CalibrationError(f'hold is {hold} s: expected a finite time, 0 or above')
        self.kind = kind
        self.threshold = threshold
        self.release = release
        self.hold = hold
        self.alpha = alpha
        self.event: Event | None = None  #: the open one
        self.count = 0  #: events so far
        self._ids = count(1) if ids is None else ids
        self._newest = 0
        self._low_since: int | None = None

    def update(self, stamp: int, score: float) -> list[Event]:
        """Take the score of the frame at ``stamp`` [ns].

        A NaN score counts as infinite, because a broken observation is not normal. A stamp before
        the last one (a clock jump) ends the event first.

        Returns:
            The edges, usually none: an event with ``end`` None if one starts, with ``end`` set if
            one ended.

        """
        score = math.inf if math.isnan(score) else float(score)
        edges = self.reset() if stamp < self._newest else []
        self._newest = stamp
        if self.event is None:
            if score > self.threshold:
                self.count += 1
                self.event = Event(
                    next(self._ids), self.kind, stamp, stamp, score, self.threshold, self.alpha
                )
                self._low_since = None
                edges.append(self.event)
            return edges
        if score > self.event.peak_score:
            self.event = replace(self.event, peak=stamp, peak_score=score)
        if score >= self.release * self.threshold:
            self._low_since = None
            return edges
        if self._low_since is None:
            self._low_since = stamp
        if stamp - self._low_since >= self.hold * NS_PER_S:
            edges.append(self._finish(self.event, self._low_since))
        return edges

    def adopt(self, other: EventDetector) -> None:
        """Take over the threshold, release, hold and alpha of another detector."""
        self.threshold, self.release = other.threshold, other.release
        self.hold, self.alpha = other.hold, other.alpha

    def reset(self) -> list[Event]:
        """End an open event at the last stamp (new episode). Returns its edge, if any."""
        edges = [] if self.event is None else [self._finish(self.event, self._newest)]
        self._newest = 0
        return edges

    def _finish(self, event: Event, end: int) -> Event:
        self.event = None
        return replace(event, end=end)
