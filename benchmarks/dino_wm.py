# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The shape of DINO-WM's predictor (arXiv 2411.04983) with random weights, to time it.

Sizes as at 196 px with DINOv2 ViT-S/14: a frame is 196 patches of 384 features, with 10 of
proprioception and 10 of the action appended to each. Weights are random because they do not
affect the time. The encoder is left out because a plan encodes at most one frame.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from lewm_ros.evaluation.benchmark import SAMPLES, STEPS

PATCHES = 196  #: P, of a frame
WIDTH = 404  #: W, features of a patch
HISTORY = 3  #: H, frames that the predictor attends to at most
DEPTH = 6
HEADS = 16
HEAD_SIZE = 64
MLP = 2048


class Layer(nn.Module):
    """Pre-norm transformer layer."""

    def __init__(self) -> None:
        super().__init__()
        inner = HEADS * HEAD_SIZE
        self.norm = nn.LayerNorm(WIDTH)
        self.to_qkv = nn.Linear(WIDTH, 3 * inner, bias=False)
        self.to_out = nn.Linear(inner, WIDTH)
        self.mlp = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, MLP), nn.GELU(), nn.Linear(MLP, WIDTH)
        )

    def forward(self, x: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """(B, L, W) to (B, L, W); ``mask`` (L, L) is true where a row may attend."""
        q, k, v = (
            part.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for part in self.to_qkv(self.norm(x)).chunk(3, dim=-1)
        )
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.to_out(seen.transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class DinoWM(nn.Module):
    """Predicts the patches of the next frame; attention is causal from frame to frame."""

    mask: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.positions = nn.Parameter(torch.randn(1, HISTORY * PATCHES, WIDTH))
        self.layers = nn.ModuleList(Layer() for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH)
        frame = torch.arange(HISTORY).repeat_interleave(PATCHES)
        self.register_buffer('mask', frame[:, None] >= frame)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """(B, T, P, W), T ≤ H, to the frames after each, of the same shape."""
        length = frames.shape[1] * PATCHES
        x = frames.flatten(1, 2) + self.positions[:, :length]
        for layer in self.layers:
            x = layer(x, self.mask[:length, :length])
        return self.norm(x).unflatten(1, (-1, PATCHES))

    def rollout(self, context: torch.Tensor, steps: int) -> torch.Tensor:
        """Predict step by step from the last H frames, as the published planner does.

        Writing each step's action into its frame is left out: it costs nothing.

        Args:
            context: (S, T, P, W) known frames, T ≥ 1.
            steps: N ≥ 1.

        Returns:
            (S, N, P, W).

        """
        frames = context
        for _ in range(steps):
            frames = torch.cat([frames, self(frames[:, -HISTORY:])[:, -1:]], dim=1)
        return frames[:, -steps:]


class DinoWMCall:
    """A cost call of DINO-WM's shape over the same steps, for a few of the 300 samples.

    Args:
        context: known frames, as many as the LeWM bundle has.
        provider: a torch device.
        precision: of everything, 'f32' or 'bf16'.

    """

    name = 'torch'

    def __init__(self, context: int, provider: str, precision: str = 'f32') -> None:
        self.provider, self.precision = provider, precision
        kind = torch.float32 if precision == 'f32' else torch.bfloat16
        # Two samples fill a processor's cores; a GPU needs more, and has the time for them.
        self.samples = 2 if provider == 'cpu' else 30
        windows = [min(context + step, HISTORY) for step in range(STEPS)]
        self.scaled_from = f'{self.samples} of {SAMPLES} samples, windows of {windows} frames'
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._model = DinoWM().to(provider, kind).eval().requires_grad_(False)
            shape = self.samples, context, PATCHES, WIDTH
            self._context = torch.randn(shape).to(provider, kind)
            self._goal = torch.randn(PATCHES, WIDTH).to(provider, kind)

    @torch.inference_mode()
    def __call__(self) -> np.ndarray:
        """Costs of the few samples."""
        last = self._model.rollout(self._context, STEPS)[:, -1]
        return (last - self._goal).square().sum(dim=(1, 2)).float().cpu().numpy()
