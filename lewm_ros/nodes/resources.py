# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Resources of a node while configured or active: topics, timers, workers, guarded callbacks.

Publishers live from configure to cleanup; subscriptions, timers and workers from activate to
deactivate. They are created and destroyed here, so that no thread or callback outlives its
lifecycle state.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import time
import traceback
from typing import TYPE_CHECKING, Any

import numpy as np
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from lewm_ros.errors import LewmError, ObservationError
from lewm_ros.nodes.diagnostics import ERROR, Conditions
from lewm_ros.nodes.messages import message_class, stamp_of, to_time
from lewm_ros.nodes.qos import Endpoints, image_qos
from lewm_ros.nodes.worker import Worker
from lewm_ros.robot.contract import Camera, Contract
from lewm_ros.robot.fields import read_fields
from lewm_ros.time import NS_PER_S

if TYPE_CHECKING:  # older distributions have no name for it
    from rclpy.subscription import MessageInfo

#: Newest messages of a topic for which the number of bad ones is reported.
RECENT = 100
#: Commands and plans: only the newest counts.
NEWEST = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE)
#: Streams in which every message counts.
STREAM = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
#: Facts that a late joiner must get: goal, model, episode, threshold.
LATCHED = QoSProfile(
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


class ResourceNode(LifecycleNode):
    """A lifecycle node that keeps track of its resources.

    Attributes:
        conditions: what is wrong at the moment; logged on change, shown in /diagnostics.
        callback_errors: how many callbacks and jobs of workers raised.

    """

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.callback_errors = 0
        self.conditions = Conditions(self)
        self._endpoints = Endpoints(self, self.conditions)
        self._publishers_made: list[Any] = []
        self._subscriptions_made: list[Any] = []
        self._timers_made: list[Any] = []
        self._workers: list[Worker] = []
        self._finishing: list[Worker] = []
        self._unstamped: set[str] = set()  # camera topics
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)

    @property
    def params(self) -> dict[str, Any]:
        """Parameter values by name."""
        raise NotImplementedError

    def now(self) -> int:
        """Return the node's time [ns]: the system's, or the simulation's under use_sim_time."""
        return self.get_clock().now().nanoseconds

    def publisher(self, kind: type, topic: str, qos: QoSProfile, **expected: str) -> Any:
        """Create a publisher that lives until cleanup and is silent while inactive.

        ``expected``: the remedies ``alone`` and ``heard`` of :class:`~lewm_ros.nodes.qos.Endpoint`.
        """
        create = self.create_lifecycle_publisher
        publisher = self._endpoints.publisher(create, kind, topic, qos, **expected)
        self._publishers_made.append(publisher)
        return publisher

    def subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any, int], None],
        qos: QoSProfile,
        remedy: str = '',
        published: bool = False,
        **options: Any,
    ) -> Any:
        """Subscribe until deactivation; the callback gets the message and receive time [ns].

        With ``published`` it gets the time of publication on the system clock instead, which a
        latched message keeps. Pass the returned object to :meth:`unsubscribe` to end it earlier.

        ``qos`` is the default of ROS's override parameters, unless ``remedy`` gives another
        remedy for incompatible QoS. ``options`` are rclpy's, such as ``raw=True`` for
        serialised bytes, and ``alone`` of :class:`~lewm_ros.nodes.qos.Endpoint`.
        """
        guarded = self._guarded(callback, f'on {topic}')

        def receive(message: Any, info: MessageInfo) -> None:
            if published:
                guarded(message, info.get('source_timestamp') or time.time_ns())
                return
            now = self.now()
            received = info.get('received_timestamp') or now
            # The middleware stamps on arrival, before the executor gets to the message, but on
            # the system clock, which is not the node's under use_sim_time.
            guarded(message, received if 0 <= now - received < NS_PER_S else now)

        subscription = self._endpoints.subscription(kind, topic, receive, qos, remedy, **options)
        self._subscriptions_made.append(subscription)
        return subscription

    def subscribe_to_camera(
        self, camera: Camera, callback: Callable[[Any, int], None], depth: int, alone: str = ''
    ) -> Any:
        """Subscribe to ``image`` or ``image/compressed`` with the QoS of image_reliability.

        Where the contract says ``stamp: log``, or a frame has no stamp, it gets its receive time.
        """

        def stamped(message: Any, received: int) -> None:
            unstamped = stamp_of(message) == 0 and camera.stamp != 'log'
            if unstamped or camera.stamp == 'log':
                message.header.stamp = to_time(received)
            if unstamped and topic not in self._unstamped:
                self._unstamped.add(topic)
                self.get_logger().warning(
                    f'frames on {self.resolve_topic_name(topic)} have no stamp: their receive '
                    'time is used instead'
                )
            callback(message, received)

        kind = message_class(camera.type)
        topic = 'image' if kind is Image else 'image/compressed'
        qos = image_qos(self.params['image_reliability'], depth)
        remedy = 'set parameter image_reliability to best_effort'
        return self.subscribe(kind, topic, stamped, qos, remedy, alone=alone)

    def subscribe_to_pose(self, robot: Contract, callback: Callable[[np.ndarray], None]) -> None:
        """Subscribe to the measured position (A,) of each action dimension, if the state has it.

        Messages of other joints, such as a gripper's on the same topic, are ignored.
        """
        pose = robot.pose
        if pose is None:
            return
        fields = pose.fields

        def read(message: Any, received: int) -> None:
            try:
                values = read_fields(message, fields)
            except ObservationError:
                return
            callback(values)

        self.subscribe(message_class(pose.type), pose.topic, read, STREAM)

    def unsubscribe(self, subscription: Any) -> None:
        """End a subscription of :meth:`subscribe`."""
        self._subscriptions_made.remove(subscription)
        self._endpoints.forget(subscription.topic_name, 'subscription')
        self.destroy_subscription(subscription)

    def every(self, period: float, callback: Callable[[], None]) -> Any:
        """Call back every ``period`` [s] of the steady clock, until deactivation."""
        timer = self.create_timer(period, self._guarded(callback), clock=self._steady)
        self._timers_made.append(timer)
        return timer

    def worker(
        self, name: str, work: Callable[[Any], None], capacity: int = 1, finish: bool = False
    ) -> Worker:
        """Start a worker that is stopped at deactivation.

        With ``finish`` it goes on with what was requested until then; see :meth:`finish_work`.
        """

        def failed(error: Exception) -> None:
            self._note_error(f'{name} failed', error)

        def guarded(item: Any) -> None:
            work(item)
            self.conditions.set(f'{name} failed', None)

        worker: Worker = Worker(f'{self.get_name()}.{name}', guarded, failed, capacity, finish)
        self._workers.append(worker)
        return worker

    def _list_topics(self) -> str:
        """Name the topics, for the log."""
        heard, published = (
            ' '.join(dict.fromkeys(endpoint.topic_name for endpoint in made)) or 'nothing'
            for made in (self._subscriptions_made, self._publishers_made)
        )
        return f'subscribes to {heard}; publishes {published}'

    def _destroy_activity(self) -> None:
        """End all that lives until deactivation."""
        for timer in self._timers_made:
            self.destroy_timer(timer)
        for subscription in list(self._subscriptions_made):
            self.unsubscribe(subscription)
        for worker in reversed(self._workers):  # the later ones may ask the earlier ones
            if worker.finish:
                worker.stop(0.0)  # a wait would hold up the other nodes of the process
            elif not worker.stop():
                self.get_logger().warning('a worker is still busy: left to end by itself')
        ended = (*self._finishing, *self._workers)
        self._finishing = [worker for worker in ended if worker.finish and worker.alive]
        self._timers_made, self._workers = [], []

    def finish_work(self, timeout: float) -> None:
        """Wait up to ``timeout`` [s] for workers that finish; log if the process ends before."""
        until = time.monotonic() + timeout
        for worker in self._finishing:
            if not worker.stop(max(0.0, until - time.monotonic())):
                self.get_logger().error(f'{worker.name} was not finished: the process ends')

    def _destroy_publishers(self) -> None:
        for publisher in self._publishers_made:
            self._endpoints.forget(publisher.topic_name, 'publisher')
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_made = []

    def _guarded(self, callback: Callable[..., None], name: str = '') -> Callable[..., None]:
        """Wrap a callback so that a bad message is reported and counted, but stops nothing."""
        key = f'{name or callback.__name__.strip("_")} failed'
        failed: deque[bool] = deque(maxlen=RECENT)

        def guarded(*args: Any) -> None:
            try:
                callback(*args)
            except Exception as error:
                failed.append(True)
                share = ''
                if name and len(failed) == RECENT:
                    share = f' ({sum(failed)} of the last {RECENT} messages {name} are bad)'
                self._note_error(key, error, share)
            else:
                failed.append(False)
                self.conditions.set(key, None)

        return guarded

    def _note_error(self, key: str, error: Exception, share: str = '') -> None:
        self.callback_errors += 1
        expected = isinstance(error, LewmError)
        text = str(error) if expected else f'{key}: {type(error).__name__}: {error}'
        if not expected:
            self.get_logger().error(
                ''.join(traceback.format_exception(error)), throttle_duration_sec=5.0
            )
        self.conditions.set(key, text + share, ERROR)
