# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The surprise score: how far an observed latent is from the predicted one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lewm_ros.errors import CalibrationError, ModelError
from lewm_ros.robot.history import Context
from lewm_ros.robot.spec import ModelSpec

if TYPE_CHECKING:  # it is handed in
    from lewm_ros.engines import Engine

#: Median of the square of a standard normal variable.
NORMAL_MEDIAN = 0.4549364
#: Smallest scale of a dimension, as a fraction of the median dimension's.
FLOOR = 0.1


def predict(spec: ModelSpec, engine: Engine, context: Context, executed: np.ndarray) -> np.ndarray:
    """Latent (D,) after the blocks (h, k·A) that were executed since the context.

    Context and blocks are in contract units, as :meth:`History.transition` returns them; the
    engine's horizon is at least h.
    """
    past = spec.normalise_block(context.past).astype(np.float32)
    actions = spec.normalise_block(executed).astype(np.float32)
    return engine.rollout(context.latents, past, actions[None])[0, -1]


def contributions(predicted: np.ndarray, observed: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Normalised squared error of each dimension; their sum is the score.

    Args:
        predicted: (..., D) latents predicted from some blocks back.
        observed: (..., D) latents of the frames that came.
        scale: (D,) squared error on nominal data, see :func:`nominal_scale`.

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


def nominal_scale(predicted: np.ndarray, observed: np.ndarray) -> np.ndarray:
    """Robust nominal squared error of each dimension.

    The median of the squared errors is divided by the median of a squared standard normal
    variable. For normal errors this gives the mean square, and a few outliers do not affect it
    (Rousseeuw & Croux 1993, on the median absolute deviation). Each dimension gets at least
    :data:`FLOOR` times the median dimension's value. Otherwise an error in a dead dimension, or in
    one that the model predicts almost exactly, would outweigh all others together.

    Args:
        predicted: (n, D) latents, n ≥ 1.
        observed: (n, D) latents of the frames that came.

    Returns:
        (D,) float64, above 0.

    Raises CalibrationError if half of the errors of most dimensions are zero or not finite.

    """
    squared = np.square(predicted.astype(float) - observed)
    scale = np.median(squared, axis=0) / NORMAL_MEDIAN
    floor = FLOOR * np.median(scale)
    if not 0 < floor < np.inf:
        raise CalibrationError(
            f'the nominal prediction error is {np.median(scale)}: nothing moves in the nominal '
            'data, or the model is broken'
        )
    return np.maximum(scale, floor)
