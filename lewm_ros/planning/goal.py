# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How a robot stands to its goal: whether there is one, whether it is reached or given up."""

from __future__ import annotations

from enum import Enum
import math

import numpy as np

from lewm_ros.planning.config import GoalConfig
from lewm_ros.time import NS_PER_S

#: Of a bundle that says nothing, and has no roadmap either.
TOLERANCE = 0.035
#: A goal is left at this many times the distance that counts as reached.
RELEASE = 2.0
#: Shortest time that a predicted one lets a goal be active [s].
SHORTEST = 2.0
#: A pause between frames longer than this [s], and than so many periods, begins the dwell anew.
MAX_PAUSE, MAX_PERIODS = 1.0, 3


class GoalState(Enum):
    """What is so; the value is the word that people and messages read."""

    NONE = 'none'
    ACTIVE = 'active'
    REACHED = 'reached'
    TIMEOUT = 'timeout'


class Goal:
    """The goal that is pursued, and how near it the robot is.

    An active goal is reached once all frames of ``goal_dwell`` seconds are within
    ``goal_tolerance``; a reached one is active again once all frames of as long are beyond
    :data:`RELEASE` times it. So neither a robot that swings through its goal nor one frame at the
    limit changes the state. A goal that is active for ``goal_timeout`` seconds at a stretch, or
    ``goal_timeout_factor`` times what was predicted, is given up until another is set.

    Distances are mean squared differences of latents per dimension: 2 between two images
    chosen at random, where the latents have the unit variance that training aims at.

    Not thread safe.

    Args:
        config: the dwell is by the stamps of frames, the timeout by a steady clock.
        period: of the frames [s].
        tolerance: of the bundle, for a ``goal_tolerance`` of 0.

    Attributes:
        config: can be replaced at any time; the goal stays.
        state: what is so.
        latent: of the goal, (D,), or None.
        stamp: of the goal [ns].
        frame: stamp of the newest frame compared with it [ns]; 0 = none.
        distance: of that frame; NaN = none.
        forecast: time to the goal that was predicted last time it became active [s]; NaN = none.

    """

    latent: np.ndarray | None
    _since: int | None  # first frame in a row that speaks for another state [ns]

    def __init__(self, config: GoalConfig, period: float, tolerance: float = TOLERANCE) -> None:
        self.config = config
        self._tolerance = tolerance
        self._pause = max(MAX_PAUSE, MAX_PERIODS * period)
        self._set_at = self._active_since = self._foreseen_at = 0.0
        self.clear()

    def set(self, latent: np.ndarray, stamp: int, now: float) -> None:
        """Pursue another goal (D,) of ``stamp`` [ns] from ``now`` [s, steady] on."""
        self.clear()
        self.latent, self.stamp = latent, stamp
        self._set_at = self._active_since = now
        self.state = GoalState.ACTIVE

    def clear(self) -> None:
        """Have no goal."""
        self.state = GoalState.NONE
        self.latent = None
        self.stamp = 0
        self.forget_frames()

    def forget_frames(self) -> None:
        """Begin to look anew (new episode, clock that jumped); the goal stays."""
        self.frame, self.distance, self.forecast = 0, float('nan'), float('nan')
        self._since = None

    @property
    def tolerance(self) -> float:
        """Largest distance at which the goal counts as reached."""
        return self.config.goal_tolerance or self._tolerance

    @property
    def pursued(self) -> np.ndarray | None:
        """What to plan for, (D,); None without a goal and after a timeout."""
        return None if self.state is GoalState.TIMEOUT else self.latent

    def foresee(self, seconds: float, now: float) -> None:
        """Note a time to the goal [s] predicted at ``now`` [s, steady], if it is the first."""
        if math.isnan(self.forecast):
            self.forecast, self._foreseen_at = seconds, now

    def age(self, now: float) -> float:
        """Seconds since the goal was set; NaN without one. ``now`` [s, steady]."""
        return float('nan') if self.latent is None else now - self._set_at

    def observe(self, stamp: int, latent: np.ndarray, now: float) -> bool:
        """Compare the frame of ``stamp`` [ns], its latent (D,); whether the state changed."""
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
        """Give an active goal up whose time is over at ``now`` [s, steady]; whether it was."""
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
