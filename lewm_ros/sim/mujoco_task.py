# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A task in MuJoCo: a world in MJCF with a top camera, and every perturbation."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.errors import ConfigError, one_line
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.sim.perturbations import PERTURBATIONS, Appearance
from lewm_ros.sim.rendering import Camera, load_mujoco
from lewm_ros.sim.task import Task


class MujocoTask(Task):
    """A robot in a MuJoCo world, a top camera, goals given as images.

    A pose is the position of every joint, (J,) float64 in ``unit``; a goal is a pose. The state
    is the pose and its rate of change. The physics is in MJCF.

    Args:
        image_size: height and width of the camera image [px], or one number for both.
        seed: of the task's own random generator (resets, goals, perturbations).

    """

    contract: str  #: robot contract under config/robots
    joints: tuple[str, ...]  #: in the order of a pose
    tolerance: float  #: a goal is reached where every error is below this
    painted: tuple[str, ...]  #: geoms that a change of colour repaints
    camera: str = 'top'  #: name in the world
    mjcf: str = ''  #: the world; empty: the file of the task's name in this folder

    def __init__(self, image_size: int | tuple[int, int] = 64, seed: int = 0) -> None:
        self._mujoco = load_mujoco()
        self.model = self._checked_model()
        self.data = self._mujoco.MjData(self.model)
        self._goal_data = self._mujoco.MjData(self.model)
        self._appearance = Appearance(self.model, self.camera, self.painted)
        self._camera = Camera(self.model, self.camera, image_size)
        self.rng = np.random.default_rng(seed)
        self.goal = None
        self.reset()

    def _make_model(self) -> Any:
        mjcf = self.mjcf or (Path(__file__).parent / f'{self.name}.xml').read_text()
        return self._mujoco.MjModel.from_xml_string(mjcf)

    def _checked_model(self) -> Any:
        """Return the model. Raises ConfigError naming what this task lacks in it."""
        try:
            model = self._make_model()
        except (OSError, ValueError) as error:
            raise ConfigError(
                f'task {self.name}: its world cannot be read: {one_line(error)}'
            ) from error
        try:
            for find, names in (
                (model.camera, [self.camera]),
                (model.geom, self.painted),
                (model.joint, self.joints),
            ):
                for name in names:
                    find(name)
        except KeyError as error:
            raise ConfigError(f'task {self.name}, its world: {error.args[0]}') from error
        count = len(self.joints)
        if not model.nq == model.nv == count:
            raise ConfigError(
                f'task {self.name}: its world has {model.nq} positions and {model.nv} velocities: '
                f'expected {count} of each, those of the joints {", ".join(self.joints)}, which '
                'slide or hinge'
            )
        return model

    @classmethod
    def robot(cls) -> Contract:
        """Return the contract under config/robots."""
        return Contract.load(find('contract', cls.contract))

    @classmethod
    def judge(cls) -> type[MujocoTask]:
        """Return the class: its goals need no world."""
        return cls

    @classmethod
    def goal_of(cls, state: np.ndarray) -> np.ndarray:
        """Return the pose (J,), which comes first in a state: velocities do not count."""
        return state[: len(cls.joints)]

    @classmethod
    @abstractmethod
    def random_pose(cls, rng: np.random.Generator) -> np.ndarray:
        """Draw a pose (J,) to begin an episode in."""

    @classmethod
    @abstractmethod
    def goal_near(
        cls, pose: np.ndarray, rng: np.random.Generator, far: float | None = None
    ) -> np.ndarray:
        """Draw a goal (J,) for a robot in this pose: not reached yet, no error above ``far``.

        None is as far as a plan reaches, infinity is anywhere. Raises ConfigError where there is
        no such goal.
        """

    @staticmethod
    @abstractmethod
    def pose_errors(pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """How far a pose (..., J) is from a goal (..., J): (..., E), all at least 0."""

    @abstractmethod
    def _teleport(self) -> None:
        """Put the object elsewhere, at once."""

    @abstractmethod
    def _push(self) -> None:
        """Give the object a blow."""

    @classmethod
    def achieves(cls, pose: np.ndarray, goal: np.ndarray) -> bool:
        """Whether this pose counts as the goal."""
        return bool((cls.pose_errors(pose, goal) < cls.tolerance).all())

    def close(self) -> None:
        """Free the renderer."""
        self._camera.close()

    def reset(self) -> None:
        """Put everything at rest in a random pose, and end every perturbation."""
        pose = self.random_pose(self.rng)
        self.set_state(np.concatenate([pose, np.zeros(len(pose))]))

    def set_state(self, state: np.ndarray) -> None:
        """Put everything in a state (2 J,) at time 0, and end every perturbation.

        Raises ConfigError for a state that is none of this task's.
        """
        state, count = np.asarray(state, dtype=float), len(self.joints)
        if state.shape != (2 * count,) or not np.isfinite(state).all():
            raise ConfigError(
                f'state is {state.tolist()}: expected {2 * count} numbers, {self.state_text}'
            )
        self._mujoco.mj_resetData(self.model, self.data)
        self._appearance.end()
        self.data.qpos[:], self.data.qvel[:] = np.split(state, 2)
        self._mujoco.mj_forward(self.model, self.data)

    def rest(self) -> np.ndarray:
        """Return the command (A,) under which the robot stays where it is."""
        action = self.robot().action
        if action.kind != 'position':
            return super().rest()
        driven = self.model.actuator_trnid[:, 0]
        return np.clip(self.data.qpos[self.model.jnt_qposadr[driven]], *action.bounds)

    @property
    def state_text(self) -> str:
        """What the numbers of a state are."""
        return f'position and velocity of {", ".join(self.joints)}'

    @property
    def time(self) -> float:
        """Simulated time since the last reset [s]."""
        return float(self.data.time)

    @property
    def timestep(self) -> float:
        """Physics step [s]."""
        return float(self.model.opt.timestep)

    def step(self, action: np.ndarray, steps: int = 1) -> None:
        """Advance the physics by ``steps`` physics steps under a held action (A,)."""
        self.data.ctrl[:] = action
        self._mujoco.mj_step(self.model, self.data, nstep=steps)

    def render(self) -> np.ndarray:
        """Return the camera image of the present state, (H, W, 3) uint8 RGB."""
        self._appearance.apply(self.time)
        # mj_step computes where bodies are, and then moves the joints once more.
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)
        return self._appearance.finish(self._camera.render(self.data))

    def state(self) -> np.ndarray:
        """Pose and velocities, (2 J,) float64."""
        return np.concatenate([self.data.qpos, self.data.qvel])

    def sample_goal(self, far: float | None = None) -> np.ndarray:
        """Draw a goal (J,) for the world as it stands; see :meth:`goal_near`."""
        return self.goal_near(self.data.qpos, self.rng, far)

    def set_goal(self, goal: np.ndarray) -> np.ndarray:
        """Make a pose (J,) the goal; return its unperturbed image, (H, W, 3) uint8 RGB."""
        goal = np.asarray(goal, dtype=float)
        if goal.shape != (len(self.joints),) or not np.isfinite(goal).all():
            raise ConfigError(
                f'goal is {goal.tolist()}: expected {len(self.joints)} numbers [{self.unit}], '
                f'of {", ".join(self.joints)}'
            )
        self.goal = goal
        return self.goal_image()

    def goal_image(self) -> np.ndarray:
        """Return the unperturbed image of the goal. Raises ConfigError without one."""
        if self.goal is None:
            raise ConfigError('no goal is set')
        self._goal_data.qpos[:] = self.goal
        self._appearance.restore()
        self._mujoco.mj_forward(self.model, self._goal_data)
        return self._camera.render(self._goal_data)

    def errors(self, goal: np.ndarray) -> np.ndarray:
        """How far the world is from a goal, (E,)."""
        return self.pose_errors(self.data.qpos, goal)

    def reached(self) -> bool:
        """Whether the goal is reached as the world stands."""
        return self.goal is not None and self.achieves(self.data.qpos, self.goal)

    def perturb(self, kind: str) -> None:
        """Begin one of :data:`PERTURBATIONS`. Raises ConfigError for another kind."""
        if kind not in PERTURBATIONS:
            raise ConfigError(
                f'perturbation {kind!r} is unknown: expected one of {list(PERTURBATIONS)}'
            )
        if kind == 'teleport':
            self._teleport()
        elif kind == 'push':
            self._push()
        else:
            self._appearance.begin(kind, self.time, self.rng)
        self._mujoco.mj_forward(self.model, self.data)
