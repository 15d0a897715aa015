# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle base of all nodes: autostart, parameters, guarded callbacks, diagnostics.

A node overrides four hooks (:meth:`LewmNode.configure`, ``activate``, ``deactivate``,
``cleanup``), :meth:`LewmNode.report` and, where it has parameters that can be set at run time,
:meth:`LewmNode.check` and :meth:`LewmNode.changed`. Publishers live from configure to cleanup;
subscriptions, timers and workers from activate to deactivate. The base creates and destroys
them, so that no state leaves a thread or a callback behind.
"""

from __future__ import annotations

from collections.abc import Callable
import time
import traceback
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from lewm_ros.bundle import Bundle
from lewm_ros.errors import BundleError, LewmError
from lewm_ros.files import find
from lewm_ros.nodes.diagnostics import ERROR, Conditions, resident_mb, status_message
from lewm_ros.nodes.messages import message_class
from lewm_ros.nodes.parameters import COMMON, Parameter, Parameters
from lewm_ros.nodes.qos import Endpoints, image_qos
from lewm_ros.nodes.worker import Worker
from lewm_ros.robot.contract import Camera, Contract
from lewm_ros.time import NS_PER_S

if TYPE_CHECKING:  # older distributions have no name for it
    from rclpy.subscription import MessageInfo

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

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

_REPORT_PERIOD = 1.0  #: of /diagnostics [s]
_LEVEL_PERIOD = 0.1  #: how soon a change of level or lifecycle is reported [s]
_QOS_PERIOD = 1.0  #: how often a mismatch of QoS is looked at again [s]


class LewmNode(LifecycleNode):
    """A lifecycle node that can start by itself.

    Attributes:
        conditions: what is wrong at the moment; logged on change, shown in /diagnostics.
        failure: why configuring or activating failed last, or None.
        finished: exit status that the node asks the process to end with, or None.

    """

    PARAMETERS: tuple[Parameter, ...] = ()

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.failure: str | None = None
        self.finished: int | None = None
        self.callback_errors = 0
        self.conditions = Conditions(self)
        self._configured = self._active = self._finalized = False
        self._loaded: dict[str, str] = {}  # what of, by kind: for /diagnostics
        self._hardware = ''
        self._endpoints = Endpoints(self, self.conditions)
        self._looked = 0.0  # at the QoS of others
        self._publishers_made: list[Any] = []
        self._subscriptions_made: list[Any] = []
        self._timers_made: list[Any] = []
        self._workers: list[Worker] = []
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._parameters_made = Parameters(
            self, (*COMMON, *self.PARAMETERS), self._check_set, self._take_set
        )
        # By convention of the diagnostics tools the topic is absolute.
        self._diagnostics = self._endpoints.publisher(
            self.create_publisher, DiagnosticArray, '/diagnostics', STREAM
        )
        self._reported: tuple[int, str] = (-1, '')
        self._reported_at = 0.0  # [s, steady]
        self.create_timer(_LEVEL_PERIOD, self._guarded(self._maybe_report), clock=self._steady)
        if self.params['autostart']:
            # From the executor, not from here: a subclass is still being constructed.
            self._autostart_timer = self.create_timer(0.001, self._autostart, clock=self._steady)

    # Hooks

    def configure(self) -> None:
        """Load files and create publishers. May raise LewmError."""

    def activate(self) -> None:
        """Create subscriptions, timers and workers; publish what is latched."""

    def deactivate(self) -> None:
        """Say the last words; callbacks and workers have ended, publishers still work."""

    def cleanup(self) -> None:
        """Release what configure loaded."""

    def report(self) -> dict[str, Any]:
        """Figures for /diagnostics by key, while active."""
        return {}

    def check(self, values: dict[str, Any]) -> None:
        """Raise LewmError where parameters to be set do not fit; only while configured."""

    def changed(self) -> None:
        """Take new values of dynamic parameters over, while active; activate reads all anew."""

    # For subclasses

    def load_bundle(self) -> tuple[Bundle, Contract]:
        """Load the bundle and contract that the parameters name, and check that they agree."""
        if not self.params['bundle']:
            raise BundleError("parameter 'bundle' is empty: expected a folder or a bundle's name")
        bundle = Bundle.load(find('bundle', self.params['bundle']))
        contract = bundle.contract
        if self.params['contract']:
            contract = Contract.load(find('contract', self.params['contract']))
            contract.check_against_bundle(bundle.contract)
        self.note_loaded(contract, bundle)
        return bundle, contract

    def load_contract(self) -> Contract:
        """Load the contract alone; the bundle is read only where it has to supply it."""
        if self.params['bundle'] or not self.params['contract']:
            return self.load_bundle()[1]
        contract = Contract.load(find('contract', self.params['contract']))
        self.note_loaded(contract)
        return contract

    def publisher(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        """Create a publisher that lives until cleanup and is silent while inactive."""
        create = self.create_lifecycle_publisher
        publisher = self._endpoints.publisher(create, kind, topic, qos)
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

        With ``published`` it gets the time of publication on the system clock in its place, which
        a latched message keeps. Returns what :meth:`unsubscribe` takes to end it sooner.

        ``qos`` is the default of ROS's override parameters, unless ``remedy`` says what else a
        user can do where it does not fit. ``options`` are rclpy's, such as ``raw=True`` for
        serialised bytes.
        """
        guarded = self._guarded(callback, f'on {topic}')

        def receive(message: Any, info: MessageInfo) -> None:
            if published:
                guarded(message, info.get('source_timestamp') or time.time_ns())
                return
            now = self.now()
            received = info.get('received_timestamp') or now
            # The middleware stamps on arrival, before the executor comes round to it; but on
            # the system clock, which is not the node's under use_sim_time.
            guarded(message, received if 0 <= now - received < NS_PER_S else now)

        subscription = self._endpoints.subscription(kind, topic, receive, qos, remedy, **options)
        self._subscriptions_made.append(subscription)
        return subscription

    def subscribe_to_camera(
        self, camera: Camera, callback: Callable[[Any, int], None], depth: int
    ) -> Any:
        """Subscribe to ``image`` or ``image/compressed`` with the QoS of image_reliability."""
        kind = message_class(camera.type)
        topic = 'image' if kind is Image else 'image/compressed'
        qos = image_qos(self.params['image_reliability'], depth)
        remedy = 'set parameter image_reliability to best_effort'
        return self.subscribe(kind, topic, callback, qos, remedy)

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

    def worker(self, name: str, work: Callable[[Any], None], capacity: int = 1) -> Worker:
        """Start a worker that is stopped at deactivation."""

        def failed(error: Exception) -> None:
            self._note_error(f'{name} failed', error)

        def guarded(item: Any) -> None:
            work(item)
            self.conditions.set(f'{name} failed', None)

        worker: Worker = Worker(f'{self.get_name()}.{name}', guarded, failed, capacity)
        self._workers.append(worker)
        return worker

    def release(self, *names: str) -> None:
        """Forget attributes that configure and activate have set, as far as they came."""
        for name in names:
            vars(self).pop(name, None)

    @property
    def params(self) -> dict[str, Any]:
        """Parameter values by name; a new dict after each change, so that one is consistent."""
        return self._parameters_made.values

    def now(self) -> int:
        """Return the node's time [ns]: the system's, or the simulation's under use_sim_time."""
        return self.get_clock().now().nanoseconds

    def finish(self, status: int = 0) -> None:
        """Ask the process that runs this node to end with this exit status."""
        self.finished = status

    def close(self) -> None:
        """Shut down, unless a lifecycle manager has done that already."""
        if not self._finalized:
            self.trigger_shutdown()

    # Lifecycle

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load everything; on an error log one line, release all and stay unconfigured."""
        self.failure = self._try(self.configure)
        if self.failure is not None:
            self._release()
            return FAILURE
        self._configured = True
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, then start."""
        result = super().on_activate(state)
        self._active = True
        self.failure = self._try(self.activate)
        if self.failure is not None:
            self._end_activity()
            super().on_deactivate(state)
            return FAILURE
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop callbacks and workers, then say the last words."""
        self._end_activity()
        return super().on_deactivate(state)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Release files and publishers."""
        self._release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Deactivate if active, then release everything."""
        self._finalized = True
        self._end_activity()
        self._release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Go back to unconfigured with nothing left running."""
        self._end_activity()
        self._release()
        return SUCCESS

    def _autostart(self) -> None:
        self.destroy_timer(self._autostart_timer)
        if self.trigger_configure() == SUCCESS:
            self.trigger_activate()

    def _try(self, hook: Callable[[], None]) -> str | None:
        """Run a hook and return what went wrong; rclpy would swallow it without a word."""
        try:
            hook()
        except LewmError as error:
            self.get_logger().error(str(error))
            return str(error)
        except Exception as error:
            self.get_logger().error(traceback.format_exc())
            return f'{type(error).__name__}: {error}'
        return None

    def _end_activity(self) -> None:
        if not self._active:
            return
        self._active = False
        for timer in self._timers_made:
            self.destroy_timer(timer)
        for subscription in list(self._subscriptions_made):
            self.unsubscribe(subscription)
        for worker in self._workers:
            if not worker.stop():
                self.get_logger().warning('a worker is still busy: left to end by itself')
        self._timers_made, self._workers = [], []
        failure = self._try(self.deactivate)
        self.conditions.clear()
        self.conditions.set('deactivate', failure and f'deactivating failed: {failure}', ERROR)

    def _release(self) -> None:
        self._configured, self._loaded = False, {}
        self._try(self.cleanup)
        for publisher in self._publishers_made:
            self._endpoints.forget(publisher.topic_name, 'publisher')
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_made = []

    def note_loaded(self, contract: Contract, bundle: Bundle | None = None) -> None:
        """Show what was loaded in /diagnostics."""
        self._hardware = contract.name
        self._loaded = {'contract': contract.hash[:12]}
        if bundle is not None:
            self._loaded['bundle'] = bundle.hash[:12]

    def _check_set(self, values: dict[str, Any]) -> None:
        if self._configured:
            self.check(values)

    def _take_set(self) -> None:
        if self._active:
            self._guarded(self.changed)()

    def _guarded(self, callback: Callable[..., None], name: str = '') -> Callable[..., None]:
        """Wrap a callback so that a bad message is named and counted and stops nothing."""
        key = f'{name or callback.__name__.strip("_")} failed'

        def guarded(*args: Any) -> None:
            try:
                callback(*args)
            except Exception as error:
                self._note_error(key, error)
            else:
                self.conditions.set(key, None)

        return guarded

    def _note_error(self, key: str, error: Exception) -> None:
        self.callback_errors += 1
        expected = isinstance(error, LewmError)
        text = str(error) if expected else f'{key}: {type(error).__name__}: {error}'
        if not expected:
            self.get_logger().error(
                ''.join(traceback.format_exception(error)), throttle_duration_sec=5.0
            )
        self.conditions.set(key, text, ERROR)

    def _maybe_report(self) -> None:
        now = time.monotonic()
        if self._active and now - self._looked > _QOS_PERIOD:
            self._looked = now
            self._endpoints.look()
        level, text = self.conditions.level, self.conditions.text
        if self.failure is not None:
            level, text = ERROR[0], self.failure
        lifecycle = 'inactive' if self._configured else 'unconfigured'
        if self._active:
            lifecycle = 'active'
        elif self._finalized:
            lifecycle = 'finalized'
        if (level, lifecycle) == self._reported and now - self._reported_at < _REPORT_PERIOD:
            return
        self._reported, self._reported_at = (level, lifecycle), now
        values: dict[str, Any] = {
            'lifecycle': lifecycle,
            'memory_mb': resident_mb(),
            **self._loaded,
        }
        if self._active:
            values |= {'callback_errors': self.callback_errors, **self.report()}
        self._diagnostics.publish(status_message(self, level, text, self._hardware, values))
