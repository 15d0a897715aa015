# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Networks for tests."""

from __future__ import annotations

from typing import Any

import torch

from lewm_ros.model import ModelConfig


def tiny_config(action_size: int, **changes: Any) -> ModelConfig:
    """Return a network of 32 px and latent size 8 that is fast to build and run."""
    values: dict[str, Any] = {
        'image_size': 32,
        'encoder': 'conv_bn',
        'encoder_width': 16,
        'latent_size': 8,
        'projector_hidden': 16,
        'predictor_width': 16,
        'predictor_depth': 2,
        'predictor_heads': 2,
        'predictor_head_size': 8,
        'predictor_mlp': 16,
        'action_size': action_size,
        'action_hidden': 16,
    }
    return ModelConfig(**(values | changes))


def stir(model: torch.nn.Module) -> None:
    """Make every part of a new model affect its output.

    At initialisation, actions have no effect (AdaLN starts at zero), images have hardly any, and
    all norms are the identity: a graph without one of these parts would pass as correct.
    """
    for name, parameter in model.named_parameters():
        if 'adaLN' in name:
            parameter.data.normal_()
        elif name.startswith('encoder.') and parameter.ndim > 1:
            parameter.data.mul_(2.5)
        elif 'norm' in name or 'net.0.' in name or 'net.1.' in name:
            parameter.data.add_(parameter.data.new_empty(parameter.shape).normal_(std=0.2))
    for name, buffer in model.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(std=0.1)
        elif name.endswith('running_var'):
            buffer.uniform_(0.2, 2.0)
