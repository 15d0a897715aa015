# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What surprise_node saves of an event: frames, commands, latents and scores before it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message

from lewm_ros.bags.config import EvidenceConfig
from lewm_ros.bags.evidence import EvidenceFolder, Message, Ring
from lewm_ros.bags.layout import COMMAND
from lewm_ros.bags.writer import Channel
from lewm_ros.nodes.base import LATCHED, STREAM, LewmNode
from lewm_ros.nodes.messages import message_class
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.settings import from_values
from lewm_ros.surprise.events import Event

#: What is kept in memory at most [bytes]: 640x480 at 30 Hz for nine seconds.
RING = 256e6
#: Events that may wait to be written.
WAITING = 4


class Evidence:
    """Listens to the topics of a bag while the node is active, and writes one when asked to.

    Raises BagError where the folder cannot be made.
    """

    def __init__(self, node: LewmNode, contract: Contract, notes: dict[str, str]) -> None:
        config = from_values(EvidenceConfig, node.params)
        self.written = self.skipped = 0
        self._node = node
        self._notes = notes
        self._folder = EvidenceFolder(
            Path(config.evidence_folder).expanduser().absolute(),
            config.evidence_per_hour,
            config.evidence_mb * 1e6,
        )
        self._ring = Ring(config.evidence_seconds, RING)
        self._worker = node.worker('evidence', self._write, WAITING)
        frames = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        applied = contract.action.applied
        image, number = 'sensor_msgs/msg/Image', 'std_msgs/msg/Float32'
        self._anomaly = self._channel(
            'anomaly', 'diagnostic_msgs/msg/DiagnosticArray', latched=True
        )
        for topic, kind, qos in (
            (contract.camera.topic, contract.camera.type, frames),
            (applied.topic, applied.type, STREAM),
            ('latent', image, STREAM),
            ('surprise', number, STREAM),
            ('surprise/contributions', image, STREAM),
            ('surprise/threshold', number, LATCHED),
            ('episode', 'std_msgs/msg/UInt32', LATCHED),
        ):
            channel = self._channel(topic, kind, latched=qos is LATCHED)
            node.subscribe(message_class(kind), topic, self._taker(channel), qos, raw=True)

    def save(self, event: Event, edge: DiagnosticArray) -> None:
        """Have what is in memory now written, and the edge with it. Does not wait."""
        messages = self._ring.snapshot()
        messages.append((self._anomaly, self._node.now(), serialize_message(edge)))
        self._worker.request((event, messages))

    def report(self) -> dict[str, Any]:
        """Figures for /diagnostics."""
        return {
            'evidence_written': self.written,
            'evidence_skipped': self.skipped + self._worker.skipped,
        }

    def _write(self, item: tuple[Event, list[Message]]) -> None:
        event, messages = item
        refusal = self._folder.refusal(messages)
        self._node.conditions.set(
            'evidence', None if refusal is None else f'no evidence of anomaly {event.id}: {refusal}'
        )
        if refusal is not None:
            self.skipped += 1
            return
        name = f'{datetime.now():%Y%m%d_%H%M%S}_{event.id}_{event.kind}'
        about = {COMMAND: f'evidence of anomaly {event.id} ({event.kind})', **self._notes}
        bag = self._folder.write(name, messages, about)
        self.written += 1
        self._node.get_logger().info(f'evidence of anomaly {event.id} is in {bag}')

    def _channel(self, topic: str, kind: str, latched: bool) -> Channel:
        return Channel(self._node.resolve_topic_name(topic), kind, latched=latched)

    def _taker(self, channel: Channel) -> Callable[[bytes, int], None]:
        def take(data: bytes, received: int) -> None:
            self._ring.add(channel, received, data)

        return take
