# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Scaled dot-product attention, written out where that is the faster or the only way."""

from __future__ import annotations

import torch
from torch.nn import functional


def attend(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, causal: bool, dropout: float = 0.0
) -> torch.Tensor:
    """Attention over (B, heads, T, d) queries, keys and values; returns the same shape.

    The fused kernel runs, except where gradients are needed on a CPU: its backward pass is
    slower there than plain products.
    """
    if q.is_cuda or not q.requires_grad:
        return functional.scaled_dot_product_attention(q, k, v, is_causal=causal, dropout_p=dropout)
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    if causal:
        size = q.shape[-2]
        later = torch.ones(size, size, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, float('-inf'))
    weights = functional.dropout(scores.softmax(dim=-1), dropout, training=dropout > 0)
    return weights @ v
