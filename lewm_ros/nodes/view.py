# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""view_node: surprise and imagination as images and markers, drawn only for subscribers."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from visualization_msgs.msg import MarkerArray

from lewm_ros.bundle import Bundle
from lewm_ros.errors import LewmError, ModelError
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM
from lewm_ros.nodes.diagnostics import OK
from lewm_ros.nodes.goals import time_to_goal
from lewm_ros.nodes.markers import gauge
from lewm_ros.nodes.messages import frame_of, header, image_message, stamp_of, vectors
from lewm_ros.nodes.parameters import Parameter, parameters_of
from lewm_ros.nodes.qos import IMAGE_RELIABILITY
from lewm_ros.nodes.watching import WatchingNode
from lewm_ros.robot.imaging import from_message, prepare
from lewm_ros.time import NS_PER_S
from lewm_ros.view.camera import annotated
from lewm_ros.view.config import ViewConfig
from lewm_ros.view.imagination import Imagination
from lewm_ros.view.plot import plot
from lewm_ros.view.strip import notice
from lewm_ros.view.trace import Snapshot

#: Shortest time between two drawn plans [s].
PLAN_PERIOD = 0.5
#: Newest frames kept for the image of expected and observed frames.
FRAMES = 8


class ViewNode(WatchingNode):
    """Publishes view/image, plot, marker, plan and expected while they have subscribers.

    Scores are always recorded, so that a plot shows the past when it is opened. All other topics
    are subscribed to only while the outputs that need them have subscribers.
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
        self._bundle: Bundle | None = None
        if self.params['bundle']:
            self._bundle, self._contract = self.load_bundle()
        else:
            self._contract = self.load_contract()
        self._outputs = {
            'image': self.publisher(Image, 'view/image', NEWEST),
            'plot': self.publisher(Image, 'view/plot', NEWEST),
            'marker': self.publisher(MarkerArray, 'view/marker', NEWEST),
            'plan': self.publisher(Image, 'view/plan', NEWEST),
            'expected': self.publisher(Image, 'view/expected', LATCHED),
        }

    def activate(self) -> None:
        """Subscribe to the scores, and draw at the given rate."""
        self._frame: Any = None
        self._goal: Any = None
        self._time_to_goal = float('nan')
        self._frames: deque[Any] = deque(maxlen=FRAMES)
        self._plan: Image | None = None  # latents not drawn yet, like the next one
        self._expected: Image | None = None
        self._expected_drawn = 0  # stamp of the last one [ns]
        self._plan_drawn = float('-inf')  # when [s, steady]
        self._imagination: Imagination | None = None
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
        self.release('_frame', '_frames', '_goal', '_imagination', '_bundle', 'trace')

    def report(self) -> dict[str, Any]:
        """Count the images drawn."""
        return {f'rendered: {name}': self.rendered[name] for name in self._outputs}

    def _request(self) -> None:
        """Request an image of each output that has a subscriber."""
        wanted = [n for n, output in self._outputs.items() if output.get_subscription_count()]
        self._want('image', not {'image', 'expected'}.isdisjoint(wanted), self._listen_to_camera)
        self._want('plan/latents', 'plan' in wanted, self._listen_to_plans)
        self._want('surprise/expected', 'expected' in wanted, self._listen_to_expected)
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
            text = 'frames have no frame_id, which RViz needs: set parameter frame_id'
        self.conditions.set('frame_id', text)
        draw: dict[str, Callable[[], Any]] = {
            'plot': lambda: image_message(plot(snapshot), head),
            'marker': lambda: gauge(snapshot, head),
        }
        if 'image' in wanted:
            draw['image'] = self._image_of(snapshot, head)
        now = time.monotonic()
        if self._plan is not None and now - self._plan_drawn >= PLAN_PERIOD:
            latents, self._plan, self._plan_drawn = self._plan, None, now
            draw['plan'] = self._imagined(latents, lambda i, z: i.plan(z))
        if self._expected is not None:
            latents, self._expected = self._expected, None
            self._expected_drawn = stamp_of(latents)
            draw['expected'] = self._expected_of(latents)
        for name in draw.keys() & set(wanted):
            self._worker.request((name, draw[name]), name)

    def _image_of(self, snapshot: Snapshot, head: Header) -> Callable[[], Image]:
        """Return a function that draws the newest frame and the goal."""
        frame, goal, camera = self._frame, self._goal, self._contract.camera
        seconds = self._time_to_goal

        def draw() -> Image:
            image = None if frame is None else from_message(frame, camera)
            target = None if goal is None else from_message(goal, camera)
            return image_message(
                annotated(image, target, camera.crop, snapshot, seconds),
                head if frame is None else header(stamp_of(frame), head.frame_id),
            )

        return draw

    def _expected_of(self, latents: Image) -> Callable[[], Image]:
        """Return a function that draws the expected frame, and the observed one if available."""
        camera = self._contract.camera
        stamp = stamp_of(latents)
        found = frame_of(stamp, ((stamp_of(m), m) for m in self._frames))

        def draw(imagination: Imagination, both: np.ndarray) -> np.ndarray:
            frame = None
            if found is not None:
                image = from_message(found, camera)
                frame = prepare(image, imagination.decoder.size, camera.crop)
            return imagination.expected(both, frame)

        return self._imagined(latents, draw)

    def _imagined(
        self, latents: Image, draw: Callable[[Imagination, np.ndarray], np.ndarray]
    ) -> Callable[[], Image]:
        """Return a function that decodes and draws latents, or draws the reason why it cannot."""

        def imagine() -> Image:
            text = None
            try:
                if self._bundle is None:
                    raise ModelError("no decoder: parameter 'bundle' is empty")
                if self._imagination is None:
                    self._imagination = Imagination(self._bundle)
                size = self._bundle.manifest.latent_size
                image = draw(self._imagination, vectors(latents, size))
            except LewmError as error:
                text = str(error)
                image = notice(text)
            self.conditions.set('imagination', text, OK)
            return image_message(image, header(stamp_of(latents), self._frame_id))

        return imagine

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
                self._frames.clear()
            elif topic == 'plan/latents':
                self._plan = None

    def _listen_to_camera(self) -> Any:
        return self.subscribe_to_camera(self._contract.camera, self._on_image, depth=1)

    def _listen_to_goal(self) -> Any:
        return self.subscribe(Image, 'goal_image/accepted', self._on_goal, LATCHED)

    def _listen_to_goal_status(self) -> Any:
        return self.subscribe(DiagnosticArray, 'goal_status', self._on_goal_status, LATCHED)

    def _listen_to_plans(self) -> Any:
        return self.subscribe(Image, 'plan/latents', self._on_plan, NEWEST)

    def _listen_to_expected(self) -> Any:
        return self.subscribe(Image, 'surprise/expected', self._on_expected, LATCHED)

    def _listen_to_latents(self) -> Any:
        return self.subscribe(Image, 'latent', self._on_latent, STREAM)

    def _on_image(self, message: Any, received: int) -> None:
        self._frame = message
        if 'surprise/expected' in self._wanted:
            self._frames.append(message)

    def _on_plan(self, message: Image, received: int) -> None:
        self._plan = message

    def _on_expected(self, message: Image, received: int) -> None:
        if stamp_of(message) != self._expected_drawn:  # else it has come with a new subscription
            self._expected = message

    def _on_goal(self, message: Image, received: int) -> None:
        self._goal = message if message.width else None  # empty: the goal was cleared

    def _on_goal_status(self, message: DiagnosticArray, received: int) -> None:
        self._time_to_goal = time_to_goal(message)

    def _on_latent(self, message: Image, received: int) -> None:
        self._frame_id = self.params['frame_id'] or message.header.frame_id
        self._frame_id_missing = not self._frame_id
