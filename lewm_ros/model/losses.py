# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The two losses of LeWM: next-latent prediction and SIGReg (paper section 3.1)."""

from __future__ import annotations

from collections.abc import Callable

import torch


def prediction_loss(predicted: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Mean squared error over all entries; gradients flow into both (no stop-gradient)."""
    return (predicted - target).square().mean()


#: Points at which SIGReg integrates.
KNOTS = 17


def random_directions(
    size: int, count: int, generator: torch.Generator | None = None, device: str = 'cpu'
) -> torch.Tensor:
    """Draw M random unit vectors as columns (D, M); draw new ones at every step."""
    directions = torch.randn(size, count, generator=generator, device=device)
    return directions / directions.norm(dim=0)


def sigreg(
    z: torch.Tensor,
    directions: torch.Tensor,
    ranks: int = 1,
    mean_over_ranks: Callable[[torch.Tensor], torch.Tensor] = lambda x: x,
) -> torch.Tensor:
    """Sketched isotropic Gaussian regularisation, as in the official code.

    For each time step and direction the empirical characteristic function of the projected
    batch is compared with that of N(0, 1) at 17 points of [0, 3] (the code's range; the
    paper says [0.2, 4]), weighted by exp(−t²/2) and integrated by the trapezoid rule, doubled
    for symmetry, times the batch size.

    Args:
        z: (T, B, D) latents, float32.
        directions: (D, M) unit columns.
        ranks: number of processes, each with B samples of the batch.
        mean_over_ranks: averages the characteristic functions over the processes; the official
            code compares that of each process with the normal distribution separately.

    Returns:
        Scalar: about 1 for a standard normal batch whatever B, growing with B otherwise.

    """
    t = torch.linspace(0, 3, KNOTS, device=z.device)
    target = torch.exp(-t.square() / 2)
    weights = torch.full_like(t, 2 * 3 / (KNOTS - 1))
    weights[[0, -1]] /= 2
    angle = (z @ directions)[..., None] * t
    real, imaginary = mean_over_ranks(torch.stack([angle.cos().mean(1), angle.sin().mean(1)]))
    error = (real - target).square() + imaginary.square()
    return (error @ (weights * target)).mean() * (z.shape[1] * ranks)
