# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Write a simulated task of your own, and drive it with random commands.

A task is a MuJoCo world with a camera, and what a goal means in it. Every command takes it as
MODULE:CLASS; the folder of the module has to be on PYTHONPATH:

PYTHONPATH=examples lewm collect write_task:Plotter --episodes 100 --out bag
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lewm_ros.sim import MujocoTask
from lewm_ros.sim.collect import START, RandomPolicy, simulate


class Plotter(MujocoTask):
    """A pen on two rails, seen from above. A pose is its place (x, y) [m]."""

    name, contract = 'plotter', 'reacher.yaml'  # the arm's: two efforts in [-1, 1]
    joints, unit, tolerance, painted = ('x', 'y'), 'm', 0.03, ('pen',)
    mjcf = """
      <mujoco><option timestep="0.005"/><worldbody>
        <camera name="top" pos="0 0 1.6" fovy="37"/>
        <geom type="plane" size="2 2 .1" rgba=".8 .8 .8 1" contype="0" conaffinity="0"/>
        <body pos="0 0 .05">
          <joint name="x" type="slide" axis="1 0 0" range="-.4 .4" limited="true" damping="1"/>
          <joint name="y" type="slide" axis="0 1 0" range="-.4 .4" limited="true" damping="1"/>
          <geom name="pen" type="sphere" size=".06" mass=".2" rgba=".8 .2 .1 1"/>
        </body>
      </worldbody><actuator><motor joint="x"/><motor joint="y"/></actuator></mujoco>"""

    @classmethod
    def random_pose(cls, rng: np.random.Generator) -> np.ndarray:
        """Draw a place (2,) [m]."""
        return rng.uniform(-0.35, 0.35, 2)

    @classmethod
    def goal_near(
        cls, pose: np.ndarray, rng: np.random.Generator, far: float | None = None
    ) -> np.ndarray:
        """Draw a goal (2,) [m] that is not reached yet, at most ``far`` away (default 0.2)."""
        far = 0.2 if far is None else far
        while True:
            goal = cls.random_pose(rng)
            if cls.tolerance < cls.pose_errors(pose, goal).item() <= far:
                return goal

    @staticmethod
    def pose_errors(pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Distance (..., 1) [m] between two poses (..., 2)."""
        return np.linalg.norm(np.asarray(pose) - goal, axis=-1, keepdims=True)

    def _teleport(self) -> None:
        self.data.qpos[:] = self.random_pose(self.rng)

    def _push(self) -> None:
        self.data.qvel[:] += self.rng.uniform(-1, 1, 2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run an episode of 5 s."""
    task = Plotter(image_size=64, seed=0)
    contract = task.robot()
    policy = RandomPolicy(contract, np.random.default_rng(0))
    try:
        trace = [
            v for k, _, v in simulate(task, contract, policy, 5.0, 20.0, 0.0, START) if k == 'state'
        ]
    finally:
        task.close()
    print(f'{len(trace)} frames; the pen moved over {np.ptp(trace, axis=0)[:2].round(2)} m')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
