# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""encoder_node: encodes each camera frame into a latent, once for all other nodes."""

from __future__ import annotations

import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from lewm_ros.engines import describe, load_engine
from lewm_ros.engines.encoding import FrameEncoder
from lewm_ros.errors import ModelError, ObservationError
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM, LewmNode
from lewm_ros.nodes.diagnostics import OK, values_of
from lewm_ros.nodes.figures import Rate, Reasons, Recent
from lewm_ros.nodes.frame_stamps import FrameStamps, silence_text
from lewm_ros.nodes.goals import encoding_text, read_goal_file
from lewm_ros.nodes.messages import header, image_message, stamp_of, to_time, vector_message
from lewm_ros.nodes.observer import ENGINE
from lewm_ros.nodes.parameters import Parameter
from lewm_ros.nodes.peers import ONE_CAMERA, ONE_NODE
from lewm_ros.nodes.qos import IMAGE_RELIABILITY
from lewm_ros.planning.goal import GoalState
from lewm_ros.robot.imaging import from_message, unstated_order
from lewm_ros.time import NS_PER_S

#: A silence of the camera is reported after this long [s].
FRAME_TIMEOUT = 2.0
#: The warning about bad frames ends after this time without one [s].
BAD_FRAME_HOLD = 2.0
#: Time after activation until latched goals have arrived [s].
DISCOVERY_TIME = 1.0


