# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""surprise_node: how far each frame is from what the model foresaw one block before."""

from __future__ import annotations

from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import Float32

from lewm_ros.engines import describe
from lewm_ros.errors import BundleError
from lewm_ros.nodes.base import LATCHED, STREAM
from lewm_ros.nodes.compose import main_of
from lewm_ros.nodes.diagnostics import OK, WARN
from lewm_ros.nodes.messages import header, to_time, vector_message
from lewm_ros.nodes.observer import ENGINE, ObserverNode
from lewm_ros.nodes.parameters import Parameter
from lewm_ros.surprise.events import Event, EventDetector
from lewm_ros.surprise.score import contributions, predict

#: Frames that may wait to be scored; more are dropped, the oldest first.
QUEUE = 32
#: The last events reach a late joiner too.
EVENTS = QoSProfile(
    depth=10,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class SurpriseNode(ObserverNode):
    """Scores every latent and raises events above the calibrated threshold."""

    AHEAD = 2.0

    PARAMETERS = (
        *ENGINE,
        Parameter('threads', 1, 'Threads of one prediction.', low=1, high=256),
        Parameter(
            'alpha',
            0.01,
            'Chance of a false alarm per calibration window; the bundle must be calibrated for it.',
            low=0.0001,
            high=0.5,
        ),
        Parameter('release', 0.5, 'An event ends below this part of the threshold.', 0.01, 1.0),
        Parameter('hold', 0.5, 'after that many seconds below it [s].', 0.0, 60.0),
    )

    def configure(self) -> None:
        """Load the model and look the threshold up."""
        super().configure()
        manifest = self.bundle.manifest
        scale = manifest.surprise_scale
        self._scale = np.ones(manifest.latent_size) if scale is None else np.array(scale)
        self._threshold, self._calibration = self._look_up(self.params['alpha'])
        self._score = self.publisher(Float32, 'surprise', STREAM)
        self._contributions = self.publisher(Image, 'surprise/contributions', STREAM)
        self._threshold_publisher = self.publisher(Float32, 'surprise/threshold', LATCHED)
        self._anomaly = self.publisher(DiagnosticArray, 'anomaly', EVENTS)

    def activate(self) -> None:
        """Start to score."""
        self._scores = self._windows_missing = 0
        self._last_score = float('nan')
        self._scored_in = 0  # generation of the last score
        self._detector: EventDetector | None = None
        if self._threshold is None:
            self.conditions.set('calibration', self._calibration)
        else:
            self._detector = EventDetector(
                self._threshold, self.params['release'], self.params['hold'], self.params['alpha']
            )
            self._threshold_publisher.publish(Float32(data=self._threshold))
        self._worker = self.worker('surprise', self._work, QUEUE)
        super().activate()

    def report(self) -> dict[str, Any]:
        """Figures of the scores."""
        return {
            'scores': self._scores,
            'score_last': self._last_score,
            'dropped': self._worker.skipped,
            'windows_missing': self._windows_missing,
            'events': 0 if self._detector is None else self._detector.count,
            'event_open': self._detector is not None and self._detector.event is not None,
            'threshold': float('nan') if self._threshold is None else self._threshold,
            'alpha': self.params['alpha'],
            'calibration': self._calibration,
            'engine': describe(self.engine),
            'bundle': self.bundle.hash[:12],
        }

    def _look_up(self, alpha: float) -> tuple[float | None, str]:
        """Return the threshold for ``alpha``, if any, and a text about it."""
        try:
            found = self.bundle.calibration_for(alpha)
        except BundleError as error:
            return None, f'not calibrated: {error}'
        if found is None:
            known = [c.alpha for c in self.bundle.manifest.calibration]
            return None, (
                f'not calibrated: bundle {self.bundle.path} has thresholds for alpha {known}, not '
                f'for {alpha:g}; scores are published, events are not (`lewm calibrate`)'
            )
        return found.threshold, (
            f'{found.windows} windows of {found.window:g} s under {found.policy}'
        )

    def observed(self, stamp: int, latent: np.ndarray) -> None:
        """Queue the latent for scoring."""
        self._worker.request((self.generation, stamp, latent))

    def _work(self, item: tuple[int, int, np.ndarray]) -> None:
        generation, stamp, latent = item
        if generation != self._scored_in:
            self._scored_in = generation
            if self._detector is not None:
                self._raise(self._detector.reset(), stamp, float('nan'))
        with self.lock:
            if generation != self.generation:
                return
            transition = self.history.transition(stamp)
        if transition is None:
            self._windows_missing += 1
            return
        predicted = predict(self.bundle, self.engine, *transition)
        self._publish(stamp, contributions(predicted, latent, self._scale))

    def _publish(self, stamp: int, parts: np.ndarray) -> None:
        score = float(parts.sum())
        self._scores += 1
        self._last_score = score
        self._contributions.publish(vector_message(parts, header(stamp)))
        self._score.publish(Float32(data=score))
        if self._detector is not None:
            self._raise(self._detector.update(stamp, score), stamp, score)

    def _raise(self, edges: list[Event], stamp: int, score: float) -> None:
        for event in edges:
            opened = event.end is None
            seconds = 0.0 if event.end is None else (event.end - event.start) / 1e9
            text = (
                f'anomaly {event.id} opened: surprise {score:.3g} above {event.threshold:.3g}'
                if opened
                else f'anomaly {event.id} closed after {seconds:.2f} s, peak {event.peak_score:.3g}'
            )
            self.get_logger().warning(text)
            self._anomaly.publish(self._event_message(event, stamp, score, text))

    def _event_message(self, event: Event, stamp: int, score: float, text: str) -> DiagnosticArray:
        values = {
            'id': event.id,
            'start': event.start,
            'peak': event.peak,
            'peak_score': event.peak_score,
            'end': '' if event.end is None else event.end,
            'score': score,
            'threshold': event.threshold,
            'alpha': event.alpha,
            'frame_stamp': stamp,
        }
        status = DiagnosticStatus(
            level=WARN if event.end is None else OK,
            name=f'{self.get_fully_qualified_name().lstrip("/")}: anomaly',
            message=text,
            hardware_id=self.contract.name,
            values=[KeyValue(key=k, value=str(v)) for k, v in values.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = to_time(stamp)
        return message


def main() -> int:
    """Run the node as a program."""
    return main_of('surprise_node')
