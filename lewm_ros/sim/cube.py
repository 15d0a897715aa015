# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""OGBench-Cube as a task, from Gymnasium environment ogbench:visual-cube-single-v0."""

from __future__ import annotations

from typing import Any

import numpy as np

from lewm_ros.sim.gymnasium_task import GymnasiumTask, StateAccess, make_environment

#: A goal is reached within this of the cube's place [m]: the environment's own criterion.
NEAR = 0.04
#: Side of the rendered image, before it is resized [px].
RENDERED = 224


class Cube(GymnasiumTask):
    """A six-joint arm with a gripper carries a cube; an action moves, turns and closes the gripper.

    The state is all positions and velocities of the simulation. Arms are transparent, as in the
    environment's own images; shadows and reflections are off, which take most of the time.
    """

    unit = 'm'
    kind = 'velocity'

    @classmethod
    def make(cls) -> Any:
        """Make it with random scenes, and with images only where they are asked for."""
        size = {'width': RENDERED, 'height': RENDERED}
        env = make_environment(cls.env_id, told=False, mode='data_collection', **size)
        inner = env.unwrapped
        env.reset(seed=0)  # which builds the model, and what renders it
        _free(inner)
        inner.model.vis.quality.shadowsize = inner.model.vis.quality.offsamples = 0
        inner.model.mat_reflectance[:] = 0
        inner._ob_type = 'states'
        return env

    @staticmethod
    def period_of(env: Any) -> float:
        """Return how long a step is [s]."""
        return float(env.unwrapped.control_timestep())

    @staticmethod
    def access(env: Any) -> StateAccess:
        """Read and write positions and velocities."""
        inner = env.unwrapped

        def put(state: np.ndarray) -> None:
            inner.data.qacc_warmstart[:] = 0
            inner.set_state(*np.split(state, [inner.model.nq]))

        return StateAccess(lambda: np.concatenate([inner.data.qpos, inner.data.qvel]), put)

    def step(self, action: np.ndarray, steps: int = 1) -> None:
        """Step, and update the poses of all bodies, which drawing and control use next."""
        from mujoco import mj_kinematics

        super().step(action, steps)
        inner = self.environment
        mj_kinematics(inner.model, inner.data)

    def close(self) -> None:
        """Free what renders."""
        _free(self.environment)

    def _draw(self) -> np.ndarray:
        return np.asarray(self.environment.render(camera='front_pixels'))

    def pose_errors(self, pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Distance of the cube, (1,) [m]."""
        first = int(self.environment.model.joint('object_joint_0').qposadr[0])
        cube = slice(first, first + 3)
        return np.atleast_1d(np.linalg.norm(np.asarray(pose)[cube] - goal[cube]))

    def achieves(self, pose: np.ndarray, goal: np.ndarray) -> bool:
        """Whether the cube is where it should be."""
        return bool(self.pose_errors(pose, goal).item() <= NEAR)


def _free(inner: Any) -> None:
    """Free what renders; the next image makes it anew."""
    if inner._renderer is not None:
        inner._renderer.close()
        inner._renderer = None
