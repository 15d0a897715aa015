# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""All anomaly detectors of a robot: surprise, drift, frozen camera, missing frames."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count
import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from lewm_ros.errors import ObservationError
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.history import Context, History
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.surprise.config import DEFAULTS, SurpriseConfig
from lewm_ros.surprise.events import Event, EventDetector
from lewm_ros.surprise.monitors import (
    FrameGap,
    FrozenCamera,
    RunningMean,
    commands_move,
)
from lewm_ros.surprise.score import contributions, predict
from lewm_ros.time import NS_PER_S

if TYPE_CHECKING:  # it is handed in
    from lewm_ros.engines import Engine


#: A gap is at least as long as this many periods of the camera.
PERIODS = 2


@dataclass(frozen=True)
class Thresholds:
    """Where events start and end."""

    surprise: float  #: score above which an event starts
    alpha: float  #: probability of a false alarm per calibration window, as calibrated
    drift: float | None = None  #: running mean above which drift starts; None: not watched
    config: SurpriseConfig = DEFAULTS  #: of when events end, and of the other monitors

    def detectors(self, ids: Iterator[int], period: float) -> dict[str, EventDetector]:
        """Make a detector of each kind; their events share the numbers.

        ``period`` is the time between frames [s].
        """
        config, gap = self.config, max(self.config.gap_seconds, PERIODS * period)
        made = [
            EventDetector('surprise', self.surprise, config.release, config.hold, self.alpha, ids),
            EventDetector('frozen_camera', config.frozen_seconds, 1.0, 0.0, ids=ids),
            EventDetector('frame_gap', gap, 1.0, 0.0, ids=ids),
        ]
        if self.drift is not None:
            # A mean is smooth: it needs no hysteresis.
            made.append(EventDetector('drift', self.drift, 1.0, config.hold, self.alpha, ids))
        return {detector.kind: detector for detector in made}


class Edge(NamedTuple):
    """An event that started, or ended where ``event.end`` is set."""

    event: Event
    stamp: int  #: of the frame at which it did [ns]
    score: float  #: of that frame, or the value that the detector compares


@dataclass(frozen=True)
class SurpriseReading:
    """What the monitor found at one frame."""

    stamp: int  #: of the frame [ns]
    score: float  #: surprise, the sum of the contributions; NaN without a whole window
    contributions: np.ndarray  #: (D,) float64; empty without a whole window
    predicted: np.ndarray  #: (D,) float32, the latent that was expected; empty likewise
    mean: float | None  #: running mean of the score, None until a whole span is there
    edges: list[Edge]  #: events that started or ended; mostly none


