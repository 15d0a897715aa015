# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The simulated task: a torque-driven two-joint arm that should reach the pose of an image."""

from __future__ import annotations

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.sim.mujoco_task import MujocoTask


class Reacher(MujocoTask):
    """Two-joint planar arm, torque control.

    A pose is the joint angles [rad]; an action is the motor command of shoulder and elbow in
    [−1, 1] (1 is full torque). Success, as in the paper: both joints within the tolerance.
    """

    name = 'reacher'
    contract = 'reacher.yaml'
    joints = ('shoulder', 'elbow')
    unit = 'rad'
    tolerance = 0.1
    goal_seconds = 8.0
    painted = ('upper', 'fore', 'tip')
    ELBOW = 2.3  #: goals and resets keep the elbow within ± this [rad]
    NEAR, FAR = 0.8, 1.3  #: distance of a new goal, largest joint difference [rad]

    @classmethod
    def random_pose(cls, rng: np.random.Generator) -> np.ndarray:
        """Draw joint angles (2,) [rad]."""
        return np.array([rng.uniform(-np.pi, np.pi), rng.uniform(-cls.ELBOW, cls.ELBOW)])

    @classmethod
    def goal_near(
        cls, pose: np.ndarray, rng: np.random.Generator, far: float | None = None
    ) -> np.ndarray:
        """Draw a goal pose (2,) [rad] that is not reached yet.

        No joint is further than ``far`` [rad] from ``pose`` and one is at least ``NEAR`` away.
        Without ``far`` a plan reaches it: the paper, too, takes goals that its plan of 25 steps
        can reach.
        """
        far = cls.FAR if far is None else min(far, 2 * np.pi)
        if not far > cls.NEAR:
            raise ConfigError(f'far is {far} rad: expected more than {cls.NEAR}')
        while True:
            goal = np.asarray(pose) + rng.uniform(-far, far, 2)
            if abs(goal[1]) <= cls.ELBOW and cls.pose_errors(pose, goal).max() >= cls.NEAR:
                return goal

    @staticmethod
    def pose_errors(pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Distance of each joint between two poses (..., 2), [rad], in [0, π]; angles wrap."""
        return np.abs((np.asarray(pose) - goal + np.pi) % (2 * np.pi) - np.pi)

    def _teleport(self) -> None:
        """Move both joints by 0.6 to 1.5 rad."""
        while True:
            jump = self.rng.uniform(0.6, 1.5, 2) * self.rng.choice([-1.0, 1.0], 2)
            if abs(self.data.qpos[1] + jump[1]) < self.ELBOW:
                break
        self.data.qpos[:] += jump

    def _push(self) -> None:
        """Change both joint velocities by 2 to 4 rad/s: about half a radian until it is over."""
        self.data.qvel[:] += self.rng.uniform(2.0, 4.0, 2) * self.rng.choice([-1.0, 1.0], 2)
