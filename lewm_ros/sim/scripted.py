# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Base class of the scripted policies for training data, which adds their noise."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from lewm_ros.robot.contract import Contract
from lewm_ros.sim.task import Task


class ScriptedPolicy(ABC):
    """Follows a script that reads the true state, with added noise.

    Every episode has its own noise, an autoregressive process with a time constant between 0.05
    and 0.5 s; a share of the episodes is noise alone.

    Args:
        contract: the robot.
        rng: draws everything.
        task: whose state is read.

    """

    blind_share: float  #: of episodes that are noise alone
    noise = (0.05, 0.5)  #: its least and largest standard deviation beside the script

    def __init__(self, contract: Contract, rng: np.random.Generator, task: Task) -> None:
        low, high = contract.action.bounds
        self._middle, self._half = (low + high) / 2, (high - low) / 2
        self._period = contract.period
        self._rng, self._task = rng, task
        self.reset()

    @abstractmethod
    def _begin_episode(self) -> None:
        """Draw what the script does in this episode."""

    @abstractmethod
    def _wanted(self) -> np.ndarray:
        """Command (A,), -1 and 1 the limits, called once per control period."""

    def reset(self) -> None:
        """Draw an episode's noise, and begin the script."""
        rng = self._rng
        self._blind = rng.random() < self.blind_share
        self._keep = np.exp(-self._period / np.exp(rng.uniform(np.log(0.05), np.log(0.5))))
        self._std = rng.uniform(0.4, 1.2) if self._blind else rng.uniform(*self.noise)
        self._noise = rng.normal(size=len(self._half)) * self._std
        self._begin_episode()

    def observe(self, stamp: int, image: np.ndarray) -> None:  # noqa: B027
        """Ignore the frame: a script reads the state."""

    def act(self, stamp: int) -> np.ndarray:
        """Return the next command (A,), contract units."""
        fresh = self._rng.normal(size=len(self._half)) * self._std
        self._noise = self._keep * self._noise + np.sqrt(1 - self._keep**2) * fresh
        wanted = np.zeros(len(self._half)) if self._blind else self._wanted()
        return self._middle + self._half * np.clip(wanted + self._noise, -1, 1)


def rotation(angle: float) -> np.ndarray:
    """Return the matrix (2, 2) that turns the plane by an angle [rad]."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def unit(vector: np.ndarray) -> np.ndarray:
    """Return the direction (A,) of a vector."""
    return vector / (np.linalg.norm(vector) + 1e-9)
