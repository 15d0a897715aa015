# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Trains an inverse model: which commands led from one latent of a trained model to another."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lewm_ros.bundle import Bundle
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.training.goal_policy import Learner, Windows


class InverseModel(Learner):
    """Learns the recorded commands towards goals 1 frame to n blocks ahead."""

    kind, name = 'idm', 'inverse model'
    steps, batch = 3000, 384

    def __init__(self, bundle: Bundle, windows: Windows) -> None:
        self._windows = windows

    @staticmethod
    def past(spec: ModelSpec) -> int:
        """Return 0: it reads the previous latent, but no command."""
        return 0

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Squared error of the commands before the goal; later ones do not count."""
        ahead, found, wanted = self._told(network, rows, rng)
        windows = self._windows
        before = torch.from_numpy(ahead[:, None] > windows.step * np.arange(windows.ahead))
        return (found - wanted)[before].square().mean()

    def errors(self, network: nn.Module, rows: np.ndarray) -> dict[str, float]:
        """Mean square of the first command's error, and of the first command itself."""
        _, found, wanted = self._told(network, rows, np.random.default_rng(0))
        return {
            key: (told - wanted)[:, 0].square().mean().item()
            for key, told in (('error', found), ('spread', 0))
        }

    def _told(
        self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator
    ) -> tuple[np.ndarray, torch.Tensor, torch.Tensor]:
        """Goal distances (B,) [frames], predicted and recorded commands (B, n, A)."""
        windows = self._windows
        ahead = rng.integers(1, windows.ahead * windows.step + 1, len(rows))
        wanted = windows.commands(rows)
        return ahead, network(windows.inputs(rows, rows + ahead)).reshape(wanted.shape), wanted
