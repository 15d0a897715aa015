# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Random changes of the images that a model is trained on."""

from __future__ import annotations

import torch

from lewm_ros.robot.imaging import MEAN, STD


def jitter_colours(pixels: torch.Tensor, strength: float) -> torch.Tensor:
    """Mix the colour channels of each image at random; greys and shapes do not change.

    Each channel becomes a random combination of all three, with weights that sum to one. Every
    frame has its own mixture, also within a window. Colours then cannot be predicted from the
    previous frames, so the prediction loss keeps them out of the latents. One mixture for a whole
    window would do the opposite.

    Args:
        pixels: (..., 3, S, S) float32, normalised as by :func:`lewm_ros.robot.imaging.normalise`.
        strength: largest standard deviation of a weight. The standard deviation for each image is
            uniform in [0, strength], so that some images nearly keep their colours.

    Returns:
        (..., 3, S, S) float32, normalised. Draws come from torch's generator of the CPU.

    """
    mean, std = (torch.from_numpy(x).to(pixels.device)[:, None, None] for x in (MEAN, STD))
    count = pixels.shape[:-3]
    weights = strength * torch.rand(*count, 1, 1) * torch.randn(*count, 3, 3)
    weights -= weights.mean(dim=-1, keepdim=True)  # rows sum to zero; to one with the identity
    weights += torch.eye(3)
    colours = torch.einsum('...ij,...jhw->...ihw', weights.to(pixels.device), pixels * std + mean)
    return (colours.clamp(0, 1) - mean) / std
