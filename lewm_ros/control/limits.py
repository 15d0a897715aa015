# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Limits that stand between a plan and a motor, and that NaN cannot pass."""

from __future__ import annotations

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.robot.contract import Action


class Limits:
    """Value, step and rate limits of a contract's action, for commands and for plans of them.

    :meth:`apply` never returns anything non-finite or outside the limits; what it had to
    change is counted in ``clipped``, by dimension (A,) in ``clipped_by``, and ``rejected``. It
    leaves a plan that :meth:`project` returned as it is.

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
        limited = self.project(command[None], previous, elapsed)[0]
        changed = ~np.isclose(limited, command)  # averaging a plan at its limit rounds
        self.clipped += int(changed.any())
        self.clipped_by += changed
        return limited

    def project(
        self, commands: np.ndarray, previous: np.ndarray | None, elapsed: float = np.inf
    ) -> np.ndarray:
        """Limit finite commands of consecutive ticks (..., T, A), contract units; a new array.

        Args:
            commands: what is to be sent.
            previous: (A,) as of :meth:`apply`, or (m, A): all that are sent within the last period,
                where the ticks before were others.
            elapsed: between two of them, and since the last one sent [s]; as of :meth:`apply`.

        """
        limited = np.clip(commands, self.low, self.high)
        changes = []
        if self.max_step is not None:
            changes.append(self.max_step)
        if self.max_rate is not None:
            changes.append(self.max_rate * min(elapsed, self.period))
        if not changes:
            return limited
        change = np.min(changes, axis=0)
        low = high = None
        if previous is not None:
            before = np.atleast_2d(previous)
            low, high = before.max(axis=0), before.min(axis=0)
        for tick in range(limited.shape[-2]):
            now = limited[..., tick, :]
            if low is not None and high is not None:
                now[...] = np.clip(now, low - change, high + change)
                now[...] = np.clip(now, self.low, self.high)
            low = high = now
        return limited
