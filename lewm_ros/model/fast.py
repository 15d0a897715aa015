# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The rollout of :meth:`LeWorldModel.rollout`, rearranged to do less; the same function.

Only the order of summation changes. While a window grows, keys and values of earlier frames
stay valid and are cached; once it slides, every frame changes its position, so the whole window is
recomputed (reusing keys there would be another function). The modulation of an action is
computed once, whatever the windows it appears in. Frames and blocks that all samples share are
computed at batch 1. In the last layer a frame that is only attended to needs no more than its
key and value. Affine parts of LayerNorm and BatchNorm, the 1 of (1 + scale), the 1/√d of the
attention and the convolution of the action encoder are folded into the adjacent layers.

Every frame of a window is a separate (S, W) matrix and every layer a separate product; the sum
within a head is a product with a 0/1 matrix. Nothing is split, stacked or transposed, because the
runtimes of the exported graph are slow at that.
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


class _Window:
    """Keys and values of the frames in a window so far, for each layer, oldest first."""

    def __init__(self, layers: int) -> None:
        self.keys: list[list[torch.Tensor]] = [[] for _ in range(layers)]
        self.values: list[list[torch.Tensor]] = [[] for _ in range(layers)]


class _Layer(nn.Module):
    """One block of the predictor, a frame at a time."""

    def __init__(self, block: ConditionalBlock) -> None:
        super().__init__()
        attention: Any = block.attn
        mlp: Any = block.mlp.net
        query, key, value = attention.to_qkv.weight.chunk(3)
        inner = len(query)
        size = inner // attention.heads
        self.query = after_norm(query * size**-0.5, None, attention.norm)
        self.key = after_norm(key, None, attention.norm)
        self.value = after_norm(value, None, attention.norm)
        self.out = Product(attention.to_out[0].weight, attention.to_out[0].bias)
        self.widen = after_norm(mlp[1].weight, mlp[1].bias, mlp[0])
        self.narrow = Product(mlp[4].weight, mlp[4].bias)
        modulation: Any = block.adaLN_modulation[1]
        parts = zip(modulation.weight.chunk(6), modulation.bias.chunk(6))
        self.modulation = nn.ModuleList(
            Product(weight, bias + 1 if index in (1, 4) else bias)  # 1 and 4 are the scales
            for index, (weight, bias) in enumerate(parts)
        )
        heads = torch.eye(attention.heads, device=query.device).repeat_interleave(size, dim=0)
        self.register_buffer('heads', heads)  # (inner, heads)

    def modulate(self, condition: torch.Tensor) -> list[torch.Tensor]:
        """Shift, scale and gate of attention and MLP, each (S, W), for one action."""
        return [product(condition) for product in self.modulation]

    def forward(
        self,
        x: torch.Tensor,
        modulation: list[torch.Tensor],
        keys: list[torch.Tensor],
        values: list[torch.Tensor],
        attended_only: bool,
    ) -> torch.Tensor:
        """Add the frame's key and value to those before it, and return its next state."""
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation
        h = normalise(normalise(x, EPS) * scale1 + shift1, INNER_EPS)
        keys.append(self.key(h))
        values.append(self.value(h))
        if attended_only:
            return x
        x = x + gate1 * self.out(self._attend(h, keys, values))
        h = normalise(normalise(x, EPS) * scale2 + shift2, INNER_EPS)
        return x + gate2 * self.narrow(functional.gelu(self.widen(h)))

    def _attend(
        self, h: torch.Tensor, keys: list[torch.Tensor], values: list[torch.Tensor]
    ) -> torch.Tensor:
        if len(values) == 1:  # the only frame of its window: its weight is 1
            return values[0]
        query = self.query(h)
        scores = [(query * key) @ self.heads for key in keys]
        highest = scores[0]
        for score in scores[1:]:
            highest = torch.maximum(highest, score)
        weights = [(score - highest).exp() for score in scores]
        total = sum(weights[1:], weights[0])
        spread = [(weight / total) @ self.heads.T for weight in weights]
        return sum(
            (weight * value for weight, value in zip(spread[1:], values[1:])),
            spread[0] * values[0],
        )


class FastRollout(nn.Module):
    """Predicts the latents of candidate plans; in float32, or with products in bfloat16.

    Built from a model's current weights and running statistics; build it again if they change.

    Args:
        model: in any mode, on the device that this is to run on.
        precision: of the products, torch.float32 or torch.bfloat16; sums, norms and the two
            projectors stay float32.

    """

    positions: torch.Tensor

    def __init__(self, model: LeWorldModel, precision: torch.dtype = torch.float32) -> None:
        super().__init__()
        config = model.config
        self.window = config.history
        with torch.no_grad():
            self.condition = ActionCondition(model.action_encoder)
            transformer: Any = model.predictor.transformer
            self.input_proj = fold_input(transformer.input_proj)
            self.register_buffer('positions', model.predictor.pos_embedding[0].clone())
            self.layers = nn.ModuleList(_Layer(block) for block in transformer.layers)
            self.final_eps = transformer.norm.eps
            self.project_in, self.project_out = fold_projector(model.pred_proj, transformer.norm)
        lower_precision(self.layers, precision)
        self.requires_grad_(False)

    def forward(
        self, context: torch.Tensor, past: torch.Tensor, actions: torch.Tensor
    ) -> list[torch.Tensor]:
        """Roll S plans out from one context.

        Args:
            context: (h, D) latents, oldest first, h ≤ H.
            past: (h − 1, k·A) blocks between them.
            actions: (S, N, k·A) candidate blocks; the first leaves the newest frame.

        Returns:
            N tensors (S, D): the latents after each block.

        Raises ModelError if h is 0 or above H.

        """
        known, steps = len(context), actions.shape[1]
        check_context(known, self.window)
        frames = [self.input_proj(context[i : i + 1]) for i in range(known)]
        blocks = [past[i : i + 1] for i in range(known - 1)]
        modulations = [self._modulation(block) for block in blocks]
        growing = _Window(len(self.layers))
        latents: list[torch.Tensor] = []
        for step in range(steps):
            if step > 0:
                frames.append(self.input_proj(latents[-1]))
            modulations.append(self._modulation(actions[:, step]))
            count = min(len(frames), self.window)
            if len(frames) <= self.window:  # no position has changed: compute only new frames
                state, new = growing, known if step == 0 else 1
            else:
                state, new = _Window(len(self.layers)), count
            tokens = [frames[i - new] + self.positions[count - new + i] for i in range(new)]
            last = self._advance(tokens, modulations[-new:], state)
            hidden = functional.gelu(self.project_in(normalise(last, self.final_eps)))
            latents.append(self.project_out(hidden))
        return latents

    def _modulation(self, block: torch.Tensor) -> list[list[torch.Tensor]]:
        condition = self.condition(block)
        layers: Any = self.layers
        return [layer.modulate(condition) for layer in layers]

    def _advance(
        self,
        tokens: list[torch.Tensor],
        modulations: list[list[list[torch.Tensor]]],
        state: _Window,
    ) -> torch.Tensor:
        """Pass the newest frames of a window through all layers; return the last one's state."""
        for index, layer in enumerate(self.layers):
            final = index == len(self.layers) - 1
            for i, modulation in enumerate(modulations):
                tokens[i] = layer(
                    tokens[i],
                    modulation[index],
                    state.keys[index],
                    state.values[index],
                    attended_only=final and i < len(tokens) - 1,
                )
        return tokens[-1]
