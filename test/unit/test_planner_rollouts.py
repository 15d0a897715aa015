# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the planner asks of its engine: the committed block once, f32 at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from point_mass import CONFIG, GOAL, NO_NETWORK, REST, SIZE, TICKS, PointMass, at, idle
import pytest

from lewm_ros.bundle import Bundle, write_bundle
from lewm_ros.planning import RecedingHorizonPlanner


def test_committed_block_is_rolled_out_once(
    planner: RecedingHorizonPlanner, engine: PointMass, bundle: Bundle
) -> None:
    """What is already being executed is not searched over, and not computed for each candidate."""
    committed = np.linspace(-0.5, 0.5, TICKS * SIZE).reshape(TICKS, SIZE)
    planner.plan(at(REST), committed, GOAL)
    expected = bundle.spec.normalise(committed).reshape(1, 1, -1).astype(np.float32)
    first, *others = engine.calls
    assert np.array_equal(first, expected)
    assert {actions.shape[1:] for actions in others} == {(CONFIG.horizon - 1, TICKS * SIZE)}
    assert CONFIG.rollout_blocks(bundle.spec) == CONFIG.horizon - 1


def test_context_shorter_than_the_window(bundle: Bundle, tmp_path: Path) -> None:
    """Then the window still grows, so each candidate begins with the block; plans are equal."""
    manifest = replace(bundle.manifest, architecture={'history': 3}, files={})
    short = write_bundle(tmp_path / 'short', manifest, NO_NETWORK)
    committed = np.linspace(-0.5, 0.5, TICKS * SIZE).reshape(TICKS, SIZE)
    plans = []
    for each in (bundle, short):
        engine = PointMass(each)
        planner = RecedingHorizonPlanner(each.spec, each.contract, engine, CONFIG)
        plans.append(planner.plan(at(REST), committed, GOAL))
    expected = short.spec.normalise(committed).reshape(-1).astype(np.float32)
    for actions in engine.calls:
        assert actions.dtype == np.float32
        assert actions.shape[1:] == (CONFIG.horizon, TICKS * SIZE)
        assert (actions[:, 0] == expected).all()
    assert plans[0].actions == pytest.approx(plans[1].actions, abs=1e-5)
    assert plans[0].cost == pytest.approx(plans[1].cost, rel=1e-5)
    assert CONFIG.rollout_blocks(short.spec) == CONFIG.horizon


def test_bf16_searches_in_f32_at_the_end(bundle: Bundle) -> None:
    """An engine of less precision is asked for exact rollouts in the last two iterations."""

    class Coarse(PointMass):
        precision = 'bf16'
        exact: ClassVar[list[bool]] = []

        def rollout(self, *arguments: Any) -> np.ndarray:
            self.exact.append(arguments[3] if len(arguments) > 3 else True)
            return super().rollout(*arguments)

    engine = Coarse(bundle)
    planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, CONFIG)
    planner.plan(at(REST), idle(), GOAL)
    committed, search = engine.exact[0], engine.exact[1:]
    assert committed
    assert search == [False] * 10 + [True] * 3


def test_candidates_may_share_their_noise_over_a_block(bundle: Bundle, engine: PointMass) -> None:
    """With nothing but common noise every candidate holds its command over each block."""
    config = replace(CONFIG, noise_correlation=1.0)
    RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, config).plan(
        at(REST), idle(), GOAL
    )
    first = next(actions[:, -4:] for actions in engine.calls if len(actions) == config.cold_samples)
    ticks = first.reshape(len(first), 4, TICKS, SIZE)
    np.testing.assert_allclose(ticks, np.broadcast_to(ticks[:, :, :1], ticks.shape), atol=1e-6)
