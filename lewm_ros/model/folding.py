# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Products with the affine parts of neighbouring norms folded in, for the fast rollouts."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lewm_ros.errors import ModelError
from lewm_ros.model.lewm import Projector

EPS = 1e-6  #: of the affine-free norms in front of the modulation
INNER_EPS = 1e-5  #: of the second norms, whose affine part is folded away


class Product(nn.Module):
    """x Wᵀ + b, in the precision of W; float32 in and out."""

    weight: torch.Tensor
    bias: torch.Tensor | None

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None = None) -> None:
        super().__init__()
        self.register_buffer('weight', weight.contiguous())
        self.register_buffer('bias', None if bias is None else bias.contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., m) to (..., n)."""
        if self.weight.dtype == x.dtype:  # casts would double the operators to trace and export
            return functional.linear(x, self.weight, self.bias)
        return functional.linear(x.to(self.weight.dtype), self.weight, self.bias).to(x.dtype)


def fold_input(project: nn.Module) -> nn.Module:
    """Return a transformer's input projection as a product; none where it has none."""
    if not isinstance(project, nn.Linear):
        return nn.Identity()
    return Product(project.weight, project.bias)


def normalise(x: torch.Tensor, eps: float) -> torch.Tensor:
    """LayerNorm over the last dimension, without an affine part."""
    return functional.layer_norm(x, x.shape[-1:], eps=eps)


def after_norm(weight: torch.Tensor, bias: torch.Tensor | None, norm: nn.LayerNorm) -> Product:
    """Fold the affine part of a LayerNorm into the product that follows it."""
    shift = weight @ norm.bias
    return Product(weight * norm.weight, shift if bias is None else shift + bias)


class ActionCondition(nn.Module):
    """An :class:`ActionEncoder` with its convolution folded in, followed by SiLU."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        smooth, first, last = encoder.patch_embed, encoder.embed[0], encoder.embed[2]
        bias = first.weight @ smooth.bias + first.bias
        self.first = Product(first.weight @ smooth.weight[:, :, 0], bias)
        self.last = Product(last.weight, last.bias)

    def forward(self, blocks: torch.Tensor) -> torch.Tensor:
        """(..., k·A) to (..., W), the input of the modulation layers."""
        return functional.silu(self.last(functional.silu(self.first(blocks))))


def fold_projector(projector: Projector, norm: nn.LayerNorm) -> tuple[Product, Product]:
    """Fold the LayerNorm in front and the BatchNorm inside into the two layers."""
    layers: Any = projector.net
    first, batch_norm, _, last = layers
    scale = batch_norm.weight / torch.sqrt(batch_norm.running_var + batch_norm.eps)
    weight = first.weight * scale[:, None]
    bias = (first.bias - batch_norm.running_mean) * scale + batch_norm.bias
    return after_norm(weight, bias, norm), Product(last.weight, last.bias)


def lower_precision(module: nn.Module, precision: torch.dtype) -> None:
    """Convert the weights of all products in a module to a precision, in place."""
    for part in module.modules():
        if isinstance(part, Product):
            part.to(precision)


def check_context(frames: int, window: int) -> None:
    """Raise ModelError unless a context has between 1 and ``window`` frames."""
    if not 1 <= frames <= window:
        raise ModelError(f'context has {frames} frames: the model reads 1 to {window}')
