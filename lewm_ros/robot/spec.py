# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The numbers of a model that planning, control and surprise need; no network, no file."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lewm_ros.errors import ModelError
from lewm_ros.robot.contract import Contract


@dataclass(frozen=True)
class ModelSpec:
    """Sizes and statistics of one model. H frames of context, k ticks in a block, D latents."""

    name: str  #: of the bundle, for messages
    contract: Contract  #: the robot that it was trained for
    history: int  #: H, frames of context of a rollout
    window: int  #: frames that the network looks at, at least H
    frameskip: int  #: k, control ticks in a block
    horizon: int  #: longest rollout [blocks]
    latent_size: int  #: D
    image_size: int  #: S [px]
    camera_period: float  #: median time between frames [s]
    action_mean: np.ndarray  #: (A,) float64, contract units
    action_std: np.ndarray  #: (A,) float64
    camera_size: tuple[int, int] | None = None  #: width and height of the camera's images [px]

    @property
    def block(self) -> float:
        """Duration of a block of k control ticks [s]."""
        return self.frameskip / self.contract.rates.control

    def normalise(self, actions: np.ndarray) -> np.ndarray:
        """Actions (..., A) in contract units → normalised, float64."""
        mean, std = self._statistics(actions, 1)
        return (actions - mean) / std

    def denormalise(self, actions: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`normalise`."""
        mean, std = self._statistics(actions, 1)
        return actions * std + mean

    def normalise_block(self, blocks: np.ndarray) -> np.ndarray:
        """Blocks (..., k·A) of k ticks in contract units → normalised, float64."""
        mean, std = self._statistics(blocks, self.frameskip)
        return (blocks - mean) / std

    def denormalise_block(self, blocks: np.ndarray) -> np.ndarray:
        """Inverse of :meth:`normalise_block`."""
        mean, std = self._statistics(blocks, self.frameskip)
        return blocks * std + mean

    def _statistics(self, actions: np.ndarray, ticks: int) -> tuple[np.ndarray, np.ndarray]:
        mean = np.tile(self.action_mean, ticks)
        if np.ndim(actions) == 0 or np.shape(actions)[-1] != len(mean):
            raise ModelError(f'actions have shape {np.shape(actions)}: expected (..., {len(mean)})')
        return mean, np.tile(self.action_std, ticks)