class SurpriseMonitor:
    """Scores frames and raises events above the calibrated thresholds.

    Used alone, it keeps the history itself: call :meth:`add_action` for every executed command and
    :meth:`update` for every frame. A node that scores in a separate thread calls the parts instead:
    :meth:`frame` and :meth:`silence` when frames arrive, :meth:`score` in the thread. These,
    :meth:`adopt` and the resets may be called from any thread; the rest may not.

    Args:
        spec: of the model that ``engine`` runs.
        contract: the robot.
        engine: from ``lewm_ros.engines.load_engine``, for at least ``horizon`` blocks.
        scale: (D,) nominal squared error of each dimension.
        thresholds: None for scores without events.
        horizon: how far ahead frames are predicted [blocks].
        ahead: how much longer the history is kept, for frames that wait to be scored [s].

    Attributes:
        history: latents and executed commands.
        mean: newest running mean of the score, or None.

    """

    def __init__(
        self,
        spec: ModelSpec,
        contract: Contract,
        engine: Engine,
        scale: np.ndarray,
        thresholds: Thresholds | None = None,
        horizon: int = SurpriseConfig.horizon,
        ahead: float = 0.0,
    ) -> None:
        self._spec, self._engine, self._scale, self._horizon = spec, engine, scale, horizon
        self._contract = contract
        self.history = History.of_model(spec, contract.action, horizon * spec.block + ahead)
        self._lock = threading.Lock()
        self._ids = count(1)
        self._mean, self._gap = RunningMean(), FrameGap()
        self.mean: float | None = None
        self._detectors: dict[str, EventDetector] = {}
        self._frozen = FrozenCamera(SurpriseConfig.frozen_seconds)
        self.adopt(thresholds, 0)

    def warm_up(self) -> None:
        """Predict once: the first call may take seconds."""
        spec = self._spec
        block = spec.frameskip * spec.contract.action.size
        latents = np.zeros((spec.history, spec.latent_size), np.float32)
        context = Context(0, latents, np.zeros((spec.history - 1, block)))
        predict(spec, self._engine, context, np.zeros((self._horizon, block)))

    def adopt(self, thresholds: Thresholds | None, stamp: int) -> list[Edge]:
        """Switch to other thresholds; open events stay open, or end if their detector is removed.

        ``stamp`` [ns] is the stamp of such an end.
        """
        made = {}
        if thresholds is not None:
            made = thresholds.detectors(self._ids, self._spec.camera_period)
        with self._lock:
            ended = []
            for kind, detector in self._detectors.items():
                if kind in made:
                    detector.adopt(made[kind])
                    made[kind] = detector
                else:
                    ended += _edges(detector.reset(), stamp, float('nan'))
            self._detectors = made
            if thresholds is not None:
                self._frozen.limit = thresholds.config.frozen_seconds
        return ended

    @property
    def detectors(self) -> list[EventDetector]:
        """All of them, to read their counts and events."""
        return list(self._detectors.values())

    @property
    def open(self) -> bool:
        """Whether an event is open."""
        return any(detector.event is not None for detector in self.detectors)

    def add_action(self, stamp: int, command: np.ndarray) -> None:
        """Note a command (A,), contract units, that takes effect at ``stamp`` [ns].

        Raises ObservationError unless it is A finite numbers.
        """
        command, size = np.asarray(command, dtype=float), self._contract.action.size
        if command.shape != (size,) or not np.isfinite(command).all():
            raise ObservationError(
                f'command is {command.tolist()}: expected {size} numbers, finite'
            )
        self.history.append_action(stamp, command)

    def update(self, stamp: int, latent: np.ndarray, now: float | None = None) -> SurpriseReading:
        """Score the frame of ``stamp`` [ns] by its latent (D,).

        Args:
            stamp: a frame that is not newer than the last one is not scored.
            latent: from the engine.
            now: when the frame arrived [s, steady]; None: at its stamp.

        """
        if not self.history.append_latent(stamp, latent):
            return self._unscored(stamp, [])
        edges = self.frame(stamp, stamp / NS_PER_S if now is None else now)
        transition = self.history.transition(stamp, self._horizon)
        if transition is None:
            return self._unscored(stamp, edges)
        found = self.score(stamp, latent, *transition)
        found.edges[:0] = edges
        return found

    def _unscored(self, stamp: int, edges: list[Edge]) -> SurpriseReading:
        return SurpriseReading(stamp, float('nan'), np.empty(0), np.empty(0), self.mean, edges)

    def reset(self, stamp: int) -> list[Edge]:
        """Forget everything, for a new episode whose first frame has this stamp [ns]."""
        self.history.clear()
        return self.reset_frames(stamp) + self.reset_scores(stamp)

    def frame(self, stamp: int, now: float) -> list[Edge]:
        """Note that the frame of ``stamp`` [ns] came at ``now`` [s, steady]."""
        with self._lock:
            detector = self._detectors.get('frame_gap')
            before = stamp if self._gap.newest is None else self._gap.newest
            pause = self._gap.frame(stamp, now)
            if detector is None:
                return []
            edges = _edges(detector.update(before, pause), before, pause)
            return edges + _edges(detector.update(stamp, 0.0), stamp, 0.0)

    def silence(self, now: float) -> list[Edge]:
        """Check for missing frames at ``now`` [s, steady] when no frame has arrived."""
        with self._lock:
            detector, newest = self._detectors.get('frame_gap'), self._gap.newest
            if detector is None or newest is None:
                return []
            silent = self._gap.silence(now)
            return _edges(detector.update(newest, silent), newest, silent)

    def score(
        self, stamp: int, latent: np.ndarray, context: Context, executed: np.ndarray
    ) -> SurpriseReading:
        """Score the frame of ``stamp`` [ns] against what the model predicts from the context.

        Args:
            stamp: of the frame.
            latent: (D,) its own.
            context: ``horizon`` blocks before it, see :meth:`History.transition`.
            executed: (horizon, k·A) commands since, contract units.

        """
        predicted = predict(self._spec, self._engine, context, executed)
        parts = contributions(predicted, latent, self._scale)
        score = float(parts.sum())
        commands = executed.reshape(-1, self._contract.action.size)
        moving = commands_move(commands, self._spec.action_std, self._contract.action.kind)
        edges = []
        with self._lock:
            self.mean = self._mean.update(stamp, score)
            seconds = self._frozen.update(stamp, latent, moving)
            for kind, value in (
                ('surprise', score),
                ('drift', self.mean),
                ('frozen_camera', seconds),
            ):
                if value is not None and kind in self._detectors:
                    edges += _edges(self._detectors[kind].update(stamp, value), stamp, value)
        return SurpriseReading(stamp, score, parts, predicted, self.mean, edges)

    def reset_frames(self, stamp: int) -> list[Edge]:
        """Begin a new episode at ``stamp`` [ns] for :meth:`frame` and :meth:`silence`."""
        with self._lock:
            self._gap.reset()
            return self._end(('frame_gap',), stamp, 0.0)

    def reset_scores(self, stamp: int) -> list[Edge]:
        """Begin a new episode at ``stamp`` [ns] for :meth:`score`."""
        with self._lock:
            self._mean.reset()
            self._frozen.reset()
            self.mean = None
            return self._end(('surprise', 'drift', 'frozen_camera'), stamp, float('nan'))

    def _end(self, kinds: Iterable[str], stamp: int, score: float) -> list[Edge]:
        found = [self._detectors[kind] for kind in kinds if kind in self._detectors]
        return [edge for d in found for edge in _edges(d.reset(), stamp, score)]


def _edges(events: list[Event], stamp: int, score: float) -> list[Edge]:
    return [Edge(event, stamp, score) for event in events]
