# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Limits that stand between a plan and a motor, and that NaN cannot pass."""

from __future__ import annotations

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.robot.contract import Action


class Limits:
    """Value, step and rate limits of a contract's action.

    :meth:`apply` never returns anything non-finite or outside the limits; what it had to
    change is counted in ``clipped``, by dimension (A,) in ``clipped_by``, and ``rejected``.

    Args:
        action: of the contract.
        period: of the control ticks [s].

    Raises ConfigError where a limit is not finite: it would be no limit at all.

    """

    def __init__(self, action: Action, period: float) -> None:
        self.low, self.high = action.bounds
        self.max_step = None if action.max_step is None else np.array(action.max_step)
        self.max_rate = None if action.max_rate is None else np.array(action.max_rate)
        self.period = period
        self.clipped = 0
        self.clipped_by = np.zeros(self.low.shape, dtype=int)
        self.rejected = 0
        # The contract refuses these as well; a limit is worth looking at twice.
        for key in ('low', 'high', 'max_step', 'max_rate'):
            given = getattr(action, key)
            if given is not None and not np.isfinite(given).all():
                raise ConfigError(f'action.{key} is {list(given)}: expected finite numbers')

    def apply(
        self, command: np.ndarray, previous: np.ndarray | None, elapsed: float
    ) -> np.ndarray | None:
        """Limit one command (A,), contract units. None if it is not finite or has another size.

        Args:
            command: what is to be sent.
            previous: (A,) the last command sent, from which step and rate count; None if it is
                the first one.
            elapsed: since then [s]. No more than a period of it counts: a robot that stood
                still for a second must not leap by a second's worth.

        """
        command = np.asarray(command, dtype=float)
        if command.shape != self.low.shape or not np.isfinite(command).all():
            self.rejected += 1
            return None
        limited = np.clip(command, self.low, self.high)
        changes = []
        if self.max_step is not None:
            changes.append(self.max_step)
        if self.max_rate is not None:
            changes.append(self.max_rate * min(elapsed, self.period))
        if changes and previous is not None:
            change = np.min(changes, axis=0)
            limited = np.clip(limited, previous - change, previous + change)
            limited = np.clip(limited, self.low, self.high)
        changed = ~np.isclose(limited, command)  # averaging a plan at its limit rounds
        self.clipped += int(changed.any())
        self.clipped_by += changed
        return limited
