# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Costs of predicted latents: how far a plan stays from the goal."""

from __future__ import annotations

import numpy as np

from lewm_ros.errors import ModelError

KINDS = ('ramp', 'terminal')
RAMP_START = 0.3  #: weight of the first step; below 1 so that a detour is not punished early


def weights(kind: str, horizon: int) -> np.ndarray:
    """Weight of each predicted step, (N,) float64.

    'ramp' rises linearly from 0.3 to 1, so that arriving early pays; 'terminal' looks at the
    last step only, as published.
    """
    if kind not in KINDS:
        raise ModelError(f'cost is {kind!r}: expected one of {list(KINDS)}')
    if kind == 'ramp':
        return np.linspace(RAMP_START, 1.0, horizon)
    last = np.zeros(horizon)
    last[-1] = 1.0
    return last


def goal_cost(latents: np.ndarray, goal: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Squared distance to the goal, summed over dimensions and weighted over steps.

    Args:
        latents: (S, N, D) predicted latents.
        goal: (D,) latent of the goal image.
        weights: (N,) from :func:`weights`.

    Returns:
        (S,) float64; NaN where a rollout is not finite.

    Raises ModelError if the sizes disagree.

    """
    if latents.ndim != 3 or latents.shape[1:] != (len(weights), *goal.shape):
        raise ModelError(
            f'latents have shape {latents.shape}, goal {goal.shape}, weights {weights.shape}: '
            'expected (S, N, D), (D,) and (N,)'
        )
    difference = latents - goal
    return np.einsum('snd,snd->sn', difference, difference).astype(float) @ weights
