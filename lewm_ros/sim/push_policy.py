# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Pushes for training data: the scripted policy of the puck task."""

from __future__ import annotations

import numpy as np

from lewm_ros.sim.push import Push
from lewm_ros.sim.scripted import ScriptedPolicy, rotation, unit

CLEARANCE = 0.02  #: that the pusher keeps from the puck while it goes around it [m]
BEHIND = 0.35  #: pushes begin when the pusher is this close to straight behind the puck [rad]
LONGEST = 2.5  #: of one push or one way round [s]


class PushPolicy(ScriptedPolicy):
    """Pushes the puck to one random place after another, noisily.

    It goes around the puck until it is behind it, pushes it to the place, backs off for a moment,
    and begins again. Every push has its own speed, every episode its own sloppiness; one in eight
    is noise alone.
    """

    blind_share = 1 / 8

    def _begin_episode(self) -> None:
        """Draw an episode's manner and its first place."""
        self._away = np.zeros(2)
        self._slop = self._rng.uniform(0.0, 0.4)
        self._begin()

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
        way = rotation(self._aim) @ (way / distance)
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
            return unit(puck - (Push.CONTACT + CLEARANCE) * way - pusher)
        tangent = np.sign(angle) * np.array([-out[1], out[0]])
        radial = (Push.CONTACT + CLEARANCE - away) / CLEARANCE
        return unit(tangent + np.clip(radial, -1, 1) * out)
