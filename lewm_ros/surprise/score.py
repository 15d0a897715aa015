# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The surprise score: how far an observed latent is from the predicted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lewm_ros.errors import ModelError
from lewm_ros.history import Context

if TYPE_CHECKING:  # both are handed in
    from lewm_ros.bundle import Bundle
    from lewm_ros.engines import Engine


def predict(bundle: Bundle, engine: Engine, context: Context, executed: np.ndarray) -> np.ndarray:
    """Latent (D,) one block after the context, under the block (k·A,) that was executed.

    Context and block are in contract units, as :meth:`History.transition` returns them.
    """
    past = bundle.normalise_block(context.past).astype(np.float32)
    actions = bundle.normalise_block(executed).astype(np.float32)
    return engine.rollout(context.latents, past, actions[None, None])[0, 0]


def contributions(predicted: np.ndarray, observed: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Normalised squared error of each dimension; their sum is the score.

    Args:
        predicted: (..., D) latents predicted from one block back.
        observed: (..., D) latents of the frames that came.
        scale: (D,) mean squared error on nominal data, so that a nominal score is 1 on average.

    Returns:
        (..., D) float64, not negative; NaN where an input is.

    Raises ModelError if the sizes disagree.

    """
    if predicted.shape != observed.shape or predicted.shape[-1:] != scale.shape:
        raise ModelError(
            f'predicted has shape {predicted.shape}, observed {observed.shape}, scale '
            f'{scale.shape}: expected (..., D) twice and (D,)'
        )
    difference = predicted.astype(float) - observed
    return difference**2 / scale / len(scale)


def score(predicted: np.ndarray, observed: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Surprise of each frame, (...,) float64; arguments as in :func:`contributions`."""
    return contributions(predicted, observed, scale).sum(axis=-1)
