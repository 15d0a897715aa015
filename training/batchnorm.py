# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Re-estimated BatchNorm statistics."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from lewm_ros.model import LeWorldModel


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
