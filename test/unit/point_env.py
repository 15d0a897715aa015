# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Small Gymnasium environments: a point pushed on a plane, and variants that lack something.

Their ids are ``point_env:lewm/Point-v0`` and so on.
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
from gymnasium.spaces import Box, Discrete
import numpy as np

PLANE = np.full((40, 60, 3), 220, dtype=np.uint8)


class MutePoint(gymnasium.Env):
    """Two forces move a point; its state is not accessible."""

    metadata: ClassVar = {'render_modes': ['rgb_array'], 'render_fps': 20}
    observation_space = Box(-np.inf, np.inf, (4,))
    action_space = Box(np.float32([-1, -0.5]), np.float32([1, 0.5]))

    def __init__(self, render_mode: str | None = None) -> None:
        self.render_mode = render_mode

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Put the point somewhere, at rest."""
        super().reset(seed=seed)
        self._x = np.concatenate([self.np_random.uniform(-0.8, 0.8, 2), np.zeros(2)])
        return self._x.astype(np.float32), {}

    def step(self, action: np.ndarray) -> Any:
        """Push it for a twentieth of a second; every step ends the episode."""
        assert self.action_space.contains(action), action
        self._x[2:] = 0.9 * self._x[2:] + 0.5 * action
        self._x[:2] = np.clip(self._x[:2] + 0.05 * self._x[2:], -0.9, 0.9)
        return self._x.astype(np.float32), 0.0, True, False, {}

    def render(self) -> np.ndarray:
        """Draw it, (40, 60, 3) uint8."""
        image = PLANE.copy()
        column, row = np.round([30, 20] + self._x[:2] * [30, 20]).astype(int)
        image[max(row - 3, 0) : row + 3, max(column - 3, 0) : column + 3] = (200, 40, 20)
        return image


class Point(MutePoint):
    """Can get and set its state, and says when a goal is reached."""

    def get_state(self) -> np.ndarray:
        """Return position and velocity, (4,)."""
        return self._x.copy()

    def set_state(self, state: np.ndarray) -> None:
        """Put the point there."""
        self._x = state.copy()

    def achieves(self, state: np.ndarray, goal: np.ndarray) -> bool:
        """Whether the position is within 0.1 of the goal."""
        return bool(np.linalg.norm(state[:2] - goal[:2]) < 0.1)


class Unjudged(MutePoint):
    """Has an attribute ``state``, as classic control environments, and no success criterion."""

    @property
    def state(self) -> tuple[float, ...]:
        """Position and velocity."""
        return tuple(self._x)

    @state.setter
    def state(self, state: np.ndarray) -> None:
        self._x = np.array(state)


class Visible(MutePoint):
    """Has its last image as the attribute ``state``, as some environments do."""

    @property
    def state(self) -> np.ndarray:
        """Return the image, (40, 60, 3)."""
        return self.render()


class Clockless(Point):
    """Does not say how long a step is."""

    metadata: ClassVar = {'render_modes': ['rgb_array']}


class Buttons(Point):
    """Has a discrete action space."""

    action_space = Discrete(4)


class Grey(Point):
    """Renders grey images."""

    def render(self) -> np.ndarray:
        """Draw it, (40, 60) uint8."""
        return super().render()[..., 0]


class Still(Point):
    """Every reset gives the same state."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Put the point in the middle."""
        super().reset(seed=seed)
        self._x[:] = 0
        return self._x.astype(np.float32), {}


class Whole(Point):
    """Has actions of whole numbers."""

    action_space = Box(np.int32([0, 0]), np.int32([9, 9]), dtype=np.int32)


class Slow(Point):
    """Makes a step in a time that is no whole number of nanoseconds."""

    metadata: ClassVar = {'render_modes': ['rgb_array'], 'render_fps': 12}


class Telling(MutePoint):
    """Gives its state as a dictionary."""

    def get_state(self) -> dict[str, np.ndarray]:
        """Return position and velocity."""
        return {'x': self._x}

    def set_state(self, state: dict[str, np.ndarray]) -> None:
        """Put the point there."""
        self._x = state['x']


class ReadOnly(MutePoint):
    """Has an attribute ``state`` that cannot be set."""

    @property
    def state(self) -> np.ndarray:
        """Position and velocity."""
        return self._x


class Wide(MutePoint):
    """Has more numbers in its state than a contract."""

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        """Put the point somewhere."""
        result = super().reset(seed=seed)
        self.state = np.zeros(200)
        return result


class Ragged(MutePoint):
    """Has lists of different lengths as the attribute ``state``."""

    state = ([1.0], [1.0, 2.0])


class Cell(MutePoint):
    """Is in one of ten places, by a whole number."""

    state = 3

    def render(self) -> np.ndarray:
        """Draw the place, (40, 60, 3) uint8."""
        image = PLANE.copy()
        image[:, 6 * self.state : 6 * self.state + 6] = 0
        return image


for kind in (
    *(Point, MutePoint, Unjudged, Visible, Clockless, Buttons, Grey, Still, Whole, Slow, Telling),
    *(ReadOnly, Wide, Cell, Ragged),
):
    gymnasium.register(f'lewm/{kind.__name__}-v0', entry_point=kind, max_episode_steps=5)