class EncoderNode(LewmNode):
    """Encodes camera frames and goal images on one worker; the newest of each wins.

    A goal arrives on ``goal_image`` or ``goal_image/compressed``, from a file, or by
    ``~/set_goal``; the worker always handles it. It waits for the first frame, whose size it must
    match. A refused goal changes nothing. The active goal is latched on ``goal_latent`` and, for
    display, on ``goal_image/accepted``, which only this node publishes.

    ``~/clear_goal`` replaces both by empty messages, as does the end of the goal by a timeout: the
    planner would take up the latched goal again when it is activated or restarted.

    A goal from before the node was active (the file, a latched image) counts only as a first goal.
    It waits while a planner has a goal, so that restarting this node does not change the active
    goal. It does not count if a goal was cleared since.
    """

    PARAMETERS = (
        *ENGINE,
        Parameter('threads', 1, 'Threads of one encoding.', low=1, high=256),
        IMAGE_RELIABILITY,
        Parameter(
            'goal_file',
            '',
            'PNG or JPEG of the whole camera image that is the first goal; empty: none.',
        ),
    )

    def configure(self) -> None:
        """Load the model and create the latent publishers."""
        self._bundle, self._contract = self.load_bundle()
        size = self._bundle.manifest.image_size
        name = self.params['goal_file']
        self._goal_file = read_goal_file(name, self._contract.camera, size) if name else None
        engine, threads, provider = (self.params[k] for k in ('engine', 'threads', 'provider'))
        self._engine = load_engine(self._bundle, engine, threads, provider=provider, horizon=1)
        self._engine.encode(np.zeros((size, size, 3), np.uint8))  # the first call is slow
        # First: the model hash is published before any goal.
        self._model = self.publisher(String, 'model', LATCHED)
        self._latent = self.publisher(Image, 'latent', STREAM, alone=ONE_NODE)
        self._goal_latent = self.publisher(Image, 'goal_latent', LATCHED)
        self._goal_image = self.publisher(Image, 'goal_image/accepted', LATCHED)
        self._goal_stamp: int | None = None  # of the latched goal [ns]
        self._cleared = 0  # when the last goal was cleared [ns]

    def activate(self) -> None:
        """Announce the model and start to encode."""
        self._frames = self._encoded = self._goals = 0
        self._bad = Reasons()
        self._encode_ms, self._age_ms = Recent(), Recent()
        self._frame_rate, self._latent_rate = Rate(), Rate()
        self._stamps = FrameStamps(self._bundle.manifest.camera_period)
        self._last_frame = time.monotonic()
        self._last_good: tuple[float, Any] | None = None  # when it came [s, steady], message
        self._last_bad = float('-inf')
        self._refusal = ''
        self._encoder = FrameEncoder(self._bundle.spec, self._contract.camera, self._engine)
        self._activated = time.time_ns(), time.monotonic()
        self._first_goal = 0  # when it was published [ns]
        self._last_goal = 0  # when the last message with a goal was published [ns]
        self._waiting: tuple[str, Any] | None = None  # kind and message of a goal
        self._planner_state: str | None = None  # state of its goal
        self._goal_services = [
            self.create_service(Trigger, f'~/{name}_goal', callback)
            for name, callback in (('set', self._on_set_goal), ('clear', self._on_clear_goal))
        ]
        self._worker = self.worker('encoder', self._encode)
        self._model.publish(String(data=self._bundle.hash))
        camera = self.subscribe_to_camera(self._contract.camera, self._on_image, 5, ONE_CAMERA)
        self._topic: str = camera.topic_name  # after remapping: the name that a user sees
        self._cameras = 0  # publishers of it, at the last check
        # Before a goal_image, which replaces it.
        if self._goal_file is not None and not self._cleared:
            self._request('first goal', self._goal_file)
        for kind, topic in (Image, 'goal_image'), (CompressedImage, 'goal_image/compressed'):
            # A latched goal needs a latched subscription, which no volatile publisher reaches.
            for qos in LATCHED, NEWEST:
                self.subscribe(kind, topic, self._on_goal, qos, published=True)
        self.subscribe(DiagnosticArray, 'goal_status', self._on_goal_status, LATCHED)
        self.every(0.5, self._watch)

    def deactivate(self) -> None:
        """End the services."""
        for service in self._goal_services:
            self.destroy_service(service)

    def cleanup(self) -> None:
        """Drop the model."""
        self.release('_engine', '_encoder', '_bundle', '_goal_file', '_last_good')

    def report(self) -> dict[str, Any]:
        """Figures of the encoder."""
        return {
            'frames': self._frames,
            'frames_hz': self._frame_rate.hz,
            'frame_age': time.monotonic() - self._last_frame,
            'latents_hz': self._latent_rate.hz,
            **self._age_ms.percentiles('latent_age_ms', 95),
            'encoded': self._encoded,
            'goals': self._goals,
            'skipped': self._worker.skipped,
            'bad_frames': self._bad.total,
            **self._bad.figures('bad'),
            **self._encode_ms.percentiles('encode_ms', 50, 95),
            'engine': describe(self._engine),
        }

    def _on_image(self, message: Any, received: int) -> None:
        self._frames += 1
        self._frame_rate.add()
        self._last_frame = time.monotonic()
        self._stamps.add(stamp_of(message), received)
        self._request('frame', message)

    def _on_goal(self, message: Image | CompressedImage, published: int) -> None:
        if published == self._last_goal:
            return  # a latched publisher reaches both subscriptions
        self._last_goal = published
        if stamp_of(message) == 0:
            message.header.stamp = to_time(published)
        if published >= self._activated[0]:
            self._request('goal', message)
        # Topics arrive in any order: the newer goal counts.
        elif published > max(self._first_goal, self._cleared):
            self._first_goal = published
            self._request('first goal', message)

    def _on_goal_status(self, message: DiagnosticArray, received: int) -> None:
        (status,) = message.status
        self._planner_state = status.message
        if status.message == GoalState.TIMEOUT.value:
            self._request('timeout', int(values_of(status).get('goal_stamp', 0)))

    def _on_set_goal(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        good = self._last_good
        if good is not None and time.monotonic() - good[0] <= FRAME_TIMEOUT:
            self._request('goal', good[1])
            response.success = True
            response.message = f'the frame of {stamp_of(good[1]) / NS_PER_S:.3f} s is the goal'
        else:
            response.message = (
                f'no frame on {self._topic} was encoded in the last {FRAME_TIMEOUT:g} s'
            )
            if time.monotonic() - self._last_bad <= FRAME_TIMEOUT:
                response.message += f': {self._refusal}'
        return response

    def _on_clear_goal(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        self._request('clear', self.now(), 'goal')  # it replaces a goal that was not encoded yet
        response.success, response.message = True, 'there is no goal any more'
        return response

    def _request(self, kind: str, message: Any, slot: str = '') -> None:
        self._worker.request((kind, message, time.monotonic()), slot or kind)

    def _encode(self, item: tuple[str, Any, float]) -> None:
        kind, message, came = item
        if kind == 'frame':
            self._encode_frame(message, came)
        elif kind == 'clear':
            self._waiting = None
            self.conditions.set('first goal', None, OK)
            self._clear_goal(message)
        elif kind == 'timeout':
            if message == self._goal_stamp:  # there is no newer goal
                self._clear_goal(message)
        elif kind == 'goal' or self._waiting is None or self._waiting[0] != 'goal':
            self._waiting = kind, message
        if self._waiting is None or self._last_good is None:
            return
        kind, message = self._waiting
        if kind == 'first goal':
            if time.monotonic() - self._activated[1] < DISCOVERY_TIME:
                return
            state = self._planner_state
            name = self.resolve_topic_name('goal_status')
            if state is None and self.count_publishers(name):
                return  # the planner will publish it
            if state not in (None, GoalState.NONE.value):
                text = (
                    'a goal from before activation is pending, because planner_node has one: '
                    'publish it again if it is new (clocks may differ)'
                )
                self.conditions.set('first goal', text, OK)
                return
        self._waiting = None
        self.conditions.set('first goal', None, OK)
        self._encode_goal(message, self._last_good[1])

    def _encode_frame(self, message: Any, came: float) -> None:
        started = time.monotonic()
        try:
            latent = self._encoder.frame(from_message(message, self._contract.camera))
        except (ObservationError, ModelError) as error:
            self._refuse('frame', str(error))
            self._refusal, self._last_bad = str(error), time.monotonic()
            return
        self._encoded += 1
        self._latent.publish(vector_message(latent, message.header))
        self._latent_rate.add()
        self._encode_ms.add(1000 * (time.monotonic() - started))
        self._age_ms.add((self.now() - stamp_of(message)) / 1e6)
        self._last_good = came, message
        if started - self._last_bad > BAD_FRAME_HOLD:
            self.conditions.set('bad frame', None)
        self.conditions.set('colour order', unstated_order(message, self._contract.camera))

    def _encode_goal(self, message: Any, frame: Any) -> None:
        try:
            image = from_message(message, self._contract.camera)
            latent = self._encoder.goal(image)
        except (ObservationError, ModelError) as error:
            self._refuse('goal', str(error))
            return
        self._goals += 1
        self._goal_stamp = stamp_of(message)
        self._goal_latent.publish(vector_message(latent, message.header))
        self._goal_image.publish(image_message(image, message.header))
        self.conditions.set('bad goal', None)
        self.conditions.set('goal encoding', encoding_text(message, frame, self._topic))

    def _clear_goal(self, stamp: int) -> None:
        """Latch empty messages; ``stamp`` [ns] is that of the goal if it timed out."""
        self._goal_stamp, self._cleared = None, time.time_ns()
        self._goal_latent.publish(vector_message(np.empty(0), header(stamp)))
        self._goal_image.publish(image_message(np.empty((0, 0, 3), np.uint8), header(stamp)))
        self.conditions.set('bad goal', None)
        self.conditions.set('goal encoding', None)

    def _refuse(self, kind: str, reason: str) -> None:
        self._bad.add(f'{kind}: {reason}')
        self.conditions.set(f'bad {kind}', f'{kind} image refused: {reason}')

    def _watch(self) -> None:
        silent = time.monotonic() - self._last_frame
        text = None
        if silent > FRAME_TIMEOUT:
            cameras = self.count_publishers(self._topic)
            text = silence_text(self._topic, silent, cameras, self._frames > 0)
            if cameras != self._cameras:
                self.conditions.clear('no frames')  # log it again: the remedy is another one
                self._cameras = cameras
            self._stamps.clear()
        self.conditions.set('no frames', text)
        self.conditions.set('frame rate', self._stamps.slow(self._topic))
        self.conditions.set('clock', self._stamps.other_clock(self._topic))
