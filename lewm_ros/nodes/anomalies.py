# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The topic ``anomaly``: its QoS profile, its messages, and the open anomalies they describe."""

from __future__ import annotations

import threading
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy

from lewm_ros.nodes.diagnostics import OK, WARN, values_of
from lewm_ros.nodes.messages import header
from lewm_ros.surprise.events import TIMED, Event
from lewm_ros.time import NS_PER_S

#: The last edges reach a late joiner too.
EVENTS = QoSProfile(
    depth=32,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
#: ``header.frame_id`` of the message of a node that does not watch.
ENDED = 'ended'


def nothing_open(stamp: int) -> DiagnosticArray:
    """Make the message of a node that starts watching at ``stamp`` [ns]; it has no status."""
    return DiagnosticArray(header=header(stamp))


def not_watching(stamp: int) -> DiagnosticArray:
    """Make the message of a node that does not watch, at ``stamp`` [ns]; open events stay open."""
    return DiagnosticArray(header=header(stamp, ENDED))


def describe(event: Event) -> str:
    """Describe an edge in words."""
    unit = ' s' if event.kind in TIMED else ''
    if event.end is None:
        return (
            f'anomaly {event.id} opened: {event.kind} {event.peak_score:.3g}{unit} above '
            f'{event.threshold:.3g}{unit}'
        )
    seconds = (event.end - event.start) / NS_PER_S
    return (
        f'anomaly {event.id} closed: {event.kind} for {seconds:.2f} s, '
        f'peak {event.peak_score:.3g}{unit}'
    )


def edge_message(event: Event, stamp: int, score: float, node: str, robot: str) -> DiagnosticArray:
    """Make the message of an event that opened or closed; one status, its values by name.

    Args:
        event: its ``end`` is None where it opened.
        stamp: of the frame at which it did [ns].
        score: of that frame.
        node: full name of the node that saw it.
        robot: name of the contract.

    """
    values = {
        'id': event.id,
        'kind': event.kind,
        'start': event.start,
        'peak': event.peak,
        'peak_score': event.peak_score,
        'end': event.end,
        'score': score,
        'threshold': event.threshold,
        'alpha': event.alpha,
        'frame_stamp': stamp,
    }
    status = DiagnosticStatus(
        level=WARN if event.end is None else OK,
        name=f'{node.lstrip("/")}: anomaly',
        message=describe(event),
        hardware_id=robot,
        values=[KeyValue(key=k, value='' if v is None else str(v)) for k, v in values.items()],
    )
    return DiagnosticArray(header=header(stamp), status=[status])


class EdgePublisher:
    """Publishes edges so that a late joiner still receives all open events.

    The topic keeps only its last messages, so the opening edge of an open event is published again
    before edges of other events displace it. Safe to call from any thread.

    Args:
        publisher: of the topic, with :data:`EVENTS`.

    """

    def __init__(self, publisher: Any) -> None:
        self._publisher = publisher
        self._lock = threading.Lock()
        self._open: dict[int, DiagnosticArray] = {}
        self._sent: dict[int, int] = {}  # number of the message in which it was last published
        self._count = 0  # messages

    def publish(self, event: Event, edge: DiagnosticArray) -> None:
        """Publish the edge of an event."""
        with self._lock:
            self._publish(event.id, edge)
            if event.end is None:
                self._open[event.id] = edge
            else:
                self._open.pop(event.id, None)
                self._sent.pop(event.id)
            oldest = min(self._sent.values(), default=self._count)
            if self._count - oldest + len(self._open) >= EVENTS.depth:
                for number, message in self._open.items():
                    self._publish(number, message)

    def _publish(self, number: int, message: DiagnosticArray) -> None:
        self._publisher.publish(message)
        self._count += 1
        self._sent[number] = self._count


class OpenAnomalies:
    """Anomalies that are open according to the messages so far; false if there are none.

    Attributes:
        watched: whether a node is watching, according to the newest message.

    """

    def __init__(self) -> None:
        self.watched = False
        self._open: dict[str, str] = {}  # id → kind

    def take(self, message: DiagnosticArray) -> list[dict[str, str]]:
        """Process an edge, or a node that starts or stops watching; return newly opened values."""
        opened = []
        self.watched = bool(message.status) or message.header.frame_id != ENDED
        if not message.status and self.watched:
            self._open.clear()
        for status in message.status:
            values = values_of(status)
            if values['end']:
                self._open.pop(values['id'], None)
                continue
            if values['id'] not in self._open:
                opened.append(values)
            self._open[values['id']] = values['kind']
        return opened

    def __bool__(self) -> bool:
        return bool(self._open)

    def __str__(self) -> str:
        return ', '.join(f'anomaly {number} ({kind})' for number, kind in self._open.items())
