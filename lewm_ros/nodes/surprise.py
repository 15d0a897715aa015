# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""surprise_node: compares each frame with the model's prediction from some blocks before."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Float32

from lewm_ros.api import SurpriseMonitor, require_calibration, thresholds_of
from lewm_ros.bags.config import EvidenceConfig
from lewm_ros.bundle import Calibration
from lewm_ros.engines import describe as describe_engine
from lewm_ros.errors import CalibrationError, ModelError
from lewm_ros.nodes.anomalies import (
    EVENTS,
    EdgePublisher,
    describe,
    edge_message,
    not_watching,
    nothing_open,
)
from lewm_ros.nodes.base import LATCHED, STREAM
from lewm_ros.nodes.figures import Rate, Recent
from lewm_ros.nodes.messages import header, vector_message
from lewm_ros.nodes.observer import ENGINE, ObserverNode
from lewm_ros.nodes.parameters import Parameter, parameters_of
from lewm_ros.nodes.peers import ONE_NODE
from lewm_ros.robot.history import History
from lewm_ros.robot.settings import from_values
from lewm_ros.surprise.config import SurpriseConfig
from lewm_ros.surprise.monitor import Edge

if TYPE_CHECKING:  # needs the extra [record]
    from lewm_ros.nodes.evidence import Evidence

#: Frames that may wait to be scored; more are dropped, the oldest first.
QUEUE = 32
#: How long a frame may wait before its context is dropped from the history [s].
QUEUE_SECONDS = 2.0
#: How often missing frames are checked for [s].
SILENCE_PERIOD = 0.1


