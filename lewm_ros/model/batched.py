# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The rollout of :meth:`LeWorldModel.rollout` in few large kernels, for a GPU; the same function.

With only some 300 samples, a GPU's time depends on the number of kernels, not on the arithmetic.
All frames of a window therefore go through a layer at once, the query, key and value of all heads
are one product, and the modulations of all actions and layers are one product at the start. Windows
are recomputed as a whole, without a key-value cache. Attention over at most H frames is written
out, since the fused kernels are made for long sequences. :class:`lewm_ros.model.FastRollout` is the
form for CPUs, with fewer operations in more, smaller products.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional

from lewm_ros.model.folding import (
    EPS,
    INNER_EPS,
    ActionCondition,
    Product,
    after_norm,
    check_context,
    fold_input,
    fold_projector,
    lower_precision,
    normalise,
)
from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.predictor import ConditionalBlock


class _Layer(nn.Module):
    """One block of the predictor, all frames of a window at once."""

    mask: torch.Tensor

    def __init__(self, block: ConditionalBlock, window: int) -> None:
        super().__init__()
        attention: Any = block.attn
        mlp: Any = block.mlp.net
        self.heads = attention.heads
        query, key, value = attention.to_qkv.weight.chunk(3)
        scale = (len(query) // self.heads) ** -0.5
        self.qkv = after_norm(torch.cat([query * scale, key, value]), None, attention.norm)
        self.out = Product(attention.to_out[0].weight, attention.to_out[0].bias)
        self.widen = after_norm(mlp[1].weight, mlp[1].bias, mlp[0])
        self.narrow = Product(mlp[4].weight, mlp[4].bias)
        later = torch.full((window, window), float('-inf'), device=query.device).triu(1)
        self.register_buffer('mask', later)  # (query frame, key frame)

    def forward(self, x: torch.Tensor, modulation: torch.Tensor) -> torch.Tensor:
        """(S, T, W) states and (S, T, 6, W) modulation to the next states."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.unbind(2)
        h = normalise(normalise(x, EPS) * scale1 + shift1, INNER_EPS)
        x = x + gate1 * self.out(self._attend(h))
        h = normalise(normalise(x, EPS) * scale2 + shift2, INNER_EPS)
        return x + gate2 * self.narrow(functional.gelu(self.widen(h)))

    def _attend(self, h: torch.Tensor) -> torch.Tensor:
        """(S, T, W) to (S, T, inner); i indexes queries, j keys."""
        time = h.shape[1]
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).unbind(2)
        scores = (q[:, :, None] * k[:, None]).sum(-1)  # (S, i, j, heads)
        weights = (scores + self.mask[:time, :time, None]).softmax(2)
        return (weights[..., None] * v[:, None]).sum(2).flatten(2)


class _Step(nn.Module):
    """From the frames of a window to the next latent."""

    def __init__(self, model: LeWorldModel) -> None:
        super().__init__()
        transformer: Any = model.predictor.transformer
        window = model.config.history
        self.layers = nn.ModuleList(_Layer(block, window) for block in transformer.layers)
        self.final_eps = transformer.norm.eps
        self.project_in, self.project_out = fold_projector(model.pred_proj, transformer.norm)

    def forward(self, x: torch.Tensor, modulations: torch.Tensor) -> torch.Tensor:
        """(S, T, W) frames and (S, T, layers, 6, W) modulations to the next latent (S, D)."""
        for index, layer in enumerate(self.layers):
            x = layer(x, modulations[:, :, index])
        hidden = functional.gelu(self.project_in(normalise(x[:, -1], self.final_eps)))
        return self.project_out(hidden)


class BatchedRollout(nn.Module):
    """Predicts the latents of candidate plans; in float32, or with products in bfloat16.

    Built from a model's current weights and running statistics; build it again if they change.
    ``step`` is the module to compile.

    Args:
        model: in any mode, on the device that this is to run on.
        precision: of the products, torch.float32 or torch.bfloat16; sums, norms and the two
            projectors stay float32.

    """

    positions: torch.Tensor

    def __init__(self, model: LeWorldModel, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.window = model.config.history
        with torch.no_grad():
            self.condition = ActionCondition(model.action_encoder)
            transformer: Any = model.predictor.transformer
            self.input_proj = fold_input(transformer.input_proj)
            self.register_buffer('positions', model.predictor.pos_embedding[0].clone())
            self.step = _Step(model)
            parts = [block.adaLN_modulation[1] for block in transformer.layers]
            bias = torch.stack([part.bias for part in parts]).unflatten(1, (6, -1)).clone()
            bias[:, [1, 4]] += 1  # the scales
            self.modulation = Product(torch.cat([part.weight for part in parts]), bias.flatten())
        lower_precision(self.step.layers, precision)
        lower_precision(self.modulation, precision)
        self.requires_grad_(False)

    def forward(
        self, context: torch.Tensor, past: torch.Tensor, actions: torch.Tensor
    ) -> torch.Tensor:
        """Roll S plans out from one context.

        Args:
            context: (h, D) latents, oldest first, h ≤ H.
            past: (h − 1, k·A) blocks between them.
            actions: (S, N, k·A) candidate blocks; the first leaves the newest frame.

        Returns:
            (S, N, D) latents after each block.

        Raises ModelError if h is 0 or above H.

        """
        known, (samples, steps) = len(context), actions.shape[:2]
        check_context(known, self.window)
        before = self._modulations(past).expand(samples, -1, -1, -1, -1)
        modulations = torch.cat([before, self._modulations(actions)], dim=1)
        frames = self.input_proj(context).expand(samples, -1, -1)
        latents: list[torch.Tensor] = []
        for step in range(steps):
            if step > 0:
                frames = torch.cat([frames, self.input_proj(latents[-1])[:, None]], dim=1)
            end = known + step
            begin = max(0, end - self.window)
            x = frames[:, begin:] + self.positions[: end - begin]
            latents.append(self.step(x, modulations[:, begin:end]))
        return torch.stack(latents, dim=1)

    def _modulations(self, blocks: torch.Tensor) -> torch.Tensor:
        """(..., k·A) blocks to (..., layers, 6, W)."""
        modulations = self.modulation(self.condition(blocks))
        return modulations.unflatten(-1, (len(self.step.layers), 6, -1))
