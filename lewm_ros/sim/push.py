# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The simulated task: a pusher that should bring a puck to where an image shows it."""

from __future__ import annotations

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.sim.mujoco_task import MujocoTask


class Push(MujocoTask):
    """Round pusher under velocity control, and a puck that only a push moves.

    A pose is x and y of the pusher's and of the puck's centre [m]; an action is the pusher's
    velocity [m/s]. A goal image shows the end of a straight push: the puck in its place, the
    pusher touching it from behind. Success is the puck's alone.
    """

    name = 'push'
    contract = 'push.yaml'
    joints = ('pusher_x', 'pusher_y', 'puck_x', 'puck_y')
    unit = 'm'
    tolerance = 0.03
    painted = ('pusher', 'puck')
    NEAR, FAR = 0.06, 0.15  #: distance of the puck to a new goal [m]
    CONTACT = 0.115  #: distance of the centres in contact [m]
    REACH = 0.375  #: longest path of the pusher to a goal: 1.25 s, the free part of a plan [m]
    PUSHER, PUCK = 0.28, 0.16  #: resets and goals keep x and y within ± this [m]

    @classmethod
    def random_pose(cls, rng: np.random.Generator) -> np.ndarray:
        """Draw positions (4,) [m] of pusher and puck that do not touch."""
        while True:
            pose = rng.uniform(-1, 1, 4) * [cls.PUSHER, cls.PUSHER, cls.PUCK, cls.PUCK]
            if np.linalg.norm(pose[:2] - pose[2:]) > cls.CONTACT:
                return pose

    @classmethod
    def goal_near(
        cls, pose: np.ndarray, rng: np.random.Generator, far: float | None = None
    ) -> np.ndarray:
        """Draw the end of a straight push (4,) [m], of ``NEAR`` to ``far``.

        Without ``far`` the goal is within a plan's reach: the push is at most ``FAR`` long, and the
        pusher's path around the puck and along the push is at most ``REACH`` long. If the pusher is
        too far from the puck for that, the goal is the nearest of 100.
        """
        reach = cls.REACH if far is None else np.inf
        far = cls.FAR if far is None else min(far, 2 * np.sqrt(2) * cls.PUCK)
        if not far > cls.NEAR:
            raise ConfigError(f'far is {far} m: expected more than {cls.NEAR}')
        pusher, puck = np.split(np.asarray(pose), 2)
        out = pusher - puck
        away = np.linalg.norm(out) + 1e-9
        nearest, least = np.empty(0), np.inf
        drawn = 0
        while drawn == 0 or (drawn < 100 and least > reach):
            way = _direction(rng)
            length = rng.uniform(cls.NEAR, far)
            goal = puck + length * way
            if np.abs(goal).max() > cls.PUCK:
                continue
            drawn += 1
            around = np.arccos(np.clip(-(out @ way) / away, -1, 1))
            path = abs(away - cls.CONTACT) + cls.CONTACT * around + length
            if path < least:
                nearest, least = np.concatenate([goal - cls.CONTACT * way, goal]), path
        return nearest

    @staticmethod
    def pose_errors(pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Distance of the puck between two poses (..., 4), (..., 1) [m]."""
        apart = np.asarray(pose)[..., 2:] - np.asarray(goal)[..., 2:]
        return np.linalg.norm(apart, axis=-1, keepdims=True)

    def _teleport(self) -> None:
        """Move the puck by 8 to 20 cm, to where the pusher is not."""
        puck = self.data.qpos[2:].copy()
        while True:
            place = puck + self.rng.uniform(0.08, 0.20) * _direction(self.rng)
            if self._free(place):
                break
        self.data.qpos[2:] = place

    def _push(self) -> None:
        """Strike the puck, 1.5 to 2.5 m/s: it slides 6 to 10 cm, mostly not into the pusher."""
        for _ in range(100):
            velocity = self.rng.uniform(1.5, 2.5) * _direction(self.rng)
            if self._free(self.data.qpos[2:] + 0.04 * velocity):
                break
        self.data.qvel[2:] = velocity

    def _free(self, place: np.ndarray) -> bool:
        """Whether a puck at ``place`` (2,) [m] is inside the rail and clear of the pusher."""
        apart = np.linalg.norm(place - self.data.qpos[:2])
        return bool(np.abs(place).max() <= self.PUCK and apart > self.CONTACT)


def _direction(rng: np.random.Generator) -> np.ndarray:
    """Draw a unit vector (2,)."""
    angle = rng.uniform(-np.pi, np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
