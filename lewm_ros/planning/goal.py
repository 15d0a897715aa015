# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""State of a goal: whether one is set, and whether it is active, reached or given up."""

from __future__ import annotations

from enum import Enum
import math

import numpy as np

from lewm_ros.planning.config import GoalConfig
from lewm_ros.time import NS_PER_S

#: Tolerance for a bundle that has neither its own tolerance nor a roadmap.
TOLERANCE = 0.035
#: A reached goal becomes active again beyond this multiple of the tolerance.
RELEASE = 2.0
#: Shortest timeout derived from a predicted time to the goal [s].
SHORTEST = 2.0
#: A pause between frames restarts the dwell if it exceeds both this [s] and this many periods.
MAX_PAUSE, MAX_PERIODS = 1.0, 3


class GoalState(Enum):
    """State of a goal; the values appear in messages and in the user interface."""

    NONE = 'none'
    ACTIVE = 'active'
    REACHED = 'reached'
    TIMEOUT = 'timeout'


class Goal:
    """The current goal, and the distance of the robot to it.

    An active goal becomes reached once every frame for ``goal_dwell`` seconds is within
    ``goal_tolerance``. A reached goal becomes active again once every frame for as long is beyond
    :data:`RELEASE` times the tolerance. Neither a robot that swings through its goal nor a single
    frame at the limit changes the state. A goal that stays active for ``goal_timeout`` seconds, or
    for ``goal_timeout_factor`` times the predicted time, is given up until another one is set.

    A distance is the mean squared difference of two latents per dimension. It is 2 for two random
    images if the latents have the unit variance that training aims at.

    Not thread safe.

    Args:
        config: settings; the dwell is measured by frame stamps, timeouts by a steady clock.
        period: camera period [s].
        tolerance: tolerance of the bundle, used if ``goal_tolerance`` is 0.

    Attributes:
        config: can be replaced at any time; the goal stays.
        state: current state.
        latent: goal latent (D,), or None.
        stamp: stamp of the goal [ns].
        frame: stamp of the newest frame compared with the goal [ns]; 0 if none.
        distance: distance of that frame; NaN if none.
        forecast: first time to the goal predicted since it became active [s]; NaN if none.

    """

    latent: np.ndarray | None
    _since: int | None  # first of the consecutive frames that indicate another state [ns]

    def __init__(self, config: GoalConfig, period: float, tolerance: float = TOLERANCE) -> None:
        self.config = config
        self._tolerance = tolerance
        self._pause = max(MAX_PAUSE, MAX_PERIODS * period)
        self._set_at = self._active_since = self._foreseen_at = 0.0
        self.clear()

    def set(self, latent: np.ndarray, stamp: int, now: float) -> None:
        """Set a goal latent (D,) with its ``stamp`` [ns]; it is active from ``now`` [s, steady]."""
        self.clear()
        self.latent, self.stamp = latent, stamp
        self.start(now)
        self.state = GoalState.ACTIVE

    def start(self, now: float) -> None:
        """Count its age and its time to a timeout from ``now`` [s, steady] on."""
        self._set_at = self._active_since = now

    def clear(self) -> None:
        """Clear the goal."""
        self.state = GoalState.NONE
        self.latent = None
        self.stamp = 0
        self.forget_frames()

    def forget_frames(self) -> None:
        """Forget the frames compared so far (new episode, clock jump); the goal stays."""
        self.frame, self.distance, self.forecast = 0, float('nan'), float('nan')
        self._since = None

    @property
    def tolerance(self) -> float:
        """Largest distance at which the goal counts as reached."""
        return self.config.goal_tolerance or self._tolerance

    @property
    def pursued(self) -> np.ndarray | None:
        """Goal latent (D,) to plan for; None without a goal or after a timeout."""
        return None if self.state is GoalState.TIMEOUT else self.latent

    def foresee(self, seconds: float, now: float) -> None:
        """Record a time to the goal [s] predicted at ``now`` [s, steady], if it is the first."""
        if math.isnan(self.forecast):
            self.forecast, self._foreseen_at = seconds, now

    def age(self, now: float) -> float:
        """Seconds since the goal was set; NaN without one. ``now`` [s, steady]."""
        return float('nan') if self.latent is None else now - self._set_at

    def observe(self, stamp: int, latent: np.ndarray, now: float) -> bool:
        """Compare the latent (D,) of a frame (stamp in [ns]); return whether the state changed."""
        if self.latent is None:
            return False
        if stamp - self.frame > self._pause * NS_PER_S:
            self._since = None
        apart = latent.astype(np.float64) - self.latent
        self.frame, self.distance = stamp, float(np.mean(apart**2))
        tolerance = self.tolerance
        if self.state is GoalState.ACTIVE:
            other, speaks = GoalState.REACHED, self.distance <= tolerance
        elif self.state is GoalState.REACHED:
            other, speaks = GoalState.ACTIVE, self.distance > RELEASE * tolerance
        else:
            return False
        if not speaks:
            self._since = None
            return False
        if self._since is None:
            self._since = stamp
        if stamp - self._since < self.config.goal_dwell * NS_PER_S:
            return False
        self.state, self._since, self._active_since = other, None, now
        self.forecast = float('nan')
        return True

    def expire(self, now: float) -> bool:
        """Give up an active goal that timed out by ``now`` [s, steady]; return whether it did."""
        config = self.config
        allowed = max(config.goal_timeout_factor * self.forecast, SHORTEST)
        due = 0 < config.goal_timeout <= now - self._active_since or (
            config.goal_timeout_factor > 0
            and math.isfinite(self.forecast)
            and now - self._foreseen_at >= allowed
        )
        if self.state is not GoalState.ACTIVE or not due:
            return False
        self.state = GoalState.TIMEOUT
        return True
