# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of measured shares."""

from __future__ import annotations

import math

from lewm_ros.surprise.calibration import threshold_rank


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


def exceedance(alarms: int, windows: int, alpha: float, calibrated: int) -> float:
    """Chance of at least as many alarms in new windows as there were, if all are exchangeable.

    The share of windows above the threshold is itself random, since the threshold is one of the
    ``calibrated`` windows; so the number of alarms has a beta-binomial distribution (Vovk 2012,
    conditional validity of inductive conformal predictors, proposition 2).
    """
    below = threshold_rank(calibrated, alpha)
    above = calibrated + 1 - below

    def beta(a: float, b: float) -> float:
        return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)

    def log_chance(count: int) -> float:
        ways = -beta(count + 1, windows - count + 1) - math.log(windows + 1)
        return ways + beta(count + above, windows - count + below) - beta(above, below)

    return min(1.0, sum(math.exp(log_chance(count)) for count in range(alarms, windows + 1)))
