# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Robots that the package was not tuned for, as tasks, and variants with corrupted data.

``PYTHONPATH=benchmarks lewm collect robots:Cart --out bag --episodes 48 --seconds 10``
"""

from __future__ import annotations

from collections import deque
from pathlib import Path

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.sim import MujocoTask, Reacher
from lewm_ros.sim.collect import RandomPolicy

HERE = Path(__file__).parent


class OwnRobot(MujocoTask):
    """A robot whose goals are poses; every joint must be within the tolerance of its own."""

    bounds: tuple[tuple[float, ...], tuple[float, ...]]  #: poses lie between
    NEAR: float  #: largest joint difference of a new goal, at least
    REACH: float  #: and at most, where no other limit is given
    goal_seconds = 8.0

    @classmethod
    def random_pose(cls, rng: np.random.Generator) -> np.ndarray:
        """Draw positions (J,) of the joints."""
        return rng.uniform(*cls.bounds)

    @classmethod
    def goal_near(
        cls, pose: np.ndarray, rng: np.random.Generator, far: float | None = None
    ) -> np.ndarray:
        """Draw a pose (J,) of which one joint at least is ``NEAR`` away and none above ``far``."""
        far = cls.REACH if far is None else far
        if not far > cls.NEAR:
            raise ConfigError(
                f'a goal {far} {cls.unit} away is none: expected more than {cls.NEAR}'
            )
        low, high = np.clip([pose - far, pose + far], *cls.bounds)
        while True:
            goal = rng.uniform(low, high)
            if cls.pose_errors(pose, goal).max() >= cls.NEAR:
                return goal

    @staticmethod
    def pose_errors(pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Distance of each joint between two poses (..., J)."""
        return np.abs(np.asarray(pose) - goal)

    def _teleport(self) -> None:
        self.data.qpos[:] = self.goal_near(self.data.qpos, self.rng, np.inf)

    def _push(self) -> None:
        self.data.qvel[:] += self.rng.choice([-1.0, 1.0], len(self.joints)) * 3


class Cart(OwnRobot):
    """A cart on a rail, seen from the side, with one velocity (Twist)."""

    name, contract, camera = 'cart', str(HERE / 'cart.yaml'), 'side'
    mjcf = (HERE / 'cart.xml').read_text()
    joints, unit, tolerance, painted = ('slide',), 'm', 0.02, ()
    bounds = ((-0.5,), (0.5,))
    NEAR, REACH = 0.1, 0.4


class Arm3(OwnRobot):
    """Three position servos in a plane; the last link is six pixels long."""

    name, contract, camera = 'arm3', str(HERE / 'arm3.yaml'), 'front'
    mjcf = (HERE / 'arm3.xml').read_text()
    joints, unit, tolerance, painted = ('j1', 'j2', 'j3'), 'rad', 0.15, ()
    bounds = ((-1.2, -1.7, -1.7), (1.2, 1.7, 1.7))
    NEAR, REACH = 0.3, 0.5


class Arm6(OwnRobot):
    """Six position servos in space behind JointTrajectory, seen from one side."""

    name, contract, camera = 'arm6', str(HERE / 'arm6.yaml'), 'front'
    mjcf = (HERE / 'arm6.xml').read_text()
    joints = ('pan', 'lift', 'elbow', 'wrist_1', 'wrist_2', 'wrist_3')
    unit, tolerance, painted = 'rad', 0.15, ()
    bounds = ((-1.2, -0.6, -1.2, -1.2, -1.2, -1.2), (1.2, 0.6, 1.2, 1.2, 1.2, 1.2))
    NEAR, REACH = 0.3, 0.5


class DeafCart(Cart):
    """Corrupted: random commands move the cart, not the recorded ones."""

    def step(self, action: np.ndarray, steps: int = 1) -> None:
        """Advance under a command of its own."""
        super().step(self._own.act(0), steps)

    def reset(self) -> None:
        """Begin an episode with new commands."""
        self._own = RandomPolicy(self.robot(), self.rng)
        super().reset()


class LateCart(Cart):
    """Corrupted: commands act 0.4 s late, and the contract does not declare this delay."""

    def step(self, action: np.ndarray, steps: int = 1) -> None:
        """Advance under the command sent 0.4 s ago."""
        self._sent.append((self.time, action))
        while len(self._sent) > 1 and self._sent[1][0] <= self.time - 0.4:
            self._sent.popleft()
        super().step(self._sent[0][1], steps)

    def reset(self) -> None:
        """Begin an episode at rest."""
        self._sent = deque([(-1.0, np.zeros(1))])
        super().reset()


class MovedCart(Cart):
    """The camera has been moved by 15 cm since training."""

    mjcf = Cart.mjcf.replace('pos="0 -1.4 .3"', 'pos=".15 -1.4 .3"')


class Glide(Reacher):
    """The arm of `reacher` with a tenth of its damping: it coasts for more than a second."""

    def __init__(self, image_size: int | tuple[int, int] = 64, seed: int = 0) -> None:
        super().__init__(image_size, seed)
        self.model.dof_damping[:] *= 0.1
