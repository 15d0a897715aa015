# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Trains a goal-conditioned policy in the imagination of a trained model.

The policy predicts commands for n blocks. The frozen predictor rolls them out from recorded frames.
The squared distance to the goal's latent is backpropagated through the rollout, as in Dreamer
(arXiv 1912.01603), with the distance to a goal instead of a learned value.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from lewm_ros.bundle import Bundle
from lewm_ros.engines.torch_engine import load_model
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.training.goal_policy import Learner, Windows

MEASURED = 2048  #: held-out frames, at most
OTHER = 0.2  #: share of goals from anywhere in the bags
EXCESS = 0.1  #: weight of the squared part of a normalised command that the limits clip


class Imagination(Learner):
    """Learner that rolls out a bundle's model from recorded frames."""

    kind, name = 'imagined', 'imagined policy'
    steps, batch = 1800, 96

    def __init__(self, bundle: Bundle, windows: Windows) -> None:
        self._model = load_model(bundle).eval().requires_grad_(False)
        self._windows = windows
        spec = bundle.spec
        self._frames = windows.step * np.arange(1 - spec.history, 1)
        low, high = (spec.normalise(limit) for limit in spec.contract.action.bounds)
        self._low, self._high = torch.from_numpy(low).float(), torch.from_numpy(high).float()

    @staticmethod
    def past(spec: ModelSpec) -> int:
        """Return the number of blocks between the frames of the model's context."""
        return spec.history - 1

    def rollout(self, rows: np.ndarray, commands: torch.Tensor) -> torch.Tensor:
        """Latents (B, n, D) after each block of commands (B, n, A) from rows (B,) on."""
        context = rows[:, None] + self._frames
        past = torch.from_numpy(self._windows.blocks[context[:, :-1]]).flatten(2)
        blocks = commands.repeat(1, 1, self._windows.blocks.shape[1])
        latents = torch.from_numpy(self._windows.latents[context])
        return self._model.rollout(latents, past, blocks[:, None])[:, 0]

    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Squared distance to goals from their block on, plus a penalty on clipped commands.

        Goals are 1 frame to n blocks ahead, or anywhere in the bags.
        """
        windows = self._windows
        ahead = rng.integers(1, windows.ahead * windows.step + 1, len(rows))
        other = rng.random(len(rows)) < OTHER
        ahead[other] = windows.ahead * windows.step
        goals = np.where(other, rng.permutation(rows), rows + ahead)
        told = network(windows.inputs(rows, goals)).unflatten(1, (windows.ahead, -1))
        commands = self._limited(told)
        distances = self._distances(self.rollout(rows, commands), goals)
        due = torch.from_numpy(ahead[:, None] <= windows.step * np.arange(1, windows.ahead + 1))
        reached = (distances * due).sum(1) / due.sum(1)
        return reached.mean() + EXCESS * (told - commands).square().mean()

    @torch.no_grad()
    def errors(self, network: nn.Module, rows: np.ndarray) -> dict[str, float]:
        """Mean squared distances to goals 1 to n blocks ahead, measured at the goal's block.

        They are those of the policy (error), the mean command (spread) and the recorded commands.
        """
        windows, rng = self._windows, np.random.default_rng(0)
        rows = rng.permutation(rows)[:MEASURED]
        ahead = rng.integers(1, windows.ahead + 1, len(rows))
        goals = rows + ahead * windows.step
        recorded = windows.commands(rows)
        told = self._limited(network(windows.inputs(rows, goals)).reshape(recorded.shape))
        errors = {}
        for key, commands in (
            ('error', told),
            ('spread', torch.zeros_like(told)),
            ('recorded', recorded),
        ):
            distances = self._distances(self.rollout(rows, commands), goals)
            errors[key] = distances[np.arange(len(rows)), ahead - 1].mean().item()
        return errors

    def _limited(self, told: torch.Tensor) -> torch.Tensor:
        """Commands (B, n, A) as a planner clips them."""
        return told.clamp(self._low, self._high)

    def _distances(self, latents: torch.Tensor, goals: np.ndarray) -> torch.Tensor:
        """Mean squares (B, n) of latents (B, n, D) less those of goals (B,)."""
        wanted = torch.from_numpy(self._windows.latents[goals])
        return (latents - wanted[:, None]).square().mean(2)
