# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""LeWorldModel: encoder, projector, action encoder, predictor (arXiv 2603.19312)."""

from __future__ import annotations

import torch
from torch import nn

from lewm_ros.model.config import ModelConfig
from lewm_ros.model.encoder import ConvEncoder, ViTEncoder
from lewm_ros.model.predictor import ActionEncoder, Predictor


class Projector(nn.Module):
    """Linear, BatchNorm, GELU, Linear; always float32.

    Features that are nearly constant before the BatchNorm lose their differences in bfloat16, so
    autocast is disabled inside.
    """

    def __init__(self, size_in: int, hidden: int, size_out: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(size_in, hidden),
            nn.BatchNorm1d(hidden),
            nn.GELU(),
            nn.Linear(hidden, size_out),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, size_in) to (N, size_out)."""
        with torch.autocast(x.device.type, enabled=False):
            return self.net(x.float())


class LeWorldModel(nn.Module):
    """A world model in latent space, learned from pixels.

    H is ``config.history``, D ``config.latent_size``, k·A ``config.block_size``. Pixels are
    normalised (imaging.normalise), actions are normalised blocks; the action at index i is
    the one that leaves frame i. If ``config.encoder`` is 'onnx', the encoder is a separate ONNX
    graph, and the pixels given here are its latents (B, T, D).
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder: nn.Module = nn.Identity()
        self.projector: nn.Module = nn.Identity()
        if config.encoder != 'onnx':
            self.encoder = ViTEncoder(config) if config.encoder == 'vit' else ConvEncoder(config)
            self.projector = Projector(
                config.encoder_width, config.projector_hidden, config.latent_size
            )
        self.action_encoder = ActionEncoder(config)
        self.predictor = Predictor(config)
        self.pred_proj = Projector(
            config.predictor_width, config.projector_hidden, config.latent_size
        )

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, T, 3, S, S) pixels to (B, T, D) latents."""
        batch, time = pixels.shape[:2]
        return self.projector(self.encoder(pixels.flatten(0, 1))).unflatten(0, (batch, time))

    def predict(self, z: torch.Tensor, actions: torch.Tensor) -> torch.Tensor:
        """(B, T, D) latents, (B, T, k·A) blocks, T ≤ H, to the next latents (B, T, D)."""
        x = self.predictor(z, self.action_encoder(actions))
        return self.pred_proj(x.flatten(0, 1)).unflatten(0, (z.shape[0], z.shape[1]))

    def rollout(
        self, z_ctx: torch.Tensor, past_actions: torch.Tensor, actions: torch.Tensor
    ) -> torch.Tensor:
        """Predict what S candidate plans lead to, in the plain sliding-window form.

        Args:
            z_ctx: (B, H', D) context latents, oldest first, H' ≤ H.
            past_actions: (B, H' − 1, k·A) blocks between them.
            actions: (B, S, N, k·A) candidate blocks; the first leaves the newest frame.

        Returns:
            (B, S, N, D) latents after each block.

        """
        batch, samples, steps = actions.shape[:3]
        window = z_ctx[:, None].expand(-1, samples, -1, -1).flatten(0, 1)
        blocks = past_actions[:, None].expand(-1, samples, -1, -1).flatten(0, 1)
        plans = actions.flatten(0, 1)
        predicted = []
        for step in range(steps):
            blocks = torch.cat([blocks, plans[:, step : step + 1]], dim=1)
            blocks = blocks[:, -self.config.history :]
            x = self.predictor(window, self.action_encoder(blocks))
            z = self.pred_proj(x[:, -1])
            predicted.append(z)
            window = torch.cat([window, z[:, None]], dim=1)[:, -self.config.history :]
            blocks = blocks[:, blocks.shape[1] - window.shape[1] + 1 :]
        return torch.stack(predicted, dim=1).unflatten(0, (batch, samples))
