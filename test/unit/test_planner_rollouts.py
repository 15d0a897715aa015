# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the planner requests of its engine: the committed block once, exact rollouts at the end."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from point_mass import CONFIG, GOAL, NO_NETWORK, REST, SIZE, TICKS, PointMass, at, idle
import pytest

from lewm_ros.bundle import Bundle, write_bundle
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_ros.robot.contract import Stop


def test_committed_block_is_rolled_out_once(
    planner: RecedingHorizonPlanner, engine: PointMass, bundle: Bundle
) -> None:
    """The block being executed is not searched over, and not rolled out for each candidate."""
    committed = np.linspace(-0.5, 0.5, TICKS * SIZE).reshape(TICKS, SIZE)
    planner.plan(at(REST), committed, GOAL)
    expected = bundle.spec.normalise(committed).reshape(1, 1, -1).astype(np.float32)
    first, *others = engine.calls
    assert np.array_equal(first, expected)
    assert {actions.shape[1:] for actions in others} == {(CONFIG.horizon - 1, TICKS * SIZE)}
    assert CONFIG.rollout_blocks(bundle.spec) == CONFIG.horizon - 1


def test_context_shorter_than_the_window(bundle: Bundle, tmp_path: Path) -> None:
    """The window still grows: each candidate begins with the committed block; plans are equal."""
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
    """A bf16 engine does exact rollouts in the last two iterations and for the final mean."""

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


@pytest.mark.parametrize('candidates', ['block', 'tick'])
def test_candidates_have_one_command_for_each_block_or_tick(
    bundle: Bundle, engine: PointMass, candidates: str
) -> None:
    """With 'block' all ticks of a block hold one command; with 'tick' they differ."""
    config = replace(CONFIG, candidates=candidates)
    RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, config).plan(
        at(REST), idle(), GOAL
    )
    first = next(actions[:, -4:] for actions in engine.calls if len(actions) == config.cold_samples)
    ticks = first.reshape(len(first), 4, TICKS, SIZE)
    spread = np.ptp(ticks, axis=2).max()
    assert (spread < 1e-6) == (candidates == 'block')


@pytest.mark.parametrize('candidates', ['block', 'tick'])
def test_candidates_are_what_the_controller_makes_of_them(bundle: Bundle, candidates: str) -> None:
    """All candidates and the committed block passed to the model respect max_step and max_rate."""
    action = replace(bundle.contract.action, max_step=(0.3, 0.2), max_rate=(4.0, 40.0))
    contract = replace(bundle.contract, action=action)
    engine, config = PointMass(bundle), replace(CONFIG, candidates=candidates)
    planner = RecedingHorizonPlanner(bundle.spec, contract, engine, config)
    plan = planner.plan(at(REST), np.full((TICKS, SIZE), 0.9), GOAL, previous=np.zeros(SIZE))
    first, *others = (bundle.spec.denormalise_block(call) for call in engine.calls)
    committed = first.reshape(TICKS, SIZE)
    step = np.array([0.2, 0.2])  # the smaller of step and rate at 20 Hz
    planned = np.array([0.18, 0.2])  # max_rate, less 10 % for ticks that come early
    np.testing.assert_allclose(committed[0], step, atol=1e-6)
    np.testing.assert_allclose(committed[-1], [0.9, 0.9], atol=1e-6)
    for commands in (*others, plan.actions[None]):
        ticks = commands.reshape(len(commands), -1, SIZE)
        before = np.broadcast_to(committed[-1], (len(ticks), 1, SIZE))
        change = np.abs(np.diff(np.concatenate([before, ticks], axis=1), axis=1))
        assert (change <= planned + 1e-6).all()
    assert change.max() == pytest.approx(0.2, abs=1e-6)


def test_doing_nothing_is_a_candidate(bundle: Bundle) -> None:
    """Holding the position, or zero for other kinds, is in the first iteration of every search."""
    for kind, wanted in (('effort', 0.0), ('position', 0.4)):
        stop = Stop('hold' if kind == 'position' else 'zero')
        action = replace(bundle.contract.action, kind=kind)
        contract = replace(bundle.contract, action=action, stop=stop)
        engine = PointMass(bundle)
        spec = replace(bundle.spec, contract=contract)
        planner = RecedingHorizonPlanner(spec, contract, engine, CONFIG)
        for _ in range(2):  # cold and warm
            engine.calls.clear()
            planner.plan(at(REST), np.full((TICKS, SIZE), 0.4), GOAL)
            second = bundle.spec.denormalise_block(engine.searches[0][1])
            np.testing.assert_allclose(second, np.full_like(second, wanted), atol=1e-6)
