# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A user-defined task with position commands; the demo finds it as own_task:Servos."""

from __future__ import annotations

from robots import OwnRobot

from lewm_ros.robot.contract import Contract


class Servos(OwnRobot):
    """A block on two servos, seen from above; it stays where it is until it is sent a position."""

    name, contract = 'servos', 'reacher'
    joints, unit, tolerance, painted = ('x', 'y'), 'm', 0.1, ('block',)
    bounds = ((-0.8, -0.8), (0.8, 0.8))
    NEAR, REACH = 0.2, 0.5
    mjcf = """
      <mujoco><option timestep="0.005"/><worldbody>
        <camera name="top" pos="0 0 3" fovy="45"/>
        <body><joint name="x" type="slide" axis="1 0 0" damping="9"/>
          <joint name="y" type="slide" axis="0 1 0" damping="9"/>
          <geom name="block" type="box" size=".2 .2 .2" mass=".2" rgba=".8 .2 .1 1"/></body>
      </worldbody><actuator><position joint="x" kp="30"/><position joint="y" kp="30"/></actuator>
      </mujoco>"""

    @classmethod
    def robot(cls) -> Contract:
        """Return the arm's contract with positions in place of torques."""
        data = super().robot().to_dict()
        data['name'] = cls.name
        data['action'] |= {'kind': 'position', 'units': ['m', 'm'], 'max_step': [0.1, 0.1]}
        data['stop'] |= {'mode': 'hold'}
        return Contract.parse(data)
