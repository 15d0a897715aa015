# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Base class of the nodes that display surprise; no other node depends on them."""

from __future__ import annotations

import math
import time

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from std_msgs.msg import Float32

from lewm_ros.nodes.anomalies import ENDED, EVENTS
from lewm_ros.nodes.base import LATCHED, STREAM, LewmNode
from lewm_ros.nodes.diagnostics import values_of
from lewm_ros.nodes.messages import numbers, stamp_of
from lewm_ros.view.trace import SILENT_AFTER, Anomaly, Trace

#: Topic of the scores: unlike the plain number on ``surprise`` it is stamped.
SCORES = 'surprise/contributions'
#: Node whose diagnostics hold alpha and the calibration.
SOURCE = 'surprise_node'


class WatchingNode(LewmNode):
    """Keeps a trace of the outputs of surprise_node: ``self.trace``."""

    def activate(self) -> None:
        """Start with an empty trace."""
        self.trace = Trace(self.params['seconds'])
        self._began = time.monotonic()
        self._first_score: float | None = None  # when it was heard [s, steady]
        self._source = f'{self.get_namespace()}/{SOURCE}'.lstrip('/')
        self.subscribe(Image, SCORES, self._on_scores, STREAM)
        self.subscribe(Float32, 'surprise/threshold', self._on_threshold, LATCHED)
        self.subscribe(DiagnosticArray, 'anomaly', self._on_anomaly, EVENTS)
        self.subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, STREAM)

    def silence(self) -> str | None:
        """Name the silent topic and its number of publishers; None while scores arrive."""
        snapshot = self.trace.snapshot(time.monotonic())
        seconds = min(snapshot.silent, time.monotonic() - self._began)
        if seconds <= SILENT_AFTER:
            return None
        name = self.resolve_topic_name(SCORES)
        return (
            f'no scores on {name} for {seconds:.0f} s (publishers: {self.count_publishers(name)})'
        )

    def _on_scores(self, message: Image, received: int) -> None:
        parts = numbers(message)
        stamp = stamp_of(message) or received
        heard = time.monotonic()
        self.trace.add(stamp, float(parts.sum()), heard)
        if self._first_score is None:
            self._first_score = heard

    def _on_threshold(self, message: Float32, received: int) -> None:
        self.trace.threshold = message.data

    def _on_anomaly(self, message: DiagnosticArray, received: int) -> None:
        if not message.status and message.header.frame_id != ENDED:
            self.trace.nothing_open(stamp_of(message))
        for status in message.status:
            values = values_of(status)
            end = values.get('end')
            self.trace.note(
                Anomaly(
                    kind=values.get('kind') or 'surprise',
                    id=values.get('id', ''),
                    start=int(values.get('start') or stamp_of(message)),
                    end=int(end) if end else None,
                    peak_score=_number(values.get('peak_score')),
                )
            )

    def _on_diagnostics(self, message: DiagnosticArray, received: int) -> None:
        for status in message.status:
            if status.name == self._source:
                values = values_of(status)
                alpha = _number(values.get('alpha'))
                self.trace.alpha = alpha if math.isfinite(alpha) else None
                # The topic is latched: a value from an earlier node does not apply to this one.
                if 'threshold' in values and math.isnan(_number(values['threshold'])):
                    self.trace.threshold = None


def _number(text: str | None) -> float:
    """Read a figure of a message; NaN where there is none."""
    try:
        return float(text or 'nan')
    except ValueError:
        return math.nan
