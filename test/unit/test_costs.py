# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Costs of predicted latents."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.errors import ModelError
from lewm_ros.planning.costs import goal_cost, weights


def test_ramp_rises_to_one() -> None:
    """The ramp is the square of the time, up to 1."""
    assert weights('ramp', 3) == pytest.approx([1 / 9, 4 / 9, 1.0])


def test_terminal_looks_at_the_last_step_only() -> None:
    """All weight lies on the last step."""
    assert weights('terminal', 3).tolist() == [0.0, 0.0, 1.0]


def test_cost_by_hand() -> None:
    """Squared distances are summed over dimensions and weighted over steps."""
    latents = np.array([[[1.0, 2.0], [0.0, 0.0]], [[0.0, 1.0], [3.0, 1.0]]], dtype=np.float32)
    cost = goal_cost(latents, np.array([0.0, 1.0], dtype=np.float32), np.array([0.5, 1.0]))
    assert cost.tolist() == [0.5 * 2 + 1, 9.0]


def test_one_broken_rollout_does_not_touch_the_others() -> None:
    """NaN stays in its own sample."""
    latents = np.zeros((3, 2, 2), dtype=np.float32)
    latents[1, 0, 0] = np.nan
    cost = goal_cost(latents, np.ones(2, dtype=np.float32), np.ones(2))
    assert np.isnan(cost).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ('latents', 'goal', 'count'), [((4, 3), 3, 4), ((2, 4, 3), 2, 4), ((2, 4, 3), 3, 5)]
)
def test_sizes_that_disagree_are_refused(latents: tuple[int, ...], goal: int, count: int) -> None:
    """Arrays of inconsistent sizes are rejected, never broadcast."""
    with pytest.raises(ModelError, match='expected'):
        goal_cost(np.zeros(latents), np.zeros(goal), np.ones(count))
