# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Regularisers against collapse of the latents, added to the prediction loss: SIGReg or PLDM.

All of them read latents z (B, F, D) of windows and the normalised blocks (B, F − 1, k·A) between
their frames. If several processes share a batch, these inputs are one part of it, and the result is
that of the whole batch.
"""

from __future__ import annotations

from dataclasses import asdict

import torch
from torch import nn

from lewm_ros.errors import ModelError
from lewm_ros.model import ModelConfig, random_directions, sigreg
from lewm_ros.training.config import TrainConfig
from lewm_ros.training.distributed import gathered, mean_over_ranks, of_first_rank, world_size


class Objective(nn.Module):
    """No regulariser: the latents of a frozen encoder cannot collapse."""

    weight = 0.0

    def __init__(self, config: TrainConfig, model: ModelConfig) -> None:
        super().__init__()

    def forward(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return what is added to the prediction loss, before its weight."""
        return z.new_zeros(())


class LeWM(Objective):
    """SIGReg (paper section 3.1)."""

    def __init__(self, config: TrainConfig, model: ModelConfig) -> None:
        super().__init__(config, model)
        self.weight = config.sigreg_weight
        self.num_projections = config.num_projections

    def forward(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return SIGReg of the latents."""
        directions = random_directions(z.shape[-1], self.num_projections, device=str(z.device))
        return sigreg(
            z.transpose(0, 1),
            of_first_rank(directions),
            ranks=world_size(),
            mean_over_ranks=mean_over_ranks,
        )


class PLDM(Objective):
    """The six regularisers of PLDM (arXiv 2502.14819).

    Formulas follow stable-worldmodel's ``PLDMLoss``. The inverse model is trained with the world
    model and discarded afterwards.
    """

    weight = 1.0  #: the terms have weights of their own

    def __init__(self, config: TrainConfig, model: ModelConfig) -> None:
        super().__init__(config, model)
        self.weights = asdict(config.pldm)
        self.inverse = nn.Sequential(
            nn.Linear(2 * model.latent_size, 512), nn.GELU(), nn.Linear(512, model.block_size)
        )

    def terms(self, z: torch.Tensor, actions: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return each term by its name in :class:`lewm_ros.training.config.PLDMWeights`."""
        centred = z - z.mean(dim=0)
        over_batch, over_time = centred.transpose(0, 1), centred
        pairs = torch.cat([z[:, :-1], z[:, 1:]], dim=-1)
        return {
            'variance': _variance(over_batch),
            'variance_in_time': _variance(over_time),
            'covariance': _covariance(over_batch),
            'covariance_in_time': _covariance(over_time),
            'smoothness': (z[:, 1:] - z[:, :-1]).square().mean(),
            'inverse_dynamics': (self.inverse(pairs) - actions).square().mean(),
        }

    def forward(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """Return the weighted sum of the terms."""
        terms = self.terms(gathered(z), gathered(actions))
        return torch.stack([self.weights[name] * term for name, term in terms.items()]).sum()


def _variance(z: torch.Tensor) -> torch.Tensor:
    """Mean hinge loss on standard deviations below 1, over n of latents (groups, n, D)."""
    return (1 - (z.var(dim=1) + 1e-4).sqrt()).relu().mean()


def _covariance(z: torch.Tensor) -> torch.Tensor:
    """Mean square of the covariances of two dimensions over n of latents (groups, n, D)."""
    covariance = z.transpose(1, 2) @ z / (z.shape[1] - 1)
    square = covariance.square()
    between = square.sum(dim=(1, 2)) - square.diagonal(dim1=1, dim2=2).sum(dim=1)
    return (between / (z.shape[-1] * (z.shape[-1] - 1))).mean()


OBJECTIVES = {'lewm': LeWM, 'pldm': PLDM, 'prediction': Objective}


def make_objective(config: TrainConfig, model: ModelConfig) -> Objective:
    """Return the objective of a training run. Raises ModelError for an unknown name."""
    if config.objective not in OBJECTIVES:
        raise ModelError(f'objective is {config.objective!r}: expected one of {list(OBJECTIVES)}')
    return OBJECTIVES[config.objective](config, model)
