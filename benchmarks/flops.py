# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Floating-point operations of a model's workloads, counted from its sizes.

A product of (m, k) and (k, n) counts as 2·m·k·n. Every product that is executed counts: attention
in full, masked or not, and the products with the 0/1 matrix of :mod:`lewm_ros.model.fast`. Norms,
activations and sums do not count.
"""

from __future__ import annotations

from lewm_ros.model import ModelConfig


def encode_flops(config: ModelConfig) -> int:
    """Count the operations of encoding one frame."""
    width = config.encoder_width
    if config.encoder == 'vit':
        patches = (config.image_size // config.patch_size) ** 2
        tokens = patches + 1
        layer = 8 * width * width + 4 * tokens * width + 4 * width * config.encoder_mlp
        total = 2 * patches * 3 * config.patch_size**2 * width
        total += config.encoder_depth * tokens * layer
    else:
        total, size, channels = 0, config.image_size, (3, 32, 64, 128, 256)
        for before, after in zip(channels, channels[1:]):
            size //= 2
            total += 2 * 16 * before * after * size**2
        total += 2 * channels[-1] * size**2 * width
    return total + 2 * config.projector_hidden * (width + config.latent_size)


def reference_flops(config: ModelConfig, context: int, samples: int, steps: int) -> int:
    """Count the operations of :meth:`LeWorldModel.rollout`, which runs a window at a time.

    Args:
        config: sizes.
        context: known frames, at most the model's H.
        samples: S.
        steps: N, blocks.

    """
    width, inner = config.predictor_width, _inner(config)
    layer = 12 * width * width + 8 * width * inner + 4 * width * config.predictor_mlp
    action = config.block_size * config.action_smoothed
    action += (config.action_smoothed + width) * config.action_hidden
    token = 2 * action + _input_projection(config) + config.predictor_depth * layer
    total = 0
    for step in range(steps):
        window = min(context + step, config.history)
        attention = 4 * window * window * inner * config.predictor_depth
        total += window * token + attention + _output_projection(config)
    return samples * total


def fast_flops(config: ModelConfig, context: int, samples: int, steps: int) -> int:
    """Count the operations of :class:`FastRollout`; arguments as in :func:`reference_flops`."""
    width, inner = config.predictor_width, _inner(config)
    depth = config.predictor_depth
    modulation = 2 * config.action_hidden * (config.block_size + width) + depth * 12 * width**2
    total = (context + (steps - 1) * samples) * _input_projection(config)
    total += (context - 1 + steps * samples) * modulation
    for step in range(steps):
        newest = context - 1 + step
        oldest = max(0, newest + 1 - config.history)
        # While the window grows, only new frames are computed; once it slides, all of them.
        first = newest if 0 < step <= config.history - context else oldest
        for frame in range(first, newest + 1):
            rows = 1 if frame < context - 1 else samples
            seen = frame - oldest + 1
            rest = 2 * inner * width + 4 * width * config.predictor_mlp
            if seen > 1:
                rest += 2 * width * inner + 4 * inner * config.predictor_heads * seen
            layers = depth if frame == newest else depth - 1
            total += rows * (depth * 4 * width * inner + layers * rest)
        total += samples * _output_projection(config)
    return total


def _inner(config: ModelConfig) -> int:
    return config.predictor_heads * config.predictor_head_size


def _input_projection(config: ModelConfig) -> int:
    same = config.latent_size == config.predictor_width
    return 0 if same else 2 * config.latent_size * config.predictor_width


def _output_projection(config: ModelConfig) -> int:
    return 2 * config.projector_hidden * (config.predictor_width + config.latent_size)
