# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a node reports of itself on /diagnostics: conditions that come and go."""

from __future__ import annotations

from dataclasses import dataclass
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.node import Node

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR

#: How long a condition stays after its end, and shortest time between its log lines [s].
HOLD = 1.0


@dataclass
class _Condition:
    """A condition and when it ended."""

    level: int
    text: str
    logged: bool = False
    ended: float | None = None  #: when it ended [s, steady]; None while it lasts


class Conditions:
    """Named conditions of a node; each is logged when it begins and when it ends.

    A condition that comes and goes with every message stays active: it ends once it has been absent
    for a second. A name is logged at most once a second. Safe to call from any thread.

    Args:
        node: whose logger is used.

    """

    def __init__(self, node: Node) -> None:
        self._logger = node.get_logger()
        self._lock = threading.Lock()
        self._active: dict[str, _Condition] = {}
        self._said: dict[str, float] = {}  # when each was last logged [s, steady]

    def set(self, key: str, text: str | None, level: bytes = WARN) -> None:
        """Begin or refresh the condition ``key`` with a text, or end it with None."""
        with self._lock:
            condition = self._active.get(key)
            if text is None:
                if condition is not None and condition.ended is None:
                    condition.ended = time.monotonic()
                return
            logged = condition is not None and condition.logged
            self._active.pop(key, None)  # the latest comes last
            self._active[key] = _Condition(level[0], text, logged)
            if not logged:
                self._log(key, time.monotonic())

    def settle(self) -> None:
        """Log what has begun or ended since; call it several times a second."""
        now = time.monotonic()
        with self._lock:
            for key in list(self._active):
                self._log(key, now)

    def _log(self, key: str, now: float) -> None:
        condition = self._active[key]
        if now - self._said.get(key, -HOLD) < HOLD:
            return
        if not condition.logged:
            condition.logged = True
            # One line for each: rclpy raises where a line of code changes its severity.
            if condition.level == ERROR[0]:
                self._logger.error(condition.text)
            elif condition.level == OK[0]:
                self._logger.info(condition.text)
            else:
                self._logger.warning(condition.text)
        elif condition.ended is not None and now - condition.ended >= HOLD:
            del self._active[key]
            self._logger.info(f'cleared: {condition.text}')
        else:
            return
        self._said[key] = now

    def clear(self, key: str | None = None) -> None:
        """Remove one condition, or all, silently: the code that would update it has stopped."""
        with self._lock:
            if key is None:
                self._active.clear()
            else:
                self._active.pop(key, None)

    @property
    def level(self) -> int:
        """The worst level among the active conditions: 0, 1 or 2."""
        with self._lock:
            return max((condition.level for condition in self._active.values()), default=0)

    @property
    def text(self) -> str:
        """All active texts, the worst first; 'ok' if there is none."""
        with self._lock:
            active = sorted(self._active.values(), key=lambda condition: -condition.level)
        return '; '.join(condition.text for condition in active) or 'ok'


def status_message(
    node: Node, level: int, text: str, hardware: str, values: dict[str, Any]
) -> DiagnosticArray:
    """Make a /diagnostics message with one status named after the node."""
    status = DiagnosticStatus(
        level=bytes([level]),
        name=node.get_fully_qualified_name().lstrip('/'),
        message=text,
        hardware_id=hardware,
        values=[KeyValue(key=k, value=_show(v)) for k, v in values.items()],
    )
    message = DiagnosticArray(status=[status])
    message.header.stamp = node.get_clock().now().to_msg()
    return message


def values_of(status: DiagnosticStatus) -> dict[str, str]:
    """Return the values of a status by key."""
    return {item.key: item.value for item in status.values}


def _show(value: Any) -> str:
    return f'{value:.6g}' if isinstance(value, float) else str(value)
