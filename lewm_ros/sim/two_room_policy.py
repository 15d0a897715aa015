# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Drives for training data: the scripted policy of the two rooms."""

from __future__ import annotations

import numpy as np

from lewm_ros.sim.scripted import ScriptedPolicy, unit
from lewm_ros.sim.two_room import TwoRoom

ARRIVED = 0.05  #: a place or the door's threshold is reached within this [m]
THRESHOLD = 0.27  #: |x| of the points before and behind the door [m]
LONGEST = 6.0  #: of one drive [s]


class TwoRoomPolicy(ScriptedPolicy):
    """Drives to one random place after another, through the door where it must, noisily.

    Every drive has its own speed and its own line through the door; one episode in four is noise
    alone.
    """

    blind_share = 1 / 4

    def _begin_episode(self) -> None:
        """Draw the first place."""
        rng = self._rng
        self._place = TwoRoom.random_pose(rng)
        self._door = TwoRoom.DOOR + rng.uniform(-0.08, 0.08)
        self._speed = rng.uniform(0.4, 1.0)
        self._left = LONGEST

    def _wanted(self) -> np.ndarray:
        """Velocity (2,) as a share of the largest."""
        base = self._task.state()[:2]
        self._left -= self._period
        if self._left <= 0 or np.linalg.norm(self._place - base) < ARRIVED:
            self._begin_episode()
        return self._speed * unit(self._next(base) - base)

    def _next(self, base: np.ndarray) -> np.ndarray:
        """Return the point (2,) [m] to head for: before the door, behind it, or the place."""
        inside = abs(base[0]) < THRESHOLD - ARRIVED / 2
        if base[0] * self._place[0] > 0 and not inside:
            return self._place
        aligned = abs(base[1] - self._door) < ARRIVED
        if inside or (aligned and abs(base[0]) < THRESHOLD + ARRIVED):
            return np.array([np.sign(self._place[0]) * THRESHOLD, self._door])
        return np.array([np.sign(base[0]) * THRESHOLD, self._door])
