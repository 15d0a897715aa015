# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What surprise_node saves of an event: frames, commands, latents and scores before it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import cv2
from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message, serialize_message

from lewm_ros.bags.config import EvidenceConfig
from lewm_ros.bags.evidence import EvidenceFolder, Message, Ring
from lewm_ros.bags.layout import COMMAND, header_stamp
from lewm_ros.bags.writer import Channel
from lewm_ros.bundle import Bundle
from lewm_ros.errors import LewmError
from lewm_ros.nodes.base import LATCHED, STREAM, LewmNode
from lewm_ros.nodes.messages import frame_of, message_class
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.imaging import from_message, prepare
from lewm_ros.robot.settings import from_values
from lewm_ros.surprise.events import Event
from lewm_ros.view.imagination import Imagination

#: Largest size of the buffer in memory [bytes]: 640x480 at 30 Hz for nine seconds.
RING = 256e6
#: Events that may wait to be written.
WAITING = 4
#: The image beside the bag.
EXPECTED = 'expected.png'


class Evidence:
    """Buffers the topics of a bag while the node is active, and writes a bag when asked to.

    ``notes`` returns metadata of a bag whose event opens now. Raises BagError where the folder
    cannot be made.
    """

    def __init__(
        self,
        node: LewmNode,
        bundle: Bundle,
        contract: Contract,
        notes: Callable[[], dict[str, str]],
    ) -> None:
        config = from_values(EvidenceConfig, node.params)
        self.written = self.skipped = 0
        self._node = node
        self._notes = notes
        self._bundle, self._camera = bundle, contract.camera
        self._imagination: Imagination | None = None
        self._folder = EvidenceFolder(
            Path(config.evidence_folder).expanduser().absolute(),
            config.evidence_per_hour,
            config.evidence_mb * 1e6,
        )
        self._ring = Ring(config.evidence_seconds, RING)
        self._worker = node.worker('evidence', self._write, WAITING, finish=True)
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
            if topic == contract.camera.topic:
                self._images = channel
            node.subscribe(message_class(kind), topic, self._taker(channel), qos, raw=True)

    def save(
        self, event: Event, edge: DiagnosticArray, stamp: int, latents: np.ndarray | None
    ) -> None:
        """Write the current buffer and the edge to a bag in the background.

        Given latents (2, D), predicted and observed, and a decoder in the bundle, it also writes an
        image of them and of the frame at ``stamp`` [ns].
        """
        messages = self._ring.snapshot()
        messages.append((self._anomaly, self._node.now(), serialize_message(edge)))
        self._worker.request((event, messages, stamp, latents, self._notes()))

    def report(self) -> dict[str, Any]:
        """Figures for /diagnostics."""
        return {
            'evidence_written': self.written,
            'evidence_skipped': self.skipped + self._worker.skipped,
        }

    def _write(
        self, item: tuple[Event, list[Message], int, np.ndarray | None, dict[str, str]]
    ) -> None:
        written = False
        try:
            written = self._write_bag(*item)
        finally:
            self.written += written
            self.skipped += not written

    def _write_bag(
        self,
        event: Event,
        messages: list[Message],
        stamp: int,
        latents: np.ndarray | None,
        notes: dict[str, str],
    ) -> bool:
        """Write the bag of an event; return False where the limits of the folder forbid it."""
        refusal = self._folder.refusal(messages)
        self._node.conditions.set(
            'evidence', None if refusal is None else f'no evidence of anomaly {event.id}: {refusal}'
        )
        if refusal is not None:
            return False
        name = f'{datetime.now():%Y%m%d_%H%M%S}_{event.id}_{event.kind}'
        about = {COMMAND: f'evidence of anomaly {event.id} ({event.kind})', **notes}
        files = {}
        if latents is not None and self._bundle.manifest.decoder is not None:
            try:
                files[EXPECTED] = self._draw(latents, self._frame(messages, stamp))
            except LewmError as error:  # the bag is worth more than the image
                self._node.get_logger().warning(f'no {EXPECTED} of anomaly {event.id}: {error}')
        bag = self._folder.write(name, messages, about, files)
        self._node.get_logger().info(f'evidence of anomaly {event.id} is in {bag}')
        return True

    def _draw(self, latents: np.ndarray, frame: np.ndarray | None) -> bytes:
        if self._imagination is None:
            self._imagination = Imagination(self._bundle)
        image = self._imagination.expected(latents, frame)
        return cv2.imencode('.png', image[..., ::-1])[1].tobytes()

    def _frame(self, messages: list[Message], stamp: int) -> np.ndarray | None:
        """Find the frame of a stamp, preprocessed as for the model; None if it is missing."""
        kind, topic = message_class(self._camera.type), self._images.topic
        log = self._camera.stamp == 'log'
        data = frame_of(
            stamp,
            (
                (received if log else header_stamp(data) or received, data)
                for channel, received, data in messages
                if channel.topic == topic
            ),
        )
        if data is None:
            return None
        image = from_message(deserialize_message(data, kind), self._camera)
        return prepare(image, self._bundle.spec.image_size, self._camera.crop)

    def _channel(self, topic: str, kind: str, latched: bool) -> Channel:
        return Channel(self._node.resolve_topic_name(topic), kind, latched=latched)

    def _taker(self, channel: Channel) -> Callable[[bytes, int], None]:
        def take(data: bytes, received: int) -> None:
            self._ring.add(channel, received, data)

        return take
