# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Metrics of a latent space, and re-estimated BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from lewm_ros.model import LeWorldModel


def latent_std(z: torch.Tensor) -> float:
    """Mean over dimensions of the standard deviation over (N, D) latents; near 1 is healthy."""
    return z.float().std(dim=0).mean().item()


def effective_rank(z: torch.Tensor) -> float:
    """Exponential of the entropy of the covariance's normalised spectrum of (N, D) latents."""
    z = z.float() - z.float().mean(dim=0)
    spectrum = torch.linalg.svdvals(z).square()
    share = spectrum / spectrum.sum().clamp_min(1e-12)
    return torch.exp(-(share * share.clamp_min(1e-12).log()).sum()).item()


@torch.no_grad()
def reestimate_batchnorm(
    model: LeWorldModel, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """Replace running statistics by plain averages over some batches; leaves eval mode on.

    Running averages lag behind features whose mean is many times their standard deviation: that
    made evaluation losses hundreds of times the training loss (as in arXiv 2608.10145).
    """
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a cumulative average
        norm.train()
    for pixels, actions in batches:
        model.predict(model.encode(pixels)[:, :-1], actions)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.eval()