class SurpriseNode(ObserverNode):
    """Scores every latent, and raises events above the calibrated thresholds.

    A worker scores frames and detects events; only missing frames are detected in callbacks.
    """

    PARAMETERS = (
        *ENGINE,
        Parameter('threads', 1, 'Threads of one prediction.', low=1, high=256),
        *parameters_of(SurpriseConfig),
        *parameters_of(EvidenceConfig),
    )

    def configure(self) -> None:
        """Load the model."""
        super().configure()
        self._make_monitor().warm_up()
        self._score = self.publisher(Float32, 'surprise', STREAM, alone=ONE_NODE)
        self._contributions = self.publisher(Image, 'surprise/contributions', STREAM)
        self._threshold = self.publisher(Float32, 'surprise/threshold', LATCHED)
        self._expected = self.publisher(Image, 'surprise/expected', LATCHED)
        self._anomaly = self.publisher(DiagnosticArray, 'anomaly', EVENTS)

    def activate(self) -> None:
        """Start to score and to watch."""
        self._scores = self._windows_missing = 0
        self._last_score = float('nan')
        self._score_ms, self._age_ms, self._score_rate = Recent(), Recent(), Rate()
        self._scored_in = self._gap_in = 0  # generations of the last score and frame
        self._monitor = self._make_monitor()
        self._edges = EdgePublisher(self._anomaly)
        self._evidence: Evidence | None = None
        self._adopt()
        self.every(SILENCE_PERIOD, self._look_for_silence)
        started = not_watching if self._calibration is None else nothing_open
        self._anomaly.publish(started(self.now()))
        self._evidence = self._make_evidence()
        self._worker = self.worker('surprise', self._work, QUEUE)
        super().activate()

    def make_history(self) -> History:
        """Return the monitor's history."""
        return self._monitor.history

    def check(self, values: dict[str, Any]) -> None:
        """Reject a change of alpha that would stop event detection."""
        if values['alpha'] != self.params['alpha']:
            found, about = self._look_up(values['alpha'], values['horizon'])
            if found is None:
                raise CalibrationError(f'{about}; a new calibration is read when this node starts')

    def deactivate(self) -> None:
        """Publish that this node has stopped watching."""
        self._anomaly.publish(not_watching(self.now()))

    def changed(self) -> None:
        """Switch to the new thresholds."""
        before = self._calibration
        self._adopt()
        if before is None and self._calibration is not None:
            self._anomaly.publish(nothing_open(self.now()))

    def cleanup(self) -> None:
        """Drop what holds memory."""
        super().cleanup()
        self.release('_evidence', '_monitor')

    def report(self) -> dict[str, Any]:
        """Figures of the scores."""
        found, monitor = self._calibration, self._monitor
        return {
            'scores': self._scores,
            'scores_hz': self._score_rate.hz,
            'score_last': self._last_score,
            'running_mean': float('nan') if monitor.mean is None else monitor.mean,
            'dropped': self._worker.skipped,
            'windows_missing': self._windows_missing,
            **self._score_ms.percentiles('score_ms', 50, 95),
            **self._age_ms.percentiles('score_age_ms', 50, 95),
            'events': sum(d.count for d in monitor.detectors),
            'event_open': monitor.open,
            **{f'events: {d.kind}': d.count for d in monitor.detectors if d.count},
            'threshold': float('nan') if found is None else found.threshold,
            'drift_threshold': float('nan') if found is None or not found.drift else found.drift,
            'alpha': self.params['alpha'],
            'horizon': self.params['horizon'],
            'calibration': self._about,
            'engine': describe_engine(self.engine),
            **super().report(),
            **({} if self._evidence is None else self._evidence.report()),
        }

    def engine_options(self) -> dict[str, Any]:
        """Ask for rollouts of the horizon."""
        return {'threads': self.params['threads'], 'horizon': self.params['horizon']}

    def observed(self, stamp: int, latent: np.ndarray) -> None:
        """Queue the latent for scoring, and note that a frame came."""
        now = time.monotonic()
        self._worker.request((self.generation, stamp, latent, now))
        if self.generation != self._gap_in:
            self._gap_in = self.generation
            self._publish_edges(self._monitor.reset_frames(stamp))
        self._publish_edges(self._monitor.frame(stamp, now))

    def _adopt(self) -> None:
        """Switch to the thresholds of the parameters; an open event stays open."""
        params, thresholds = self.params, None
        found, about = self._look_up(params['alpha'], params['horizon'])
        self._calibration, self._about = found, about
        self.conditions.set('calibration', about if found is None else None)
        if found is not None:
            thresholds = thresholds_of(found, from_values(SurpriseConfig, params))
            self._threshold.publish(Float32(data=found.threshold))
        self._publish_edges(self._monitor.adopt(thresholds, self.now()))

    def _look_up(self, alpha: float, horizon: int) -> tuple[Calibration | None, str]:
        """Return the calibration for ``alpha``, if any, and a text about it."""
        try:
            found = require_calibration(self.bundle, alpha, horizon)
        except (ModelError, CalibrationError) as error:
            return None, f'not calibrated: {error}; scores are published, events are not'
        window = 'one episode' if found.window is None else f'{found.window:g} s'
        drift = '' if found.drift else '; none for drift, which is not watched'
        return found, f'{found.windows} windows of {window} under {found.policy}{drift}'

    def _make_monitor(self) -> SurpriseMonitor:
        return SurpriseMonitor.of_bundle(
            self.bundle, self.contract, self.engine, None, self.params['horizon'], QUEUE_SECONDS
        )

    def _make_evidence(self) -> Evidence | None:
        if not self.params['evidence_folder']:
            return None
        from lewm_ros.nodes.evidence import Evidence  # needs the extra [record]

        def notes() -> dict[str, str]:
            return {'lewm_model': self.bundle.hash, 'lewm_calibration': self._about}

        return Evidence(self, self.bundle, self.contract, notes)

    def _look_for_silence(self) -> None:
        if self.generation == self._gap_in:
            self._publish_edges(self._monitor.silence(time.monotonic()))

    def _work(self, item: tuple[int, int, np.ndarray, float]) -> None:
        generation, stamp, latent, received = item
        if generation != self._scored_in:
            self._scored_in = generation
            self._publish_edges(self._monitor.reset_scores(stamp))
        with self.lock:
            if generation != self.generation:
                return
            transition = self.history.transition(stamp, self.params['horizon'])
        if transition is None:
            self._windows_missing += 1
            return
        reading = self._monitor.score(stamp, latent, *transition)
        self._contributions.publish(vector_message(reading.contributions, header(stamp)))
        self._score.publish(Float32(data=reading.score))
        self._scores += 1
        self._score_rate.add()
        self._last_score = reading.score
        self._score_ms.add(1000 * (time.monotonic() - received))
        self._age_ms.add((self.now() - stamp) / 1e6)
        self._publish_edges(reading.edges, np.stack([reading.predicted, latent]))

    def _publish_edges(self, edges: list[Edge], latents: np.ndarray | None = None) -> None:
        """Publish edges; those of a scored frame come with its latents (2, D).

        These are the predicted and the observed one.
        """
        for event, stamp, score in edges:
            self.conditions.set(event.kind, describe(event) if event.end is None else None)
            name, robot = self.get_fully_qualified_name(), self.contract.name
            edge = edge_message(event, stamp, score, name, robot)
            self._edges.publish(event, edge)
            if event.end is not None:
                continue
            if latents is not None:
                self._expected.publish(vector_message(latents, header(stamp)))
            if self._evidence is not None:
                self._evidence.save(event, edge, stamp, latents)
