# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Surprise thresholds with a guaranteed false-alarm rate, by split conformal prediction.

The guarantee is per window of time: if windows of the running robot are exchangeable with the
nominal windows of the calibration, the probability that a window contains a score above the
threshold is at most alpha.
"""

from __future__ import annotations

from fractions import Fraction
import math

import numpy as np

from lewm_ros.errors import CalibrationError
from lewm_ros.time import NS_PER_S

GAP = 5  #: a pause of more than this many median intervals ends a run of scores


def window_maxima(
    stamps: np.ndarray, scores: np.ndarray, window: float | None, episodes: np.ndarray
) -> np.ndarray:
    """Highest score of every whole window of nominal data.

    A window lies within one episode and one uninterrupted run of scores; what is left at the
    end of a run is not used.

    Args:
        stamps: (n,) int64 [ns], ascending within an episode.
        scores: (n,) of those frames.
        window: duration [s]; None: each episode is one window.
        episodes: (n,) episode of each frame.

    Returns:
        (m,) float64, in order of time; m may be 0.

    Raises CalibrationError for sizes that disagree, or a score that is not finite.

    """
    stamps, scores, episodes = np.asarray(stamps), np.asarray(scores), np.asarray(episodes)
    if not stamps.shape == scores.shape == episodes.shape or stamps.ndim != 1:
        raise CalibrationError(
            f'stamps have shape {stamps.shape}, scores {scores.shape}, episodes {episodes.shape}: '
            'expected (n,) for all of them'
        )
    if window is not None and not (math.isfinite(window) and window > 0):
        raise CalibrationError(f'window is {window} s: expected a finite duration above 0')
    wrong = int((~np.isfinite(scores)).sum())
    if wrong:
        raise CalibrationError(f'{wrong} of {len(scores)} nominal scores are not finite')
    if window is None:
        return np.array([scores[episodes == e].max() for e in np.unique(episodes)], dtype=float)
    steps = np.diff(stamps)
    same = np.diff(episodes) == 0
    if not (same & (steps > 0)).any():
        return np.empty(0)
    interval = float(np.median(steps[same & (steps > 0)]))
    breaks = ~same | (steps <= 0) | (steps > GAP * interval)
    length = window * NS_PER_S
    maxima = []
    for run in np.split(np.arange(len(stamps)), np.flatnonzero(breaks) + 1):
        times = stamps[run] - stamps[run[0]]
        # A frame stands for one interval; half of one more allows for jitter of the last stamp.
        whole = math.floor((times[-1] + 1.5 * interval) / length)
        index = np.floor(times / length).astype(int)
        maxima += [scores[run][index == i].max() for i in range(whole) if (index == i).any()]
    return np.array(maxima, dtype=float)


def windows_needed(alpha: float) -> int:
    """Fewest windows from which a threshold for ``alpha`` can be computed.

    Raises CalibrationError if alpha is not in (0, 1).
    """
    return math.ceil(1 / _exact(alpha)) - 1


def threshold_rank(count: int, alpha: float) -> int:
    """Which of ``count`` maxima is the threshold for ``alpha``; 1 is the smallest."""
    return math.ceil((count + 1) * (1 - _exact(alpha)))


def conformal_threshold(maxima: np.ndarray, alpha: float) -> float:
    """Threshold that a new window's maximum exceeds with probability at most ``alpha``.

    It is the ceil((n + 1)(1 − alpha))-th smallest of the n maxima (n,). Raises
    CalibrationError, naming the number needed, if there are too few of them.
    """
    maxima = np.asarray(maxima, dtype=float)
    if not np.isfinite(maxima).all():
        raise CalibrationError('the window maxima hold NaN or infinity: expected finite scores')
    needed = windows_needed(alpha)
    if len(maxima) < needed:
        raise CalibrationError(
            f'{len(maxima)} nominal windows are too few for alpha {alpha}: expected at least '
            f'{needed}; record longer, or choose a larger alpha or shorter windows'
        )
    return float(np.sort(maxima)[threshold_rank(len(maxima), alpha) - 1])


def _exact(alpha: float) -> Fraction:
    """Return alpha as an exact decimal fraction: 1 − 0.9 in floats is not 0.1."""
    if not 0 < alpha < 1:
        raise CalibrationError(f'alpha is {alpha}: expected a number in (0, 1)')
    return Fraction(str(float(alpha)))
