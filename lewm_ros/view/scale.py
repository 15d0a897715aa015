# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The logarithmic scale that scores are drawn on: a surprise is tens of times the usual score."""

from __future__ import annotations

import math

import numpy as np

#: Decades shown at most, counted from the top.
MOST_DECADES = 6


def decades(scores: np.ndarray, threshold: float | None) -> tuple[int, int]:
    """Return the powers of ten that hold threshold and scores (n,), at least -1 to 2.

    They change in whole decades, so that the axis does not move with every score.
    """
    values = scores[np.isfinite(scores) & (scores > 0)]
    if threshold is not None:
        values = np.append(values, threshold)
    low, high = -1, 2
    if values.size:
        low = min(low, math.floor(math.log10(values.min())))
        high = max(high, math.ceil(math.log10(values.max())))
    return max(low, high - MOST_DECADES), high


def height(scores: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return where scores (n,) lie between 10^low and 10^high: (n,) in [0, 1].

    NaN and infinity lie at the top, because a NaN score is not a low one.
    """
    values = np.where(np.isfinite(scores), np.maximum(scores, 10.0**low), 10.0**high)
    return np.clip((np.log10(values) - low) / (high - low), 0.0, 1.0)
