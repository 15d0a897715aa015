# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""view_node: surprise as pictures and markers, drawn only while somebody looks."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from lewm_ros.bringup.compose import main_of
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM
from lewm_ros.nodes.markers import gauge
from lewm_ros.nodes.messages import header, image_message, numbers, stamp_of
from lewm_ros.nodes.parameters import Parameter, dynamic
from lewm_ros.nodes.qos import IMAGE_RELIABILITY
from lewm_ros.nodes.watching import WatchingNode
from lewm_ros.robot.imaging import from_message
from lewm_ros.time import NS_PER_S
from lewm_ros.view.camera import annotated
from lewm_ros.view.latent import Row, strips
from lewm_ros.view.plot import plot
from lewm_ros.view.trace import Snapshot


class ViewNode(WatchingNode):
    """Publishes view/image, view/plot, view/latent and view/marker to those who subscribe.

    Scores are always listened to, so that a plot has a past when it is opened. Frames, goal
    and latents are subscribed to only while the output that needs them is.
    """

    PARAMETERS = (
        *dynamic(
            Parameter('rate', 10.0, 'Pictures of each output per second, at most [Hz].', 1.0, 60.0),
            Parameter('seconds', 60.0, 'How far back plot and latents go [s].', 5.0, 600.0),
        ),
        Parameter(
            'frame_id',
            '',
            "Frame of everything published, RViz's fixed frame. Empty: the camera's own.",
        ),
        IMAGE_RELIABILITY,
    )

    def configure(self) -> None:
        """Read the contract and create the publishers."""
        self._contract = self.load_contract()
        self._outputs = {
            'image': self.publisher(Image, 'view/image', NEWEST),
            'plot': self.publisher(Image, 'view/plot', NEWEST),
            'latent': self.publisher(Image, 'view/latent', NEWEST),
            'marker': self.publisher(MarkerArray, 'view/marker', NEWEST),
        }

    def activate(self) -> None:
        """Listen to the scores, and look who looks."""
        self._frame: Any = None
        self._goal: Any = None
        self._latents: deque[Row] = deque()
        self._parts: deque[Row] = deque()
        self._frame_id: str = self.params['frame_id']
        self._wanted: dict[str, Any] = {}  # subscriptions that not every output needs, by topic
        self.rendered: Counter[str] = Counter()
        super().activate()
        self._worker = self.worker('view', self._draw)
        self._timer = self.every(1 / self.params['rate'], self._look)

    def changed(self) -> None:
        """Draw at the new rate, over the new span."""
        self._timer.timer_period_ns = NS_PER_S / self.params['rate']
        self.trace.span = self.params['seconds']

    def cleanup(self) -> None:
        """Drop what was kept for the next picture."""
        self.release('_frame', '_goal', '_latents', '_parts', 'trace')

    def report(self) -> dict[str, Any]:
        """How many pictures were drawn."""
        return {f'rendered: {name}': self.rendered[name] for name in self._outputs}

    def scored(self, stamp: int, parts: np.ndarray) -> None:
        """Keep the contributions."""
        self._keep(self._parts, stamp, parts)

    def _keep(self, rows: deque[Row], stamp: int, row: np.ndarray) -> None:
        if rows and stamp < rows[-1][0]:
            rows.clear()
        rows.append((stamp, row))
        while rows[0][0] < stamp - self.params['seconds'] * NS_PER_S:
            rows.popleft()

    def _look(self) -> None:
        """Ask for a picture of each output that somebody subscribes to."""
        looked_at = [n for n, output in self._outputs.items() if output.get_subscription_count()]
        self._want('image', 'image' in looked_at, self._listen_to_camera)
        self._want('goal_image/accepted', 'image' in looked_at, self._listen_to_goal)
        # The frame id comes with the latents: one of them is enough.
        self._want('latent', 'latent' in looked_at or not self._frame_id, self._listen_to_latents)
        if not looked_at:
            return
        snapshot = self.trace.snapshot(time.monotonic())
        head = header(self.trace.newest or self.now(), self._frame_id)
        text = None
        if self._latents and not self._frame_id:
            text = 'frames name no frame_id, RViz shows nothing without: set parameter frame_id'
        self.conditions.set('frame_id', text)
        draw: dict[str, Callable[[], Any]] = {
            'plot': lambda: image_message(plot(snapshot), head),
            'marker': lambda: gauge(snapshot, head),
        }
        if 'latent' in looked_at:
            rows = list(self._latents), list(self._parts)
            draw['latent'] = lambda: image_message(strips(*rows, snapshot), head)
        if 'image' in looked_at:
            draw['image'] = self._image_of(snapshot, head)
        for name in looked_at:
            self._worker.request((name, draw[name]), name)

    def _image_of(self, snapshot: Snapshot, head: Header) -> Callable[[], Image]:
        """Return what draws the frame and the goal that are there now."""
        frame, goal, camera = self._frame, self._goal, self._contract.camera

        def draw() -> Image:
            picture = None if frame is None else from_message(frame, camera.scale)
            aim = None if goal is None else from_message(goal, camera.scale)
            return image_message(
                annotated(picture, aim, camera.crop, snapshot),
                head if frame is None else header(stamp_of(frame), head.frame_id),
            )

        return draw

    def _draw(self, item: tuple[str, Callable[[], Any]]) -> None:
        name, draw = item
        message = draw()
        self.rendered[name] += 1
        self._outputs[name].publish(message)

    # Subscriptions that come and go

    def _want(self, topic: str, wanted: bool, listen: Callable[[], Any]) -> None:
        if wanted and topic not in self._wanted:
            self._wanted[topic] = listen()
        elif not wanted and topic in self._wanted:
            self.unsubscribe(self._wanted.pop(topic))
            if topic == 'image':
                self._frame = None  # an old picture would be shown as new at the next look

    def _listen_to_camera(self) -> Any:
        return self.subscribe_to_camera(self._contract.camera, self._on_image, depth=1)

    def _listen_to_goal(self) -> Any:
        return self.subscribe(Image, 'goal_image/accepted', self._on_goal, LATCHED)

    def _listen_to_latents(self) -> Any:
        return self.subscribe(Image, 'latent', self._on_latent, STREAM)

    def _on_image(self, message: Any, received: int) -> None:
        self._frame = message

    def _on_goal(self, message: Image, received: int) -> None:
        self._goal = message

    def _on_latent(self, message: Image, received: int) -> None:
        self._frame_id = self.params['frame_id'] or message.header.frame_id
        self._keep(self._latents, stamp_of(message) or received, numbers(message))


def main() -> int:
    """Run the node as a program."""
    return main_of('view_node')
