# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Limits of commands between plan and actuator; NaN never passes them."""

from __future__ import annotations

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.robot.contract import Action


class Limits:
    """Value, step and rate limits of a contract's action, for commands and for plans of them.

    :meth:`apply` never returns anything non-finite or outside the limits. It counts the commands
    that it changed in ``clipped``, by dimension (A,) in ``clipped_by``, and those that it refused
    in ``rejected``. A plan that :meth:`project` returned passes unchanged.

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
        # The contract rejects these too; limits are checked twice on purpose.
        for key in ('low', 'high', 'max_step', 'max_rate'):
            given = getattr(action, key)
            if given is not None and not np.isfinite(given).all():
                raise ConfigError(f'action.{key} is {list(given)}: expected finite numbers')

    def apply(
        self, command: np.ndarray, previous: np.ndarray | None, elapsed: float
    ) -> np.ndarray | None:
        """Limit one command (A,), contract units. None if it is not finite or has another size.

        Args:
            command: command to send.
            previous: (A,) last command sent, from which step and rate limits count; None for the
                first command.
            elapsed: time since then [s]. At most one period of it counts: after a second without
                commands, the robot must not jump by a second's worth of motion.

        """
        command = np.asarray(command, dtype=float)
        if command.shape != self.low.shape or not np.isfinite(command).all():
            self.rejected += 1
            return None
        limited = self.project(command[None], previous, elapsed)[0]
        changed = ~np.isclose(limited, command)  # rounding, where a plan at its limit is averaged
        self.clipped += int(changed.any())
        self.clipped_by += changed
        return limited

    def project(
        self, commands: np.ndarray, previous: np.ndarray | None, elapsed: float = np.inf
    ) -> np.ndarray:
        """Limit finite commands of consecutive ticks (..., T, A), contract units; a new array.

        Args:
            commands: commands to send.
            previous: (A,) as in :meth:`apply`, or (m, A): all commands in effect during the last
                period, if earlier ticks were not aligned with these.
            elapsed: time between two commands, and since the last one sent [s]; at most one period
                counts, as in :meth:`apply`.

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
