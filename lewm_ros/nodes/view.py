# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""view_node: surprise as images and markers, drawn only for subscribers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from lewm_ros.bringup.compose import main_of
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM
from lewm_ros.nodes.goals import time_to_goal
from lewm_ros.nodes.markers import gauge
from lewm_ros.nodes.messages import header, image_message, stamp_of
from lewm_ros.nodes.parameters import Parameter, parameters_of
from lewm_ros.nodes.qos import IMAGE_RELIABILITY
from lewm_ros.nodes.watching import WatchingNode
from lewm_ros.robot.imaging import from_message
from lewm_ros.time import NS_PER_S
from lewm_ros.view.camera import annotated
from lewm_ros.view.config import ViewConfig
from lewm_ros.view.plot import plot
from lewm_ros.view.trace import Snapshot


class ViewNode(WatchingNode):
    """Publishes view/image, view/plot and view/marker while they have subscribers.

    Scores are always recorded, so that a plot shows the past when it is opened. Frames and goal
    are subscribed to only while view/image has a subscriber.
    """

    PARAMETERS = (
        *parameters_of(ViewConfig),
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
            'marker': self.publisher(MarkerArray, 'view/marker', NEWEST),
        }

    def activate(self) -> None:
        """Subscribe to the scores, and draw at the given rate."""
        self._frame: Any = None
        self._goal: Any = None
        self._time_to_goal = float('nan')
        self._frame_id: str = self.params['frame_id']
        self._frame_id_missing = False  # a latent came without one
        self._wanted: dict[str, Any] = {}  # subscriptions that not every output needs, by topic
        self.rendered: Counter[str] = Counter()
        super().activate()
        self._worker = self.worker('view', self._draw)
        self._timer = self.every(1 / self.params['rate'], self._request)

    def changed(self) -> None:
        """Draw at the new rate, over the new span."""
        self._timer.timer_period_ns = NS_PER_S / self.params['rate']
        self.trace.span = self.params['seconds']

    def cleanup(self) -> None:
        """Drop what was kept for the next image."""
        self.release('_frame', '_goal', 'trace')

    def report(self) -> dict[str, Any]:
        """Count the images drawn."""
        return {f'rendered: {name}': self.rendered[name] for name in self._outputs}

    def _request(self) -> None:
        """Request an image of each output that has a subscriber."""
        wanted = [n for n, output in self._outputs.items() if output.get_subscription_count()]
        self._want('image', 'image' in wanted, self._listen_to_camera)
        self._want('goal_image/accepted', 'image' in wanted, self._listen_to_goal)
        self._want('goal_status', 'image' in wanted, self._listen_to_goal_status)
        # The frame id comes with the latents: one of them is enough.
        self._want('latent', not self._frame_id, self._listen_to_latents)
        if not wanted:
            return
        snapshot = self.trace.snapshot(time.monotonic())
        head = header(self.trace.newest or self.now(), self._frame_id)
        text = None
        if self._frame_id_missing:
            text = 'frames name no frame_id, RViz shows nothing without: set parameter frame_id'
        self.conditions.set('frame_id', text)
        draw: dict[str, Callable[[], Any]] = {
            'plot': lambda: image_message(plot(snapshot), head),
            'marker': lambda: gauge(snapshot, head),
        }
        if 'image' in wanted:
            draw['image'] = self._image_of(snapshot, head)
        for name in wanted:
            self._worker.request((name, draw[name]), name)

    def _image_of(self, snapshot: Snapshot, head: Header) -> Callable[[], Image]:
        """Return a function that draws the newest frame and the goal."""
        frame, goal, camera = self._frame, self._goal, self._contract.camera
        seconds = self._time_to_goal

        def draw() -> Image:
            image = None if frame is None else from_message(frame, camera.scale)
            target = None if goal is None else from_message(goal, camera.scale)
            return image_message(
                annotated(image, target, camera.crop, snapshot, seconds),
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
                self._frame = None  # else the next subscriber would get an old image

    def _listen_to_camera(self) -> Any:
        return self.subscribe_to_camera(self._contract.camera, self._on_image, depth=1)

    def _listen_to_goal(self) -> Any:
        return self.subscribe(Image, 'goal_image/accepted', self._on_goal, LATCHED)

    def _listen_to_goal_status(self) -> Any:
        return self.subscribe(DiagnosticArray, 'goal_status', self._on_goal_status, LATCHED)

    def _listen_to_latents(self) -> Any:
        return self.subscribe(Image, 'latent', self._on_latent, STREAM)

    def _on_image(self, message: Any, received: int) -> None:
        self._frame = message

    def _on_goal(self, message: Image, received: int) -> None:
        self._goal = message

    def _on_goal_status(self, message: DiagnosticArray, received: int) -> None:
        self._time_to_goal = time_to_goal(message)

    def _on_latent(self, message: Image, received: int) -> None:
        self._frame_id = self.params['frame_id'] or message.header.frame_id
        self._frame_id_missing = not self._frame_id


def main() -> int:
    """Run the node as a program."""
    return main_of('view_node')
