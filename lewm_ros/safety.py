# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What stands between a plan and a motor: limits that NaN cannot pass, and a watchdog."""

from __future__ import annotations

import numpy as np

from lewm_ros.contract import Action


class Limits:
    """Value and step limits of a contract's action.

    :meth:`apply` never returns anything non-finite or outside the limits; what it had to
    change is counted in ``clipped`` and ``rejected``.
    """

    def __init__(self, action: Action) -> None:
        self.low, self.high = action.bounds
        self.max_step = None if action.max_step is None else np.array(action.max_step)
        self.clipped = 0
        self.rejected = 0

    def apply(self, command: np.ndarray, previous: np.ndarray | None) -> np.ndarray | None:
        """Limit one command (A,), contract units. None if it is not finite or has another size.

        ``previous`` is the last command sent (A,), from which ``max_step`` counts.
        """
        command = np.asarray(command, dtype=float)
        if command.shape != self.low.shape or not np.isfinite(command).all():
            self.rejected += 1
            return None
        limited = np.clip(command, self.low, self.high)
        if self.max_step is not None and previous is not None:
            limited = np.clip(limited, previous - self.max_step, previous + self.max_step)
            limited = np.clip(limited, self.low, self.high)
        if not np.allclose(limited, command):  # averaging a plan at its limit rounds
            self.clipped += 1
        return limited


class Watchdog:
    """Says whether something was seen within ``timeout`` [s], on a steady clock [s].

    Nothing seen yet counts as stale: a robot does not move before its first observation.
    """

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self._seen: float | None = None

    def feed(self, now: float) -> None:
        """Note that an observation arrived at ``now``."""
        self._seen = now

    def age(self, now: float) -> float:
        """Seconds since the last observation; infinity if there was none."""
        return float('inf') if self._seen is None else now - self._seen

    def stale(self, now: float) -> bool:
        """Whether the last observation is older than the timeout."""
        return self.age(now) > self.timeout
