# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""encoder_node: each camera frame becomes a latent, once, for everything that follows."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
from std_msgs.msg import String

from lewm_ros.engines import describe, load_engine
from lewm_ros.errors import ModelError, ObservationError
from lewm_ros.imaging import from_message, prepare
from lewm_ros.nodes.base import LATCHED, STREAM, LewmNode
from lewm_ros.nodes.compose import main_of
from lewm_ros.nodes.diagnostics import Reasons, Recent
from lewm_ros.nodes.messages import (
    message_class,
    stamp_of,
    to_time,
    vector_message,
)
from lewm_ros.nodes.observer import ENGINE
from lewm_ros.nodes.parameters import Parameter

#: A silence of the camera is reported after this long [s].
SILENCE = 2.0


class EncoderNode(LewmNode):
    """Encodes camera frames and goal images on one worker; the newest frame wins."""

    PARAMETERS = (
        *ENGINE,
        Parameter('threads', 1, 'Threads of one encoding.', low=1, high=256),
        Parameter(
            'image_reliability',
            'best_effort',
            'QoS of the camera subscription; reliable needs a reliable publisher.',
            choices=('best_effort', 'reliable'),
        ),
    )

    def configure(self) -> None:
        """Load the model and create the latent publishers."""
        self._bundle, self._contract = self.load_bundle()
        self._engine = load_engine(
            self._bundle,
            self.params['engine'],
            self.params['threads'],
            provider=self.params['provider'],
            horizon=1,
        )
        size = self._bundle.manifest.image_size
        self._engine.encode(np.zeros((size, size, 3), np.uint8))  # the first call is slow
        self._latent = self.publisher(Image, 'latent', STREAM)
        self._goal_latent = self.publisher(Image, 'goal_latent', LATCHED)
        self._model = self.publisher(String, 'model', LATCHED)

    def activate(self) -> None:
        """Announce the model and start to encode."""
        self._frames = self._encoded = self._goals = 0
        self._bad = Reasons()
        self._encode_ms = Recent()
        self._last_frame = time.monotonic()
        self._unstamped = False
        self._worker = self.worker('encoder', self._encode)
        reliable = self.params['image_reliability'] == 'reliable'
        qos = QoSProfile(
            depth=5,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        )
        kind = message_class(self._contract.camera.type)
        topic = 'image' if kind is Image else 'image/compressed'
        # Resolved by hand: the name that a user looks for is the one after remapping.
        self._topic = self.resolve_topic_name(topic)
        self._model.publish(String(data=self._bundle.hash))
        self.subscribe(kind, topic, self._on_image, qos)
        self.subscribe(Image, 'goal_image', self._on_goal, LATCHED)
        self.every(0.5, self._watch)

    def cleanup(self) -> None:
        """Drop the engine."""
        self._engine = None  # type: ignore[assignment]

    def report(self) -> dict[str, Any]:
        """Figures of the encoder."""
        return {
            'frames': self._frames,
            'encoded': self._encoded,
            'goals': self._goals,
            'skipped': self._worker.skipped,
            'bad_frames': self._bad.total,
            **self._bad.figures('bad'),
            'encode_ms_p50': self._encode_ms.percentile(50),
            'encode_ms_p95': self._encode_ms.percentile(95),
            'engine': describe(self._engine),
            'bundle': self._bundle.hash[:12],
        }

    def _on_image(self, message: Any, received: int) -> None:
        self._frames += 1
        self._last_frame = time.monotonic()
        if stamp_of(message) == 0:
            message.header.stamp = to_time(received)
            if not self._unstamped:
                self._unstamped = True
                self.get_logger().warning(
                    f'frames on {self._topic} have no stamp: their receive time is used instead'
                )
        self._worker.request(('frame', message), 'frame')

    def _on_goal(self, message: Image, received: int) -> None:
        if stamp_of(message) == 0:
            message.header.stamp = to_time(received)
        self._worker.request(('goal', message), 'goal')

    def _encode(self, item: tuple[str, Any]) -> None:
        kind, message = item
        started = time.monotonic()
        try:
            size = self._bundle.manifest.image_size
            camera = self._contract.camera
            picture = prepare(from_message(message, camera.scale), size, camera.crop)
            latent = self._engine.encode(picture)
            if not np.isfinite(latent).all():
                raise ModelError('the encoder returned numbers that are not finite')
        except (ObservationError, ModelError) as error:
            self._bad.add(f'{kind}: {error}')
            self.conditions.set(f'bad {kind}', f'{kind} image refused: {error}')
            return
        self.conditions.set(f'bad {kind}', None)
        stamped = vector_message(latent, message.header)
        if kind == 'goal':
            self._goals += 1
            self._goal_latent.publish(stamped)
        else:
            self._encoded += 1
            self._latent.publish(stamped)
            self._encode_ms.add(1000 * (time.monotonic() - started))

    def _watch(self) -> None:
        silent = time.monotonic() - self._last_frame
        text = None
        if silent > SILENCE:
            text = (
                f'no frames on {self._topic} for {silent:.0f} s '
                f'(publishers: {self.count_publishers(self._topic)})'
            )
        self.conditions.set('no frames', text)


def main() -> int:
    """Run the node as a program."""
    return main_of('encoder_node')
