# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How a robot stands to its goal: whether there is one, whether it is reached or given up."""

from __future__ import annotations

from enum import Enum
import math

import numpy as np

from lewm_ros.planning.config import GoalConfig
from lewm_ros.time import NS_PER_S

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
    limit changes the state. A goal that is active for :attr:`timeout` seconds at a stretch is
    given up until another is set.

    Distances are mean squared differences of latents per dimension: 2 between two images
    chosen at random, where the latents have the unit variance that training aims at.

    Not thread safe.

    Args:
        config: the dwell is by the stamps of frames, the timeout by a steady clock.
        period: of the frames [s].

    Attributes:
        config: can be replaced at any time; the goal stays.
        state: what is so.
        latent: of the goal, (D,), or None.
        stamp: of the goal [ns].
        frame: stamp of the newest frame compared with it [ns]; 0 = none.
        distance: of that frame; NaN = none.
        forecast: time to the goal that was predicted when it was set [s]; NaN = none.

    """

    latent: np.ndarray | None
    _since: int | None  # first frame in a row that speaks for another state [ns]

    def __init__(self, config: GoalConfig, period: float) -> None:
        self.config = config
        self._pause = max(MAX_PAUSE, MAX_PERIODS * period)
        self._set_at = self._active_since = 0.0
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
        self.latent, self.forecast = None, float('nan')
        self.stamp = 0
        self.forget_frames()

    def forget_frames(self) -> None:
        """Begin to look anew (new episode, clock that jumped); the goal stays."""
        self.frame, self.distance = 0, float('nan')
        self._since = None

    @property
    def pursued(self) -> np.ndarray | None:
        """What to plan for, (D,); None without a goal and after a timeout."""
        return None if self.state is GoalState.TIMEOUT else self.latent

    @property
    def timeout(self) -> float:
        """How long a goal may be active [s]; infinite where that has no limit."""
        config, limits = self.config, [float('inf')]
        if config.goal_timeout > 0:
            limits.append(config.goal_timeout)
        if config.goal_timeout_factor > 0 and math.isfinite(self.forecast):
            limits.append(max(config.goal_timeout_factor * self.forecast, SHORTEST))
        return min(limits)

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
        tolerance = self.config.goal_tolerance
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
        return True

    def expire(self, now: float) -> bool:
        """Give an active goal up whose time is over at ``now`` [s, steady]; whether it was."""
        if self.state is not GoalState.ACTIVE or now - self._active_since < self.timeout:
            return False
        self.state = GoalState.TIMEOUT
        return True
