# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The simulated task: a torque-driven two-joint arm that should reach the pose of a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lewm_ros.errors import SimulationError
from lewm_ros.sim.rendering import Camera, load_mujoco

PERTURBATIONS = ('teleport', 'colour')


class Reacher:
    """Two-joint planar arm, top camera, torque control.

    State is joint angles [rad] and velocities [rad/s]; an action is the motor command of
    shoulder and elbow in [−1, 1] (1 is full torque). Success, as in the paper: both joints
    within ``TOLERANCE`` of the goal.

    Args:
        image_size: height and width of the camera picture [px].
        seed: of the task's own random generator (resets, goals, perturbations).

    """

    name = 'reacher'
    contract = 'reacher.yaml'
    TOLERANCE = 0.1  #: [rad]
    ELBOW = 2.3  #: goals and resets keep the elbow within ± this [rad]
    NEAR, FAR = 0.8, 1.3  #: distance of a new goal, largest joint difference [rad]

    def __init__(self, image_size: int = 64, seed: int = 0) -> None:
        self._mujoco = load_mujoco()
        self.model = self._mujoco.MjModel.from_xml_path(str(Path(__file__).parent / 'reacher.xml'))
        self.data = self._mujoco.MjData(self.model)
        self._goal_data = self._mujoco.MjData(self.model)
        self._camera = Camera(self.model, 'top', image_size)
        self._rgba = self.model.geom_rgba.copy()
        self.rng = np.random.default_rng(seed)
        self.goal: np.ndarray | None = None
        self.reset()

    def close(self) -> None:
        """Free the renderer."""
        self._camera.close()

    def reset(self) -> None:
        """Put the arm at rest in a random pose, in its normal colours."""
        self._mujoco.mj_resetData(self.model, self.data)
        self.model.geom_rgba[:] = self._rgba
        self.data.qpos[:] = self.random_pose(self.rng)
        self._mujoco.mj_forward(self.model, self.data)

    @property
    def time(self) -> float:
        """Simulated time since the last reset [s]."""
        return float(self.data.time)

    @property
    def timestep(self) -> float:
        """Physics step [s]."""
        return float(self.model.opt.timestep)

    def step(self, action: np.ndarray, steps: int = 1) -> None:
        """Advance the physics by ``steps`` physics steps under a held action (2,)."""
        self.data.ctrl[:] = action
        self._mujoco.mj_step(self.model, self.data, nstep=steps)

    def render(self) -> np.ndarray:
        """Return the camera picture of the present state, (S, S, 3) uint8 RGB."""
        return self._camera.render(self.data)

    def state(self) -> np.ndarray:
        """Angles and velocities, (4,) float64 [rad, rad, rad/s, rad/s]."""
        return np.concatenate([self.data.qpos, self.data.qvel])

    def sample_goal(self, far: float | None = None) -> np.ndarray:
        """Draw a goal pose (2,) [rad] for the arm as it stands; see :meth:`goal_near`."""
        return self.goal_near(self.data.qpos, self.rng, self.FAR if far is None else far)

    @classmethod
    def goal_near(cls, pose: np.ndarray, rng: np.random.Generator, far: float = FAR) -> np.ndarray:
        """Draw a goal pose (2,) [rad] that is not reached yet but within a plan's reach.

        No joint is further than ``far`` [rad] from ``pose`` and one is at least ``NEAR`` away:
        the paper, too, takes goals that a plan's length of 25 steps can reach.
        """
        if not far > cls.NEAR:
            raise SimulationError(f'a goal {far} rad away is none: expected more than {cls.NEAR}')
        while True:
            goal = np.asarray(pose) + rng.uniform(-far, far, 2)
            if abs(goal[1]) <= cls.ELBOW and cls.pose_errors(pose, goal).max() >= cls.NEAR:
                return goal

    def set_goal(self, goal: np.ndarray) -> np.ndarray:
        """Make a pose (2,) [rad] the goal; return its picture, (S, S, 3) uint8 RGB."""
        goal = np.asarray(goal, dtype=float)
        if goal.shape != (2,) or not np.isfinite(goal).all():
            raise SimulationError(f'goal is {goal.tolist()}: expected two joint angles [rad]')
        self.goal = goal
        self._goal_data.qpos[:] = goal
        self._mujoco.mj_forward(self.model, self._goal_data)
        return self._camera.render(self._goal_data)

    def errors(self, goal: np.ndarray) -> np.ndarray:
        """Distance of each joint to a pose, (2,) [rad]; angles wrap around."""
        return self.pose_errors(self.data.qpos, goal)

    @classmethod
    def random_pose(cls, rng: np.random.Generator) -> np.ndarray:
        """Draw joint angles (2,) [rad]."""
        return np.array([rng.uniform(-np.pi, np.pi), rng.uniform(-cls.ELBOW, cls.ELBOW)])

    @staticmethod
    def pose_errors(pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Distance of each joint between two poses (..., 2), [rad], in [0, π]."""
        return np.abs((np.asarray(pose) - goal + np.pi) % (2 * np.pi) - np.pi)

    def reached(self) -> bool:
        """Whether both joints are within the tolerance of the goal."""
        return self.goal is not None and bool((self.errors(self.goal) < self.TOLERANCE).all())

    def perturb(self, kind: str) -> None:
        """Break the world: ``teleport`` moves both joints by 0.6 to 1.5 rad at once,
        ``colour`` repaints the arm until the next reset.
        """
        if kind == 'teleport':
            while True:
                jump = self.rng.uniform(0.6, 1.5, 2) * self.rng.choice([-1.0, 1.0], 2)
                if abs(self.data.qpos[1] + jump[1]) < self.ELBOW:
                    break
            self.data.qpos[:] += jump
            self._mujoco.mj_forward(self.model, self.data)
        elif kind == 'colour':
            for name in ('upper', 'fore', 'tip'):
                self.model.geom(name).rgba[:3] = self.rng.uniform(0.1, 0.9, 3)
        else:
            raise SimulationError(
                f'perturbation {kind!r} is unknown: expected one of {list(PERTURBATIONS)}'
            )
