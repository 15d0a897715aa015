# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The surprise score."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.errors import CalibrationError, ModelError
from lewm_ros.surprise.score import FLOOR, contributions, nominal_scale, score


def test_contributions_by_hand() -> None:
    """Squared difference over scale, divided by the number of dimensions."""
    parts = contributions(
        np.array([1.0, 2.0], dtype=np.float32), np.array([2.0, 0.0]), np.array([0.5, 8.0])
    )
    assert parts == pytest.approx([1.0, 0.25])
    assert parts.dtype == np.float64


def test_score_is_the_sum_of_the_contributions() -> None:
    """Leading axes are kept."""
    rng = np.random.default_rng(0)
    predicted, observed = rng.normal(size=(2, 3, 5, 8))
    scale = rng.uniform(0.1, 2, 8)
    parts = contributions(predicted, observed, scale)
    assert parts.shape == (3, 5, 8)
    assert (parts >= 0).all()
    assert score(predicted, observed, scale) == pytest.approx(parts.sum(axis=-1))


def test_nominal_score_is_one_on_average() -> None:
    """Normally distributed errors with their own scale score 1 on average."""
    rng = np.random.default_rng(0)
    difference = rng.normal(size=(20_000, 16)) * rng.uniform(0.5, 1.5, 16)
    zeros = np.zeros_like(difference)
    scale = nominal_scale(difference, zeros)
    assert scale == pytest.approx((difference**2).mean(axis=0), rel=0.1)
    assert score(difference, zeros, scale).mean() == pytest.approx(1.0, rel=0.02)


def test_a_handful_of_outliers_does_not_move_the_scale() -> None:
    """Twenty teleports in 1,000 frames change it by under 10 %, the mean square a hundredfold."""
    rng = np.random.default_rng(0)
    difference = rng.normal(size=(1000, 8))
    spoilt = difference.copy()
    spoilt[:20] += 100.0
    zeros = np.zeros_like(difference)
    clean = nominal_scale(difference, zeros)
    assert nominal_scale(spoilt, zeros) == pytest.approx(clean, rel=0.1)
    assert (spoilt**2).mean() > 100 * clean.mean()


def test_a_dead_dimension_gets_the_floor() -> None:
    """A dimension that never errs in nominal data must not dominate by rounding errors."""
    difference = np.random.default_rng(0).normal(size=(500, 5))
    difference[:, 2] = 0.0
    scale = nominal_scale(difference, np.zeros_like(difference))
    assert scale[2] == pytest.approx(FLOOR * np.median(scale), rel=0.2)


@pytest.mark.parametrize('error', [0.0, np.nan, np.inf])
def test_nominal_data_without_an_error_to_measure_is_refused(error: float) -> None:
    """An image that never changes, or a broken model, gives no scale."""
    with pytest.raises(CalibrationError, match='nominal prediction error'):
        nominal_scale(np.full((10, 4), error), np.zeros((10, 4)))


def test_perfect_prediction_is_no_surprise() -> None:
    """Equal latents score zero."""
    assert score(np.ones(4), np.ones(4), np.full(4, 0.1)) == 0.0


def test_nan_is_not_hidden() -> None:
    """A NaN latent gives a NaN score, which the detector treats as an anomaly."""
    assert np.isnan(score(np.array([np.nan, 0.0]), np.zeros(2), np.ones(2)))


@pytest.mark.parametrize(
    ('predicted', 'observed', 'scale'), [((4,), (3,), 4), ((4,), (4,), 1), ((4,), (1, 4), 4)]
)
def test_sizes_that_disagree_are_refused(
    predicted: tuple[int, ...], observed: tuple[int, ...], scale: int
) -> None:
    """Nothing is broadcast by accident."""
    with pytest.raises(ModelError, match='expected'):
        contributions(np.zeros(predicted), np.zeros(observed), np.ones(scale))
