# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Push-T as a task, from Gymnasium environment gym_pusht/PushT-v0."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from lewm_ros.sim.gymnasium_task import GymnasiumTask, StateAccess

#: A goal is reached within these of agent and T together [px of 512], and of the T's angle [rad]:
#: the criterion of stable-worldmodel's Push-T.
NEAR, TURNED = 20.0, np.pi / 9
#: Side of the plane and radius of the agent [px].
SIDE, RADIUS = 512.0, 15.0
#: Corners of the T in its own coordinates [px]; its inside lies to the left of each side.
OUTLINE = (
    (-60.0, 0.0),
    (60.0, 0.0),
    (60.0, 30.0),
    (15.0, 30.0),
    (15.0, 120.0),
    (-15.0, 120.0),
    (-15.0, 30.0),
    (-60.0, 30.0),
)


def _draw_shapes(space: Any, options: Any) -> None:
    options.flags = options.DRAW_SHAPES
    type(space).debug_draw(space, options)


class PushT(GymnasiumTask):
    """A round agent pushes a T over a plane; an action is the place that the agent heads for.

    The state is x and y of agent and T [px], angle of the T [rad], and their rates of change in
    the same order. `PushTPolicy` makes data.
    """

    unit = 'px'
    kind = 'position'

    @staticmethod
    def period_of(env: Any) -> float:
        """Return how long a step is [s]: ``dt`` is that of the physics."""
        return 1 / float(env.unwrapped.control_hz)

    @staticmethod
    def access(env: Any) -> StateAccess:
        """Read and write the bodies of the simulation."""
        inner = env.unwrapped

        def get() -> np.ndarray:
            agent, block = inner.agent, inner.block
            place = *agent.position, *block.position, block.angle
            return np.array([*place, *agent.velocity, *block.velocity, block.angular_velocity])

        def put(state: np.ndarray) -> None:
            agent, block = inner.agent, inner.block
            values = state.tolist()
            block.angle = values[4]  # first: it turns about the centre of gravity
            agent.position, block.position = values[:2], values[2:4]
            agent.velocity, block.velocity = values[5:7], values[7:9]
            block.angular_velocity = values[9]
            for body in (agent, block):
                inner.space.reindex_shapes_for_body(body)

        return StateAccess(get, put)

    def rest(self) -> np.ndarray:
        """Return the agent's place, (2,) [px]."""
        return self.state()[:2]

    def _draw(self) -> np.ndarray:
        self.environment._last_action = None  # else it is marked by a cross
        space = self.environment.space
        # Without the points of contact: they are of the last step, not of the state.
        space.debug_draw = partial(_draw_shapes, space)
        return super()._draw()

    def pose_errors(self, pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """Distance of agent and T together, (1,) [px]."""
        return np.atleast_1d(np.linalg.norm(np.asarray(pose)[:4] - goal[:4]))

    def achieves(self, pose: np.ndarray, goal: np.ndarray) -> bool:
        """Whether agent and T are where they should be, and the T is turned so."""
        turned = (pose[4] - goal[4] + np.pi) % (2 * np.pi) - np.pi
        return bool(self.pose_errors(pose, goal).item() < NEAR and abs(turned) < TURNED)
