# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of measured shares."""

from __future__ import annotations

import math


def wilson(successes: int, trials: int) -> tuple[float, float]:
    """Wilson score interval of a binomial share, 95 %; (0, 1) for no trials."""
    z = 1.96
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    middle = share + z * z / (2 * trials)
    half = z * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (middle - half) / scale), min(1.0, (middle + half) / scale)
