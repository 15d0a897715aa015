# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Interface of simulated tasks: a robot with a camera, and goals given as images of states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.robot.contract import Contract


class Judge(Protocol):
    """Draws goals (G,) and judges states by them; errors (E,) are at least 0."""

    def goal_near(
        self, pose: np.ndarray, rng: np.random.Generator, far: float | None = None
    ) -> np.ndarray:
        """Draw a goal for a robot in this state, no error of which is above ``far``."""

    def pose_errors(self, pose: np.ndarray, goal: np.ndarray) -> np.ndarray:
        """How far that state is from a goal."""

    def achieves(self, pose: np.ndarray, goal: np.ndarray) -> bool:
        """Whether it counts as the goal."""


class Task(ABC):
    """A simulated robot with a camera, and goals given as images.

    A goal is the part of a state that counts, see :meth:`goal_of`.

    Args:
        image_size: height and width of the camera image [px], or one number for both.
        seed: of resets, goals and perturbations.

    Attributes:
        rng: of resets, goals and perturbations; replace it to repeat them.
        goal: (G,) float64; None before the first one.

    """

    name: str
    unit: str  #: of an error
    joints: tuple[str, ...] = ()  #: whose state it is, where the contract's is a JointState
    goal_seconds: float = 10.0  #: within which a robot should be at any goal [s]
    rng: np.random.Generator
    goal: np.ndarray | None

    @abstractmethod
    def __init__(self, image_size: int | tuple[int, int] = 64, seed: int = 0) -> None: ...

    @classmethod
    @abstractmethod
    def robot(cls) -> Contract:
        """Return the contract of the robot."""

    @classmethod
    @abstractmethod
    def judge(cls) -> Judge:
        """Return an object with goal_near, pose_errors and achieves, which need no camera image."""

    def rest(self) -> np.ndarray:
        """Return the command (A,) under which the robot stays where it is."""
        action = self.robot().action
        return np.clip(np.zeros(action.size), *action.bounds)

    @classmethod
    @abstractmethod
    def goal_of(cls, state: np.ndarray) -> np.ndarray:
        """Return the goal (G,) whose image shows a state (X,)."""

    @abstractmethod
    def close(self) -> None:
        """Free the renderer."""

    @abstractmethod
    def reset(self) -> None:
        """Begin an episode in a random state at time 0, and end every perturbation."""

    @abstractmethod
    def set_state(self, state: np.ndarray) -> None:
        """Put everything in a state (X,) at time 0, and end every perturbation.

        Raises ConfigError for a state that is none of this task's.
        """

    @property
    @abstractmethod
    def state_text(self) -> str:
        """What the numbers of a state are: 'position and velocity of shoulder, elbow'."""

    @property
    @abstractmethod
    def time(self) -> float:
        """Simulated time since the last reset [s]."""

    @property
    @abstractmethod
    def timestep(self) -> float:
        """Physics step [s]."""

    @abstractmethod
    def step(self, action: np.ndarray, steps: int = 1) -> None:
        """Advance the physics by ``steps`` physics steps under a held action (A,)."""

    @abstractmethod
    def render(self) -> np.ndarray:
        """Return the camera image of the present state, (H, W, 3) uint8 RGB."""

    @abstractmethod
    def state(self) -> np.ndarray:
        """Return the present state, (X,) float64; empty where the simulator does not tell it."""

    @abstractmethod
    def sample_goal(self, far: float | None = None) -> np.ndarray:
        """Draw a goal (G,) for the world as it stands: no error above ``far``.

        None is as far as a plan reaches, infinity is anywhere.
        """

    @abstractmethod
    def set_goal(self, goal: np.ndarray) -> np.ndarray:
        """Make (G,) the goal; return its unperturbed image, (H, W, 3) uint8 RGB."""

    @abstractmethod
    def goal_image(self) -> np.ndarray:
        """Return the unperturbed image of the goal. Raises ConfigError without one."""

    @abstractmethod
    def errors(self, goal: np.ndarray) -> np.ndarray:
        """How far the world is from a goal, (E,), all at least 0."""

    @abstractmethod
    def achieves(self, pose: np.ndarray, goal: np.ndarray) -> bool:
        """Whether a state counts as the goal."""

    @abstractmethod
    def reached(self) -> bool:
        """Whether the goal is reached as the world stands."""

    @abstractmethod
    def perturb(self, kind: str) -> None:
        """Begin a perturbation. Raises ConfigError for a kind that this task does not have."""


def check_actions(task: Task | type[Task], contract: Contract, owner: str) -> None:
    """Raise ConfigError where a contract has not the actions of a task; ``owner`` has it."""
    driven, given = task.robot().action.names, contract.action.names
    if given != driven:
        raise ConfigError(
            f'the {task.name} task has actions {", ".join(driven)}, {owner} has '
            f'{", ".join(given)}: expected the same'
        )
