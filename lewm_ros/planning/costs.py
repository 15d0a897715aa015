# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Costs of predicted latents: how far a plan stays from the goal."""

from __future__ import annotations

from typing import Any

import numpy as np

from lewm_ros.errors import ModelError

KINDS = ('ramp', 'terminal')


def weights(kind: str, horizon: int) -> np.ndarray:
    """Weight of each predicted step, (N,) float64.

    'ramp' grows to 1 with the square of time: it rewards an early arrival but allows a detour.
    'terminal' counts only the last step, as published.
    """
    if kind == 'ramp':
        return (np.arange(1, horizon + 1) / horizon) ** 2
    last = np.zeros(horizon)
    last[-1] = 1.0
    return last


def goal_cost(latents: Any, goal: Any, weights: Any) -> Any:
    """Squared distance to the goal, summed over dimensions and weighted over steps.

    Accepts numpy arrays and torch tensors, so that an engine can evaluate it on a GPU.

    Args:
        latents: (S, N, D) predicted latents.
        goal: (D,) latent of the goal image.
        weights: (N,) from :func:`weights`.

    Returns:
        (S,) costs; NaN where a rollout is not finite.

    Raises ModelError if the sizes disagree.

    """
    shapes = [tuple(array.shape) for array in (latents, goal, weights)]
    if len(shapes[0]) != 3 or shapes[0][1:] != (*shapes[2], *shapes[1]):
        raise ModelError(
            f'latents have shape {shapes[0]}, goal {shapes[1]}, weights {shapes[2]}: '
            'expected (S, N, D), (D,) and (N,)'
        )
    difference = latents - goal
    return (difference * difference).sum(-1) @ weights
