# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Re-estimated BatchNorm statistics, and BatchNorm over the batch of several processes."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

from lewm_ros.model import LeWorldModel
from lewm_ros.training.distributed import mean_over_ranks, world_size

#: The kinds of BatchNorm in a model.
NORMS = nn.BatchNorm1d, nn.BatchNorm2d


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over a batch split equally over all processes.

    torch's SyncBatchNorm does not run on a CPU. The variance is that of centred features, since
    the mean may be many times the standard deviation.
    """

    running_mean: torch.Tensor
    running_var: torch.Tensor
    num_batches_tracked: torch.Tensor

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C) to (N, C), or (N, C, H, W) to (N, C, H, W)."""
        if not self.training:
            return super().forward(x)
        others = [axis for axis in range(x.ndim) if axis != 1]
        wide = x.float()
        mean = mean_over_ranks(wide.mean(dim=others))
        centred = wide - _along(mean, x)
        variance = mean_over_ranks(centred.square().mean(dim=others))
        with torch.no_grad():
            count = x.numel() // x.shape[1] * world_size()
            self.num_batches_tracked += 1
            momentum = self.momentum or 1 / self.num_batches_tracked
            self.running_mean.lerp_(mean, momentum)
            self.running_var.lerp_(variance * (count / (count - 1)), momentum)
        scale = (variance + self.eps).rsqrt() * self.weight
        return (centred * _along(scale, x) + _along(self.bias, x)).to(x.dtype)

    def _check_input_dim(self, x: torch.Tensor) -> None:
        """Accept both: two axes and four."""


def _along(values: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Channels (C,) as a tensor that broadcasts to x (N, C, ...)."""
    return values.reshape(-1, *[1] * (x.ndim - 2))


def share_batchnorm(model: nn.Module) -> None:
    """Turn each BatchNorm of a model into one over the batch of all processes, in place."""
    for module in model.modules():
        if isinstance(module, NORMS):
            module.__class__ = SharedBatchNorm


@torch.no_grad()
def reestimate_batchnorm(
    model: LeWorldModel, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> None:
    """Replace running statistics by plain averages over some batches; leaves eval mode on.

    Running averages lag behind features whose mean is many times their standard deviation: that
    made evaluation losses hundreds of times the training loss (as in arXiv 2608.10145).
    """
    model.eval()
    norms = [m for m in model.modules() if isinstance(m, NORMS)]
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
