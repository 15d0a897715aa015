# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Pushes that move and turn the T, for training data: the scripted policy of Push-T."""

from __future__ import annotations

import numpy as np

from lewm_ros.sim.push_t import OUTLINE, RADIUS, SIDE
from lewm_ros.sim.scripted import ScriptedPolicy, rotation, unit

CLEAR = 15.0  #: between agent and T where a push begins [px]
AROUND = 120.0  #: from the middle of the T, on the way round it [px]
LONGEST = 4.0  #: of the way to a push, and of a push [s]
#: The middle of the T, in its own coordinates [px].
MIDDLE = np.array([0.0, 45.0])


class PushTPolicy(ScriptedPolicy):
    """Pushes a random point of the outline of the T inwards, then another, noisily.

    A point off the middle turns the T. Of four points drawn it takes the nearest whose push moves
    the T towards the middle of the plane. One episode in eight is noise alone.
    """

    blind_share = 1 / 8
    noise = (0.01, 0.12)

    def _begin_episode(self) -> None:
        """Draw an episode's manner and its first push."""
        self._slop = self._rng.uniform(0.0, 0.5)
        self._begin()

    def _begin(self) -> None:
        """Choose a point of the outline and a direction across it, both as the T turns."""
        agent, block, turn = self._look()
        starts = np.array(OUTLINE)
        ways = np.roll(starts, -1, axis=0) - starts
        lengths = np.linalg.norm(ways, axis=1)
        sides = self._rng.choice(len(starts), 4, p=lengths / lengths.sum())
        shares = self._rng.uniform(0.1, 0.9, (4, 1))
        points = starts[sides] + shares * ways[sides]
        inward = np.stack([-ways[sides, 1], ways[sides, 0]], axis=1) / lengths[sides, None]
        begins = (points - (RADIUS + CLEAR) * inward) @ turn.T + block
        outside = np.abs(begins - SIDE / 2).max(axis=1) > SIDE / 2 - RADIUS
        home = (SIDE / 2 - block) / SIDE @ (inward @ turn.T).T
        cost = np.linalg.norm(begins - agent, axis=1) / SIDE - 2 * home + 10 * outside
        best = int(np.argmin(cost))
        self._inward = rotation(self._rng.normal() * self._slop) @ inward[best]
        self._from = points[best] - (RADIUS + CLEAR) * inward[best]
        self._lead = self._rng.uniform(15.0, 50.0)  # what the agent heads for is so far ahead [px]
        self._phase, self._left = 'round', LONGEST

    def _wanted(self) -> np.ndarray:
        """Return the place (2,) that the agent heads for, -1 and 1 the sides of the plane."""
        agent, block, turn = self._look()
        self._left -= self._period
        if self._left <= 0:
            self._begin()
        begin = turn @ self._from + block
        if self._phase == 'round' and np.linalg.norm(begin - agent) < RADIUS:
            self._phase, self._left = 'push', self._rng.uniform(0.4, 0.4 * LONGEST)
            self._way = turn @ self._inward
        if self._phase == 'push':
            target = agent + self._lead * self._way
        else:
            target = self._round(agent, begin, turn @ MIDDLE + block)
        return (target - self._middle) / self._half

    @staticmethod
    def _round(agent: np.ndarray, begin: np.ndarray, middle: np.ndarray) -> np.ndarray:
        """Return the place (2,) to head for on the way to where a push begins, clear of the T."""
        out, wanted = agent - middle, begin - middle
        angle = np.arctan2(out[0] * wanted[1] - out[1] * wanted[0], out @ wanted)
        if abs(angle) < 0.5:
            return begin
        if np.linalg.norm(out) < AROUND - RADIUS:  # first away from it
            return middle + AROUND * unit(out)
        return middle + AROUND * unit(rotation(np.clip(angle, -0.7, 0.7)) @ out)

    def _look(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the places of agent and T (2,) [px], and the rotation (2, 2) of the T."""
        state = self._task.state()
        return state[:2], state[2:4], rotation(state[4])
