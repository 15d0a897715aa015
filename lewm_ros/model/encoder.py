# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Encoders: one image in, one feature vector out. Module names follow the published weights."""

from __future__ import annotations

import torch
from torch import nn

from lewm_ros.model.attention import attend
from lewm_ros.model.config import ModelConfig


class ViTAttention(nn.Module):
    """Multi-head self-attention with separate query, key, value and output layers."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.o_proj = nn.Linear(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, T, W)."""
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        return self.o_proj(attend(q, k, v, causal=False).transpose(1, 2).flatten(2))


class ViTMLP(nn.Module):
    """Two layers with GELU between."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, T, W)."""
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class ViTLayer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.attention = ViTAttention(width, config.encoder_heads)
        self.mlp = ViTMLP(width, config.encoder_mlp)
        self.layernorm_before = nn.LayerNorm(width, eps=1e-12)
        self.layernorm_after = nn.LayerNorm(width, eps=1e-12)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, W) to (B, T, W)."""
        x = x + self.attention(self.layernorm_before(x))
        return x + self.mlp(self.layernorm_after(x))


class PatchEmbeddings(nn.Module):
    """Square patches through one linear layer."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        patch = config.patch_size
        self.projection = nn.Conv2d(3, config.encoder_width, patch, stride=patch)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to (B, patches, W)."""
        return self.projection(pixels).flatten(2).transpose(1, 2)


class ViTEmbeddings(nn.Module):
    """Patches, a class token in front, learned absolute positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        patches = (config.image_size // config.patch_size) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.encoder_width))
        self.position_embeddings = nn.Parameter(torch.zeros(1, patches + 1, config.encoder_width))
        self.patch_embeddings = PatchEmbeddings(config)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) to (B, patches + 1, W)."""
        patches = self.patch_embeddings(pixels)
        token = self.cls_token.expand(len(patches), -1, -1)
        return torch.cat([token, patches], dim=1) + self.position_embeddings


class ViTEncoder(nn.Module):
    """The published encoder: ViT, class token of the last layer (paper section 3.1)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.embeddings = ViTEmbeddings(config)
        self.layers = nn.ModuleList(ViTLayer(config) for _ in range(config.encoder_depth))
        self.layernorm = nn.LayerNorm(config.encoder_width, eps=1e-12)
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1:
                nn.init.trunc_normal_(parameter, std=0.02)
            elif name.endswith('bias'):
                nn.init.zeros_(parameter)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, S, S) normalised pixels to (B, W)."""
        x = self.embeddings(pixels)
        for layer in self.layers:
            x = layer(x)
        return self.layernorm(x)[:, 0]


class ConvEncoder(nn.Sequential):
    """Four stride-2 convolutions with BatchNorm, and a linear layer: (B, 3, S, S) to (B, W).

    Our replacement for the ViT when training on a CPU; in the paper's ablation, a
    convolutional encoder performs on par (App G, ResNet-18). Encoder 'conv' has no BatchNorm.
    """

    def __init__(self, config: ModelConfig) -> None:
        layers: list[nn.Module] = []
        channels = (3, 32, 64, 128, 256)
        for before, after in zip(channels, channels[1:]):
            bare = config.encoder == 'conv'
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=bare))
            if not bare:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.GELU())
        features = channels[-1] * (config.image_size // 16) ** 2
        super().__init__(*layers, nn.Flatten(), nn.Linear(features, config.encoder_width))
