# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The lifecycle base of all nodes: autostart, parameters, loading, diagnostics.

A node overrides four hooks (:meth:`LewmNode.configure`, ``activate``, ``deactivate``, ``cleanup``),
``report`` and, where it has parameters that can be set at run time, ``check`` and ``changed``.
"""

from __future__ import annotations

from collections.abc import Callable
import time
import traceback
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from lewm_ros.api import load_bundle
from lewm_ros.bundle import Bundle
from lewm_ros.errors import ConfigError, LewmError, ModelError
from lewm_ros.files import find
from lewm_ros.nodes.diagnostics import ERROR, status_message
from lewm_ros.nodes.figures import resident_mb
from lewm_ros.nodes.parameters import COMMON, Parameter, Parameters
from lewm_ros.nodes.resources import LATCHED, NEWEST, STREAM, ResourceNode
from lewm_ros.robot.contract import Contract

__all__ = ['FAILURE', 'LATCHED', 'NEWEST', 'STREAM', 'SUCCESS', 'LewmNode']

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE

_REPORT_PERIOD = 1.0  #: of /diagnostics [s]
_LEVEL_PERIOD = 0.1  #: how soon a change of level or lifecycle is reported [s]
_LOOK_PERIOD = 0.5  #: how often other endpoints of the topics are checked [s]


class LewmNode(ResourceNode):
    """A lifecycle node that can start by itself.

    Attributes:
        failure: why configuring or activating failed last, or None.
        unusable: whether that was a LewmError, which starting the node again would not mend.
        finished: exit status that the node asks the process to end with, or None.

    """

    PARAMETERS: tuple[Parameter, ...] = ()

    def __init__(self, name: str, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.failure: str | None = None
        self.unusable = False
        self.finished: int | None = None
        self._configured = self._active = self._finalized = False
        self._loaded: dict[str, str] = {}  # hashes by kind: for /diagnostics
        self._origin = 'no contract'  # the same as text, for the log
        self._hardware = ''
        self._looked = 0.0  # last check of the topics' other endpoints [s, steady]
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
        """Publish final messages; callbacks and workers have ended, publishers still work."""

    def cleanup(self) -> None:
        """Release what configure loaded."""

    def report(self) -> dict[str, Any]:
        """Figures for /diagnostics by key, while active."""
        return {}

    def check(self, values: dict[str, Any]) -> None:
        """Raise LewmError for invalid new parameter values; called only while configured."""

    def changed(self) -> None:
        """Apply new values of dynamic parameters. Called only while active: activate reads all."""

    # For subclasses

    def load_bundle(self) -> tuple[Bundle, Contract]:
        """Load the bundle and contract that the parameters name, and check that they agree."""
        if not self.params['bundle']:
            raise ModelError("parameter 'bundle' is empty: expected a folder or a bundle's name")
        bundle, contract = load_bundle(self.params['bundle'], self.params['contract'])
        self.note_loaded(contract, bundle)
        return bundle, contract

    def load_contract(self) -> Contract:
        """Load only the contract; the bundle is read only if it supplies the contract."""
        if self.params['bundle']:
            return self.load_bundle()[1]
        if not self.params['contract']:
            raise ConfigError(
                "parameter 'contract' is empty, and so is 'bundle': expected a contract file or "
                'name, or a bundle, which has one'
            )
        contract = Contract.load(find('contract', self.params['contract']))
        self.note_loaded(contract)
        return contract

    def release(self, *names: str) -> None:
        """Delete attributes set by configure and activate, if present."""
        for name in names:
            vars(self).pop(name, None)

    @property
    def params(self) -> dict[str, Any]:
        """Parameter values by name; a new dict after each change, so that one is consistent."""
        return self._parameters_made.values

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
        self._note_failure(self._try(self.configure))
        if self.failure is not None:
            self._release()
            return FAILURE
        self._configured = True
        return super().on_configure(state)

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Enable the publishers, then start."""
        result = super().on_activate(state)
        self._active = True
        self._note_failure(self._try(self.activate))
        if self.failure is not None:
            self._end_activity()
            super().on_deactivate(state)
            return FAILURE
        engine = ''.join(f', engine {v}' for k, v in self.report().items() if k == 'engine')
        self.get_logger().info(f'active: {self._origin}{engine}; {self._list_topics()}')
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Stop callbacks and workers, then publish final messages."""
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

    def _try(self, hook: Callable[[], None]) -> Exception | None:
        """Run a hook and return its error; rclpy would swallow it silently."""
        try:
            hook()
        except Exception as error:
            known = isinstance(error, LewmError)
            self.get_logger().error(str(error) if known else traceback.format_exc())
            return error
        return None

    def _note_failure(self, error: Exception | None) -> None:
        self.failure = None if error is None else _text(error)
        self.unusable = isinstance(error, LewmError)

    def _end_activity(self) -> None:
        if not self._active:
            return
        self._active = False
        self._destroy_activity()
        failure = self._try(self.deactivate)
        self.conditions.clear()
        self.conditions.set(
            'deactivate',
            None if failure is None else f'deactivating failed: {_text(failure)}',
            ERROR,
        )

    def _release(self) -> None:
        self._configured, self._loaded = False, {}
        self._try(self.cleanup)
        self._destroy_publishers()

    def note_loaded(self, contract: Contract, bundle: Bundle | None = None) -> None:
        """Show what was loaded in /diagnostics."""
        self._hardware = contract.name
        self._loaded = {'contract': contract.hash[:12]}
        self._origin = f'contract {contract.name}'
        if bundle is not None:
            self._loaded['bundle'] = bundle.hash[:12]
            self._origin += f', bundle {bundle.path}'

    def _check_set(self, values: dict[str, Any]) -> None:
        if self._configured:
            self.check(values)

    def _take_set(self) -> None:
        if self._active:
            self._guarded(self.changed)()

    def _maybe_report(self) -> None:
        now = time.monotonic()
        if self._active and now - self._looked > _LOOK_PERIOD:
            self._looked = now
            self._endpoints.look()
        self.conditions.settle()
        level, text = self.conditions.level, self.conditions.text
        if self.failure is not None:
            level, text = ERROR[0], self.failure
        lifecycle = 'inactive' if self._configured else 'unconfigured'
        if self._active or self._finalized:
            lifecycle = 'active' if self._active else 'finalized'
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


def _text(error: Exception) -> str:
    return str(error) if isinstance(error, LewmError) else f'{type(error).__name__}: {error}'
