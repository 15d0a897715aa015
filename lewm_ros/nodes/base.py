# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle base of all nodes: autostart, parameters, guarded callbacks, diagnostics.

A node overrides four hooks (:meth:`LewmNode.configure`, ``activate``, ``deactivate``,
``cleanup``) and :meth:`LewmNode.report`. Publishers live from configure to cleanup;
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

from lewm_ros.bundle import Bundle
from lewm_ros.contract import Contract
from lewm_ros.errors import BundleError, LewmError
from lewm_ros.history import NANOSECOND
from lewm_ros.nodes.diagnostics import ERROR, Conditions, status_message
from lewm_ros.nodes.parameters import COMMON, Parameter, declare
from lewm_ros.nodes.worker import Worker
from lewm_ros.share import find

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
_LEVEL_PERIOD = 0.1  #: how soon a change of level is reported [s]


class LewmNode(LifecycleNode):
    """A lifecycle node that can start by itself.

    Attributes:
        params: parameter values by name.
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
        self._active = self._finalized = False
        self._hardware = ''
        self._publishers_made: list[Any] = []
        self._subscriptions_made: list[Any] = []
        self._timers_made: list[Any] = []
        self._workers: list[Worker] = []
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.params = declare(self, (*COMMON, *self.PARAMETERS))
        self._warn_undeclared()
        # By convention of the diagnostics tools the topic is absolute.
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self._reported = (-1, 0.0)
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
        self._hardware = contract.name
        return bundle, contract

    def load_contract(self) -> Contract:
        """Load the contract alone; the bundle is read only where it has to supply it."""
        if self.params['bundle'] or not self.params['contract']:
            return self.load_bundle()[1]
        contract = Contract.load(find('contract', self.params['contract']))
        self._hardware = contract.name
        return contract

    def publisher(self, kind: type, topic: str, qos: QoSProfile) -> Any:
        """Create a publisher that lives until cleanup and is silent while inactive."""
        publisher: Any = self.create_lifecycle_publisher(kind, topic, qos)
        self._publishers_made.append(publisher)
        return publisher

    def subscribe(
        self,
        kind: type,
        topic: str,
        callback: Callable[[Any, int], None],
        qos: QoSProfile,
        **options: Any,
    ) -> Any:
        """Subscribe until deactivation; the callback gets the message and receive time [ns].

        Returns what :meth:`unsubscribe` takes to end it sooner.

        ``options`` are rclpy's, such as ``raw=True`` for serialised bytes.
        """
        guarded = self._guarded(callback)

        def receive(message: Any, info: MessageInfo) -> None:
            now = self.now()
            received = info.get('received_timestamp') or now
            # The middleware stamps on arrival, before the executor comes round to it; but on
            # the system clock, which is not the node's under use_sim_time.
            guarded(message, received if 0 <= now - received < NANOSECOND else now)

        subscription = self.create_subscription(kind, topic, receive, qos, **options)
        self._subscriptions_made.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Any) -> None:
        """End a subscription of :meth:`subscribe`."""
        self._subscriptions_made.remove(subscription)
        self.destroy_subscription(subscription)

    def every(self, period: float, callback: Callable[[], None]) -> None:
        """Call back every ``period`` [s] of the steady clock, until deactivation."""
        self._timers_made.append(
            self.create_timer(period, self._guarded(callback), clock=self._steady)
        )

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

    def _warn_undeclared(self) -> None:
        """Name parameters that were given but do not exist: ROS ignores them silently."""
        given = getattr(self, '_parameter_overrides', {})
        unknown = [
            n for n in given if not self.has_parameter(n) and not n.startswith('qos_overrides.')
        ]
        if unknown:
            self.get_logger().warning(
                f'parameters {unknown} do not exist and are ignored: expected some of '
                f'{sorted(self.params)}'
            )

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
        for subscription in self._subscriptions_made:
            self.destroy_subscription(subscription)
        for worker in self._workers:
            if not worker.stop():
                self.get_logger().warning('a worker is still busy: left to end by itself')
        self._timers_made, self._subscriptions_made, self._workers = [], [], []
        self._try(self.deactivate)
        self.conditions.clear()

    def _release(self) -> None:
        self._try(self.cleanup)
        for publisher in self._publishers_made:
            self.destroy_lifecycle_publisher(publisher)
        self._publishers_made = []

    def _guarded(self, callback: Callable[..., None]) -> Callable[..., None]:
        """Wrap a callback so that a bad message is named and counted and stops nothing."""
        key = f'{callback.__name__.strip("_")} failed'

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
        level, text = self.conditions.level, self.conditions.text
        if self.failure is not None:
            level, text = ERROR[0], self.failure
        if level == self._reported[0] and now - self._reported[1] < _REPORT_PERIOD:
            return
        self._reported = (level, now)
        values: dict[str, Any] = {'lifecycle': 'active' if self._active else 'inactive'}
        if self._active:
            values |= {'callback_errors': self.callback_errors, **self.report()}
        self._diagnostics.publish(status_message(self, level, text, self._hardware, values))
