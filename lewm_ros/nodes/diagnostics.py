# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a node reports of itself: conditions that come and go, and figures, on /diagnostics."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from dataclasses import dataclass
import os
from pathlib import Path
import threading
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
import numpy as np
from rclpy.node import Node

from lewm_ros.time import NS_PER_S

OK, WARN, ERROR = DiagnosticStatus.OK, DiagnosticStatus.WARN, DiagnosticStatus.ERROR


#: A condition lasts so long after it was last reported, and its log lines are as far apart [s].
HOLD = 1.0


@dataclass
class _Condition:
    """What is wrong, until when."""

    level: int
    text: str
    logged: bool = False
    ended: float | None = None  #: when it ended [s, steady]; None while it lasts


class Conditions:
    """Named conditions of a node; each is logged when it begins and when it ends.

    One that comes and goes with every message lasts: it ends once it has been away for a second.
    A name is logged once a second at most. Safe to call from any thread.

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
            self._active[key] = _Condition(_number(level), text, logged)
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
        """Forget a condition, or all, silently: who would know whether it lasts was stopped."""
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


class Reasons:
    """Counts by reason. Thread safe, and bounded: a text that is new every time cannot grow it."""

    KEPT = 20

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: dict[str, int] = {}

    def add(self, reason: str) -> None:
        """Count one more of a reason."""
        with self._lock:
            if reason not in self._counts and len(self._counts) >= self.KEPT:
                reason = 'other'
            self._counts[reason] = self._counts.get(reason, 0) + 1

    @property
    def total(self) -> int:
        """All of them."""
        with self._lock:
            return sum(self._counts.values())

    def figures(self, prefix: str) -> dict[str, int]:
        """Counts by 'prefix: reason', for a report."""
        with self._lock:
            return {f'{prefix}: {reason}': count for reason, count in self._counts.items()}


class Recent:
    """The last values of a figure, and percentiles of them. Appending is thread safe."""

    def __init__(self, length: int = 4096) -> None:
        self._values: deque[float] = deque(maxlen=length)

    def add(self, value: float) -> None:
        """Append a value."""
        self._values.append(value)

    @property
    def last(self) -> float:
        """The newest value; NaN if there is none."""
        return self._values[-1] if self._values else float('nan')

    def percentile(self, percent: float) -> float:
        """Return a percentile of the values kept; NaN if there are none."""
        values = list(self._values)
        return float(np.percentile(values, percent)) if values else float('nan')

    def percentiles(self, name: str, *percents: int) -> dict[str, float]:
        """Percentiles by 'name_p50' and so on, for a report."""
        return {f'{name}_p{percent}': self.percentile(percent) for percent in percents}


class Rate:
    """How often something happens [Hz]: over the last seconds, by the steady clock.

    Args:
        window: how far back is counted [s].

    """

    def __init__(self, window: float = 5.0) -> None:
        self._window = window
        self._began = time.monotonic()
        self._times: deque[float] = deque(maxlen=4096)

    def add(self) -> None:
        """Note that it happened now. Thread safe."""
        self._times.append(time.monotonic())

    @property
    def hz(self) -> float:
        """Times per second; of the time since the start while that is shorter."""
        now = time.monotonic()
        window = min(self._window, now - self._began)
        recent = sum(t > now - window for t in list(self._times))
        return recent / window if window > 0 else 0.0


class StampRate:
    """How often stamps come [Hz], by the stamps: over the last seconds of their own clock.

    The order of a few does not matter, nor does one that comes twice. A jump by more than half
    of the window, a pause too, starts over.

    Args:
        window: how far back is counted [s].

    """

    KEPT = 4096

    def __init__(self, window: float = 5.0) -> None:
        self._window = round(window * NS_PER_S)
        self._stamps: list[int] = []  # ascending; the first is at the start of the window

    def add(self, stamp: int) -> None:
        """Note a stamp [ns]."""
        if self._stamps and 2 * abs(stamp - self._stamps[-1]) > self._window:
            self.clear()
        if stamp in self._stamps:
            return
        insort(self._stamps, stamp)
        older = bisect_right(self._stamps, self._stamps[-1] - self._window)
        del self._stamps[: max(0, older - 1, len(self._stamps) - self.KEPT)]

    def clear(self) -> None:
        """Start over."""
        self._stamps.clear()

    @property
    def hz(self) -> float:
        """Stamps per second; NaN as long as they do not fill the window."""
        span = self._stamps[-1] - self._stamps[0] if self._stamps else 0
        if span < self._window:
            return float('nan')
        return (len(self._stamps) - 1) * NS_PER_S / span


def resident_mb() -> float:
    """Return the resident memory of this process [MB], NaN where /proc does not say it."""
    try:
        pages = int(Path('/proc/self/statm').read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return float('nan')
    return pages * os.sysconf('SC_PAGE_SIZE') / 1e6


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


def _number(level: bytes) -> int:
    return level[0] if isinstance(level, bytes) else int(level)


def _show(value: Any) -> str:
    return f'{value:.6g}' if isinstance(value, float) else str(value)
