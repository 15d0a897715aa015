# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Action encoder and causal AdaLN-zero predictor. Module names follow the published weights."""

from __future__ import annotations

import torch
from torch import nn

from lewm_ros.model.attention import attend
from lewm_ros.model.config import ModelConfig


class ActionEncoder(nn.Module):
    """Maps a flattened block of k actions to one embedding of the predictor's width."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.patch_embed = nn.Conv1d(config.block_size, config.action_smoothed, 1)
        self.embed = nn.Sequential(
            nn.Linear(config.action_smoothed, config.action_hidden),
            nn.SiLU(),
            nn.Linear(config.action_hidden, config.predictor_width),
        )

    def forward(self, actions: torch.Tensor) -> torch.Tensor:
        """(B, T, k·A) to (B, T, W)."""
        return self.embed(self.patch_embed(actions.transpose(1, 2)).transpose(1, 2))


class Attention(nn.Module):
    """Causal multi-head attention with its own LayerNorm, as published."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        inner = config.predictor_heads * config.predictor_head_size
        self.heads = config.predictor_heads
        self.dropout = config.dropout
        self.norm = nn.LayerNorm(config.predictor_width)
        self.to_qkv = nn.Linear(config.predictor_width, 3 * inner, bias=False)
        self.to_out = nn.Sequential(
            nn.Linear(inner, config.predictor_width), nn.Dropout(config.dropout)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, T, W)."""
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        )
        dropout = self.dropout if self.training else 0.0
        return self.to_out(attend(q, k, v, causal=True, dropout=dropout).transpose(1, 2).flatten(2))


class FeedForward(nn.Module):
    """MLP with its own LayerNorm in front, as published."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.LayerNorm(config.predictor_width),
            nn.Linear(config.predictor_width, config.predictor_mlp),
            nn.GELU(),
            nn.Dropout(config.dropout),
            nn.Linear(config.predictor_mlp, config.predictor_width),
            nn.Dropout(config.dropout),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, T, W)."""
        return self.net(x)


class ConditionalBlock(nn.Module):
    """Transformer block whose shift, scale and gate come from the action (AdaLN-zero).

    Zero-initialised, so a new block is the identity. The affine-free norms here come before
    the modulation; attention and MLP each carry a second, affine one after it.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.predictor_width
        self.attn = Attention(config)
        self.mlp = FeedForward(config)
        self.norm1 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        self.norm2 = nn.LayerNorm(width, eps=1e-6, elementwise_affine=False)
        modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(modulation.weight)
        nn.init.zeros_(modulation.bias)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), modulation)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Both (B, T, W) to (B, T, W)."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition).chunk(
            6, dim=-1
        )
        x = x + gate1 * self.attn(self.norm1(x) * (1 + scale1) + shift1)
        return x + gate2 * self.mlp(self.norm2(x) * (1 + scale2) + shift2)


class Transformer(nn.Module):
    """The blocks, after an input projection if latent size and block width differ."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        same = config.latent_size == config.predictor_width
        self.input_proj = (
            nn.Identity() if same else nn.Linear(config.latent_size, config.predictor_width)
        )
        self.layers = nn.ModuleList(ConditionalBlock(config) for _ in range(config.predictor_depth))
        self.norm = nn.LayerNorm(config.predictor_width)

    def forward(self, x: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, T, W) after input projection and positions, both, to (B, T, W)."""
        for layer in self.layers:
            x = layer(x, condition)
        return self.norm(x)


class Predictor(nn.Module):
    """Causal predictor over at most H frames with learned positions (paper App D)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pos_embedding = nn.Parameter(torch.randn(1, config.history, config.predictor_width))
        self.transformer = Transformer(config)

    def forward(self, latents: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, T, D) latents and (B, T, W) action embeddings, T ≤ H, to (B, T, W)."""
        x = self.transformer.input_proj(latents) + self.pos_embedding[:, : latents.shape[1]]
        return self.transformer(x, condition)
