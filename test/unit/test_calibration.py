# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Windows of nominal scores, and thresholds that bound the false-alarm rate."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.errors import CalibrationError
from lewm_ros.surprise.calibration import conformal_threshold, window_maxima, windows_needed
from lewm_ros.time import NS_PER_S

PERIOD = NS_PER_S // 20


def frames(count: int, start: int = NS_PER_S) -> np.ndarray:
    """Return ``count`` stamps at 20 Hz."""
    return start + PERIOD * np.arange(count)


def maxima(stamps: np.ndarray, scores: np.ndarray, episodes: np.ndarray | None = None) -> list:
    """Return the maxima over windows of one second."""
    if episodes is None:
        episodes = np.zeros(len(stamps), dtype=int)
    return window_maxima(stamps, scores, 1.0, episodes).tolist()


def test_windows_by_hand() -> None:
    """65 frames at 20 Hz hold three windows of 1 s; the rest is left out."""
    scores = np.zeros(65)
    scores[[0, 19, 20, 41, 64]] = [1, 2, 3, 4, 9]
    assert maxima(frames(65), scores) == [2, 3, 4]


def test_exact_length_is_a_whole_window() -> None:
    """Twenty frames at 20 Hz cover a second; nineteen do not."""
    assert len(maxima(frames(20), np.ones(20))) == 1
    assert len(maxima(frames(19), np.ones(19))) == 0


def test_jitter_of_the_stamps_costs_no_window() -> None:
    """Jitter of the stamps costs no window: a last frame slightly early completes it."""
    stamps = frames(40)
    stamps[-1] -= PERIOD // 4
    assert len(maxima(stamps, np.ones(40))) == 2


def test_no_window_crosses_an_episode() -> None:
    """Two episodes of 1.5 s hold two windows, not three, even with contiguous stamps."""
    scores = np.arange(60.0)
    assert maxima(frames(60), scores, np.repeat([1, 2], 30)) == [19, 49]


def test_no_window_crosses_a_gap() -> None:
    """A camera gap ends a run of frames, and its time does not count as nominal."""
    stamps = frames(60)
    stamps[30:] += NS_PER_S
    assert maxima(stamps, np.arange(60.0)) == [19, 49]


def test_one_lost_frame_is_no_gap() -> None:
    """A single lost frame costs no window: windows are measured by time."""
    keep = np.delete(np.arange(60), 30)
    assert maxima(frames(60)[keep], np.arange(60.0)[keep]) == [19, 39, 59]


def test_a_clock_that_goes_back_ends_a_run() -> None:
    """A backward clock jump ends a run: repeated stamps belong to another recording."""
    stamps = np.concatenate([frames(30), frames(30)])
    assert maxima(stamps, np.arange(60.0)) == [19, 49]


def test_a_window_can_be_an_episode() -> None:
    """Without a window length, each episode gives one maximum, whatever its length and gaps."""
    stamps = frames(60)
    stamps[10:] += 3 * NS_PER_S
    found = window_maxima(stamps, np.arange(60.0), None, np.repeat([4, 2, 9], [30, 1, 29]))
    assert sorted(found) == [29, 30, 59]


@pytest.mark.parametrize('count', [0, 1])
def test_too_little_for_any_window(count: int) -> None:
    """Zero frames or one frame give no window."""
    assert maxima(frames(count), np.ones(count)) == []


def test_broken_scores_are_refused() -> None:
    """Scores that are not finite are rejected: they would break the threshold."""
    scores = np.ones(40)
    scores[[3, 4]] = np.nan, np.inf
    with pytest.raises(CalibrationError, match='2 of 40 nominal scores are not finite'):
        maxima(frames(40), scores)


def test_sizes_that_disagree_are_refused() -> None:
    """Arrays of different lengths are rejected with their shapes."""
    with pytest.raises(CalibrationError, match=r'\(40,\), scores \(39,\)'):
        maxima(frames(40), np.ones(39))


@pytest.mark.parametrize('window', [0.0, -1.0, float('nan'), float('inf')])
def test_window_that_makes_no_sense_is_refused(window: float) -> None:
    """A window length that is not positive and finite is rejected with its value."""
    with pytest.raises(CalibrationError, match='window is'):
        window_maxima(frames(2), np.ones(2), window, np.zeros(2))


@pytest.mark.parametrize(
    ('count', 'alpha', 'rank'),
    [(19, 0.05, 19), (20, 0.05, 20), (39, 0.05, 38), (9, 0.1, 9), (10, 0.1, 10), (19, 0.1, 18),
     (1, 0.5, 1), (3, 0.5, 2), (999, 0.001, 999), (200, 0.005, 200), (1, 0.9, 1), (9, 0.9, 1),
     (9, 0.7, 3), (9, 0.3, 7)],
)  # fmt: skip
def test_rank_by_hand(count: int, alpha: float, rank: int) -> None:
    """The threshold is the ceil((n + 1)(1 − alpha))-th smallest value, without rounding errors."""
    values = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert conformal_threshold(values, alpha) == rank


@pytest.mark.parametrize(
    ('alpha', 'needed'), [(0.05, 19), (0.1, 9), (0.01, 99), (0.001, 999), (0.3, 3), (0.5, 1)]
)
def test_too_few_windows_are_an_error(alpha: float, needed: int) -> None:
    """Too few windows are an error that names the number needed, the smallest that works."""
    assert windows_needed(alpha) == needed
    conformal_threshold(np.ones(needed), alpha)
    with pytest.raises(CalibrationError, match=f'{needed - 1} nominal.*at least {needed};'):
        conformal_threshold(np.ones(needed - 1), alpha)


@pytest.mark.parametrize('alpha', [0.0, 1.0, -0.1, float('nan')])
def test_alpha_that_makes_no_sense_is_refused(alpha: float) -> None:
    """An alpha outside (0, 1) is rejected with its value."""
    with pytest.raises(CalibrationError, match='alpha is'):
        conformal_threshold(np.ones(100), alpha)


def test_maxima_that_are_not_finite_are_refused() -> None:
    """Maxima that are not finite are rejected: an infinite threshold is never exceeded."""
    with pytest.raises(CalibrationError, match='NaN or infinity'):
        conformal_threshold(np.array([1.0, np.inf]), 0.5)


@pytest.mark.parametrize(('alpha', 'count'), [(0.1, 50), (0.05, 19), (0.2, 12)])
def test_false_alarms_keep_to_alpha(alpha: float, count: int) -> None:
    """Over 20,000 recordings, a new window exceeds the threshold with a rate of at most alpha.

    The exact rate is 1 − rank/(n + 1); the tolerance is four standard errors.
    """
    rng = np.random.default_rng(0)
    windows = rng.exponential(size=(20_000, count + 1))
    thresholds = np.array([conformal_threshold(row, alpha) for row in windows[:, :-1]])
    rate = (windows[:, -1] > thresholds).mean()
    allowance = 4 * np.sqrt(alpha / 20_000)
    assert rate <= alpha + allowance
    assert rate >= alpha - 1 / (count + 1) - allowance
