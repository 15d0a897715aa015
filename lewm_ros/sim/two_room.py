# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The simulated task: a mobile base in two rooms that should go to where an image shows it."""

from __future__ import annotations

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.sim.mujoco_task import MujocoTask


class TwoRoom(MujocoTask):
    """Round holonomic base under velocity control, two rooms, one door in the wall between them.

    A pose is x and y of the base's centre [m]; an action is its velocity [m/s]. Success: the base
    within the tolerance of its place in the goal image.
    """

    name = 'two_room'
    contract = 'two_room.yaml'
    joints = ('base_x', 'base_y')
    unit = 'm'
    tolerance = 0.1
    painted = ('base',)
    NEAR = 0.25  #: distance of a new goal, at least [m]
    REACH = 0.8  #: way to a goal: 1 s, the free part of a plan [m]
    INNER, OUTER = 0.23, 0.82  #: resets and goals keep |x| between these, |y| below OUTER [m]
    DOOR = 0.4  #: y of the middle of the door, at x = 0 [m]

    @classmethod
    def random_pose(cls, rng: np.random.Generator) -> np.ndarray:
        """Draw a place (2,) [m] in either room."""
        side = rng.choice([-1.0, 1.0])
        return np.array(
            [side * rng.uniform(cls.INNER, cls.OUTER), rng.uniform(-cls.OUTER, cls.OUTER)]
        )

    @classmethod
    def goal_near(
        cls, pose: np.ndarray, rng: np.random.Generator, far: float | None = None
    ) -> np.ndarray:
        """Draw a place (2,) [m] in either room, at a distance of ``NEAR`` to ``far``.

        Without ``far`` the goal is within a plan's reach: the way to it, through the door where
        it is in the other room, is no longer than ``REACH``.
        """
        if far is not None and not far > cls.NEAR:
            raise ConfigError(f'far is {far} m: expected more than {cls.NEAR}')
        while True:
            goal = cls.random_pose(rng)
            distance = cls.pose_errors(pose, goal).item()
            limit, length = (cls.REACH, cls.way(pose, goal)) if far is None else (far, distance)
            if distance >= cls.NEAR and length <= limit:
                return goal

    @classmethod
    def way(cls, pose: np.ndarray, goal: np.ndarray) -> float:
        """Length of the way between two places (2,) [m], through the middle of the door."""
        pose, goal = np.asarray(pose), np.asarray(goal)
        if pose[0] * goal[0] >= 0:
            return float(np.linalg.norm(goal - pose))
        door = np.array([0.0, cls.DOOR])
        return float(np.linalg.norm(pose - door) + np.linalg.norm(goal - door))

    @staticmethod
    def pose_errors(pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Distance of the base between two poses (..., 2), (..., 1) [m]."""
        apart = np.asarray(pose) - np.asarray(goal)
        return np.linalg.norm(apart, axis=-1, keepdims=True)

    def _teleport(self) -> None:
        """Put the base 0.4 to 1.2 m away, in either room."""
        while True:
            place = self.random_pose(self.rng)
            if 0.4 <= self.pose_errors(self.data.qpos, place).item() <= 1.2:
                break
        self.data.qpos[:] = place

    def _push(self) -> None:
        """Strike the base, 3 to 5 m/s: a slip of 15 to 25 cm unless a wall is in the way."""
        angle = self.rng.uniform(-np.pi, np.pi)
        self.data.qvel[:] += self.rng.uniform(3.0, 5.0) * np.array([np.cos(angle), np.sin(angle)])
