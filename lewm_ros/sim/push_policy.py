# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Pushes for training data: the scripted policy of the puck task."""

from __future__ import annotations

import numpy as np

from lewm_ros.robot.contract import Contract
from lewm_ros.sim.push import Push

CLEARANCE = 0.02  #: that the pusher keeps from the puck while it goes around it [m]
BEHIND = 0.35  #: pushes begin when the pusher is this close to straight behind the puck [rad]
LONGEST = 2.5  #: of one push or one way round [s]


class PushPolicy:
    """Pushes the puck to one random place after another, noisily.

    It looks at the true state: goes around the puck until it is behind it, pushes it to the
    place, backs off for a moment, and begins again. Every push has its own speed, every episode
    its own sloppiness and noise (an autoregressive process with a time constant between 0.05 and
    0.5 s); one in eight is noise alone.
    """

    def __init__(self, contract: Contract, rng: np.random.Generator, task: Push) -> None:
        self._high = np.asarray(contract.action.high)
        self._period = contract.period
        self._rng, self._task = rng, task
        self._away = np.zeros(2)
        self.reset()

    def reset(self) -> None:
        """Draw an episode's manner and its first place."""
        rng = self._rng
        self._blind = rng.random() < 1 / 8
        self._keep = np.exp(-self._period / np.exp(rng.uniform(np.log(0.05), np.log(0.5))))
        self._std = rng.uniform(0.4, 1.2) if self._blind else rng.uniform(0.05, 0.5)
        self._noise = rng.normal(size=2) * self._std
        self._slop = rng.uniform(0.0, 0.4)
        self._begin()

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """Look away: this policy reads the state."""

    def act(self, stamp: int) -> np.ndarray:
        """Return the next command (2,) [m/s]."""
        fresh = self._rng.normal(size=2) * self._std
        self._noise = self._keep * self._noise + np.sqrt(1 - self._keep**2) * fresh
        wanted = np.zeros(2) if self._blind else self._wanted()
        return np.clip((wanted + self._noise) * self._high, -self._high, self._high)

    def _begin(self) -> None:
        """Choose a place that asks for little going around: the best of three."""
        pusher, puck = np.split(self._task.state()[:4], 2)
        places = self._rng.uniform(-Push.PUCK, Push.PUCK, (3, 2))
        ways = places - puck
        ways /= np.linalg.norm(ways, axis=1, keepdims=True) + 1e-9
        chosen = int(np.argmax(ways @ (puck - pusher)))
        self._place = places[chosen]
        self._aim = self._rng.normal() * self._slop
        self._speed = self._rng.uniform(0.4, 1.0)
        self._phase, self._left = 'round', LONGEST

    def _wanted(self) -> np.ndarray:
        """Velocity (2,) as a share of the largest."""
        pusher, puck = np.split(self._task.state()[:4], 2)
        self._left -= self._period
        if self._phase == 'off':
            if self._left <= 0:
                self._begin()
            return self._away
        way = self._place - puck
        distance = np.linalg.norm(way)
        if self._left <= 0 or distance < 0.01:
            away = pusher - puck + self._rng.normal(size=2) * 0.1
            self._away = away / (np.linalg.norm(away) + 1e-9)
            self._phase, self._left = 'off', self._rng.exponential(0.25)
            return self._away
        cos, sin = np.cos(self._aim), np.sin(self._aim)
        way = np.array([[cos, -sin], [sin, cos]]) @ (way / distance)
        out = pusher - puck
        away = np.linalg.norm(out)
        out = out / (away + 1e-9)
        # Signed angle from where the pusher is to straight behind the puck.
        angle = np.arctan2(out[0] * -way[1] + out[1] * way[0], -(out @ way))
        if self._phase == 'round' and abs(angle) < BEHIND:
            self._phase, self._left = 'push', LONGEST
        elif self._phase == 'push' and abs(angle) > 3 * BEHIND:
            self._phase = 'round'
        if self._phase == 'push':
            across = np.array([-way[1], way[0]])
            near = min(float(away) / Push.CONTACT - 0.5, 1.0)
            return self._speed * way - 4 * (out @ across) * across * near
        if away > 2 * Push.CONTACT:
            return _unit(puck - (Push.CONTACT + CLEARANCE) * way - pusher)
        tangent = np.sign(angle) * np.array([-out[1], out[0]])
        radial = (Push.CONTACT + CLEARANCE - away) / CLEARANCE
        return _unit(tangent + np.clip(radial, -1, 1) * out)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / (np.linalg.norm(vector) + 1e-9)
