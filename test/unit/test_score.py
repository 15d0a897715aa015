# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The surprise score."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.errors import ModelError
from lewm_ros.surprise.score import contributions, score


def test_contributions_by_hand() -> None:
    """Squared difference over scale, shared out over the dimensions."""
    parts = contributions(
        np.array([1.0, 2.0], dtype=np.float32), np.array([2.0, 0.0]), np.array([0.5, 8.0])
    )
    assert parts == pytest.approx([1.0, 0.25])
    assert parts.dtype == np.float64


def test_score_is_the_sum_of_the_contributions() -> None:
    """Any leading axes are kept."""
    rng = np.random.default_rng(0)
    predicted, observed = rng.normal(size=(2, 3, 5, 8))
    scale = rng.uniform(0.1, 2, 8)
    parts = contributions(predicted, observed, scale)
    assert parts.shape == (3, 5, 8)
    assert (parts >= 0).all()
    assert score(predicted, observed, scale) == pytest.approx(parts.sum(axis=-1))


def test_nominal_score_is_one_on_average() -> None:
    """With the nominal mean squared error as scale, nominal frames score 1 in the mean."""
    rng = np.random.default_rng(0)
    difference = rng.normal(size=(1000, 16)) * rng.uniform(0.1, 5, 16)
    scale = (difference**2).mean(axis=0)
    assert score(difference, np.zeros((1000, 16)), scale).mean() == pytest.approx(1.0)


def test_perfect_prediction_is_no_surprise() -> None:
    """Equal latents score zero."""
    assert score(np.ones(4), np.ones(4), np.full(4, 0.1)) == 0.0


def test_nan_is_not_hidden() -> None:
    """A broken latent gives a broken score, which the detector treats as an anomaly."""
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
