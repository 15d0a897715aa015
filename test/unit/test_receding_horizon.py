# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The planner on a linear system whose latents are its state, and on a real bundle."""

from __future__ import annotations

from dataclasses import replace
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
from point_mass import CONFIG, GOAL, REST, SIZE, TICKS, PointMass, at, idle
import pytest

from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.planning import Plan, PlanningAgent, RecedingHorizonPlanner
from lewm_ros.planning.config import GoalConfig
from lewm_ros.planning.goal import Goal
from lewm_ros.robot.contract import Stop
from lewm_ros.robot.history import Context
from lewm_ros.time import NS_PER_S

BLOCK = NS_PER_S // 4
PERIOD = NS_PER_S // 20


def same(one: Plan, two: Plan) -> bool:
    """Whether two plans are bitwise equal."""
    return np.array_equal(one.actions, two.actions) and one.cost == two.cost


def test_plan_has_the_promised_form(planner: RecedingHorizonPlanner) -> None:
    """It starts one block after the context and has one command per free tick, in bounds."""
    plan = planner.plan(at(REST, stamp=7 * NS_PER_S), idle(), GOAL)
    assert plan.start == 7 * NS_PER_S + BLOCK
    assert plan.period == PERIOD
    assert plan.actions.shape == (4 * TICKS, SIZE)
    assert plan.end == plan.start + 4 * BLOCK
    assert np.isfinite(plan.actions).all()
    assert np.abs(plan.actions).max() <= 1.0
    assert (plan.warm, plan.iterations, plan.rollouts) == (False, 12, 12 * 128 + 1)
    assert not plan.deadline_missed
    assert plan.std >= 0


def test_reaches_the_goal_in_closed_loop(
    planner: RecedingHorizonPlanner, engine: PointMass, bundle: Bundle
) -> None:
    """With replanning every block, one block late, the state reaches the goal and comes to rest."""
    state, committed, stamp = REST, idle(), NS_PER_S
    for step in range(24):
        plan = planner.plan(at(state, stamp), committed, GOAL)
        assert plan.warm == (step > 0)
        executed = bundle.spec.normalise(committed).reshape(1, 1, -1)
        state = engine.rollout(np.stack([state, state]), np.zeros((1, 10)), executed)[0, 0]
        committed, stamp = plan.actions[:TICKS], stamp + BLOCK
    assert state[:2] == pytest.approx(GOAL[:2], abs=0.05)
    assert state[2:] == pytest.approx([0, 0], abs=0.2)


def test_tighter_limits_of_the_robot_hold(bundle: Bundle, engine: PointMass) -> None:
    """The robot's own limits bound the plan exactly; those of the training data do not."""
    action = replace(bundle.contract.action, low=(-0.2, -0.1), high=(0.3, 0.1))
    contract = replace(bundle.contract, action=action)
    planner = RecedingHorizonPlanner(bundle.spec, contract, engine, CONFIG)
    actions = planner.plan(at(REST), idle(), GOAL).actions
    assert (actions >= [-0.2, -0.1]).all()
    assert (actions <= [0.3, 0.1]).all()
    assert actions[:, 0].max() == pytest.approx(0.3, abs=0.02)


def test_rounding_does_not_pass_a_limit(bundle: Bundle, engine: PointMass) -> None:
    """A limit that rounds up when normalised and denormalised is still never exceeded."""
    high = np.array([0.95, 0.08])
    assert (bundle.spec.denormalise(bundle.spec.normalise(high)) > high).all()
    action = replace(bundle.contract.action, kind='position', low=(0.94, 0.07), high=(0.95, 0.08))
    contract = replace(bundle.contract, action=action, stop=Stop('hold'))
    # With one elite the plan is a single clipped sample, mostly at the limits.
    config = replace(CONFIG, elites=1, keep_elites=0, cold_iterations=1)
    spec = replace(bundle.spec, contract=contract)
    planner = RecedingHorizonPlanner(spec, contract, engine, config)
    actions = planner.plan(at(REST), idle(), np.array([9, 9, 0, 0], dtype=np.float32)).actions
    assert (actions <= high).all()
    assert (actions == high).any(axis=0).all()


def test_without_clipping_a_plan_may_leave_the_limits(bundle: Bundle, engine: PointMass) -> None:
    """clip=False gives the published planner; then the controller clips."""
    planner = RecedingHorizonPlanner(
        bundle.spec, bundle.contract, engine, replace(CONFIG, clip=False)
    )
    assert np.abs(planner.plan(at(REST), idle(), 9 * GOAL).actions).max() > 1.0


def test_a_plan_is_foreseen_as_it_is_rolled_out(
    planner: RecedingHorizonPlanner, engine: PointMass, bundle: Bundle
) -> None:
    """foresee() returns one latent per block, as rolled out, the committed block first."""
    context = at(REST)
    plan = planner.plan(context, idle(), GOAL)
    ahead = planner.foresee(context, idle(), plan)
    blocks = bundle.spec.normalise(np.concatenate([idle(), plan.actions]))
    blocks = blocks.reshape(1, 5, -1).astype(np.float32)
    expected = engine.rollout(context.latents, context.past, blocks)[0]
    assert ahead == pytest.approx(expected, abs=1e-5)
    assert np.abs(ahead[-1][:2] - GOAL[:2]).max() < np.abs(REST[:2] - GOAL[:2]).max()


def test_equal_seeds_give_equal_plans(bundle: Bundle, engine: PointMass) -> None:
    """A second planner, and the same one after a reset, repeat the plans; another seed differs."""

    def plans(planner: RecedingHorizonPlanner) -> list[Plan]:
        return [planner.plan(at(REST, NS_PER_S + i * BLOCK), idle(), GOAL) for i in range(3)]

    first, second, other = (
        RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, replace(CONFIG, seed=seed))
        for seed in (3, 3, 4)
    )
    expected = plans(first)
    first.reset()
    assert all(map(same, expected, plans(second)))
    assert all(map(same, expected, plans(first)))
    assert not same(expected[0], plans(other)[0])


def test_warm_start_is_not_worse_than_keeping_the_plan(bundle: Bundle, engine: PointMass) -> None:
    """With a minimal search, replanning at the same stamp never raises the cost."""
    config = replace(CONFIG, samples=8, elites=5, iterations=1)
    planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, config)
    costs = [planner.plan(at(REST), idle(), GOAL).cost for _ in range(10)]
    assert (np.diff(costs) <= 1e-9).all()


def test_other_settings_hold_from_the_next_plan_on(
    planner: RecedingHorizonPlanner, engine: PointMass, bundle: Bundle
) -> None:
    """The next plan uses the new sizes and budget, and still starts from the last plan."""
    old = planner.plan(at(REST), idle(), GOAL)
    engine.calls.clear()
    planner.adopt(replace(CONFIG, samples=20, iterations=2, deadline_fraction=0.3))
    plan = planner.plan(at(REST), idle(), GOAL)
    assert plan.warm
    assert plan.rollouts == 2 * 20 + 1
    first = bundle.spec.denormalise_block(engine.searches[0][0]).reshape(-1, SIZE)
    assert first == pytest.approx(old.actions, abs=1e-5)
    assert planner.budget == pytest.approx(0.3 * 0.25)


def averaged(commands: np.ndarray, step: int) -> np.ndarray:
    """Replace commands (n, A) by their average over each ``step`` ticks."""
    steps = commands.reshape(-1, step, SIZE).mean(axis=1)
    return np.repeat(steps, step, axis=0)


@pytest.mark.parametrize(('candidates', 'step'), [('block', TICKS), ('tick', 1)])
@pytest.mark.parametrize('ticks', [0, 1, 5, 8, 19])
def test_warm_start_shifts_by_the_time_that_passed(
    bundle: Bundle, engine: PointMass, candidates: str, step: int, ticks: int
) -> None:
    """The first candidate is the rest of the old plan, followed by zeros."""
    config = replace(CONFIG, candidates=candidates)
    planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, config)
    old = planner.plan(at(REST), idle(), GOAL)
    engine.calls.clear()
    plan = planner.plan(at(REST, NS_PER_S + ticks * PERIOD), idle(), GOAL)
    assert plan.warm
    first = bundle.spec.denormalise_block(engine.searches[0][0]).reshape(-1, SIZE)
    expected = np.concatenate([old.actions[ticks:], np.zeros((ticks, SIZE))])
    assert first == pytest.approx(averaged(expected, step), abs=1e-5)


def test_warm_start_of_positions_holds_the_last(bundle: Bundle, engine: PointMass) -> None:
    """Beyond the end of the old plan, the first candidate repeats its last position."""
    action = replace(bundle.contract.action, kind='position')
    contract = replace(bundle.contract, action=action, stop=Stop('hold'))
    spec = replace(bundle.spec, contract=contract)
    planner = RecedingHorizonPlanner(spec, contract, engine, CONFIG)
    old = planner.plan(at(REST), idle(), GOAL)
    engine.calls.clear()
    planner.plan(at(REST, NS_PER_S + 2 * BLOCK), idle(), GOAL)
    first = bundle.spec.denormalise_block(engine.searches[0][0]).reshape(-1, SIZE)
    held = np.tile(old.actions[-1], (2 * TICKS, 1))
    assert first == pytest.approx(np.concatenate([old.actions[2 * TICKS :], held]), abs=1e-5)


def test_warm_start_between_ticks(bundle: Bundle, engine: PointMass) -> None:
    """A shift by half a tick averages each two consecutive commands."""
    config = replace(CONFIG, candidates='tick')
    planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, config)
    old = planner.plan(at(REST), idle(), GOAL)
    engine.calls.clear()
    planner.plan(at(REST, NS_PER_S + PERIOD // 2), idle(), GOAL)
    first = bundle.spec.denormalise_block(engine.searches[0][0]).reshape(-1, SIZE)
    held = np.concatenate([old.actions, np.zeros((1, SIZE))])
    assert first == pytest.approx((held[:-1] + held[1:]) / 2, abs=1e-5)


@pytest.mark.parametrize('warm', [False, True])
def test_std_of_the_first_samples(bundle: Bundle, engine: PointMass, warm: bool) -> None:
    """A cold search samples with std, a warm one with warm_std, in normalised actions."""
    config = replace(
        CONFIG, samples=256, cold_samples=256, std=2.0, warm_std=0.1, clip=False, keep_elites=0
    )
    planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, config)
    if warm:
        planner.plan(at(REST), idle(), GOAL)
        engine.calls.clear()
    planner.plan(at(REST), idle(), GOAL)
    samples = engine.searches[0]
    assert (samples[2:] - samples[0]).std() == pytest.approx(0.1 if warm else 2.0, rel=0.02)


def test_kept_elites_are_tried(planner: RecedingHorizonPlanner, engine: PointMass) -> None:
    """The best candidates of the last search are in the next one's first iteration."""
    planner.plan(at(REST), idle(), GOAL)
    last = engine.searches[-2]
    engine.calls.clear()
    planner.plan(at(REST), idle(), GOAL)
    kept = engine.searches[0][2 : 2 + CONFIG.keep_elites]  # after the mean and the resting command
    for sequence in kept:
        assert np.abs(last - sequence).max(axis=(1, 2)).min() < 1e-5


@pytest.mark.parametrize('stamp', [NS_PER_S - 1, NS_PER_S + 4 * BLOCK])
def test_plan_of_another_time_is_no_warm_start(planner: RecedingHorizonPlanner, stamp: int) -> None:
    """After a clock jump back, or once the plan has ended, the search starts cold."""
    planner.plan(at(REST), idle(), GOAL)
    assert not planner.plan(at(REST, stamp), idle(), GOAL).warm


def test_new_goal_and_reset_start_cold(planner: RecedingHorizonPlanner) -> None:
    """An equal goal in another array stays warm; another goal and a reset do not."""
    planner.plan(at(REST), idle(), GOAL)
    assert planner.plan(at(REST), idle(), GOAL.copy()).warm
    assert not planner.plan(at(REST), idle(), GOAL + 0.1).warm
    planner.reset()
    assert not planner.plan(at(REST), idle(), GOAL + 0.1).warm


def test_goal_is_not_shared_with_the_caller(planner: RecedingHorizonPlanner) -> None:
    """A caller that reuses its goal array for a new goal gets a cold search."""
    goal = GOAL.copy()
    planner.plan(at(REST), idle(), goal)
    goal[0] = -0.5
    assert not planner.plan(at(REST), idle(), goal).warm


def test_budget_cuts_the_search(bundle: Bundle, clock: SimpleNamespace) -> None:
    """At 50 ms per rollout and a budget of 0.3 s, the plan is in time, with deadline_missed set."""

    class Slow(PointMass):
        def rollout(self, *arguments: Any) -> np.ndarray:
            clock.now += 0.05
            return super().rollout(*arguments)

    planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, Slow(bundle), CONFIG)
    assert planner.budget == pytest.approx(0.7 * 0.25)
    plan = planner.plan(at(REST), idle(), GOAL, budget=0.3)
    assert 100.2 < clock.now < 100.3
    assert plan.deadline_missed
    assert 1 < plan.iterations < CONFIG.cold_iterations


@pytest.mark.parametrize('share', [0.5, 1.0])
def test_model_that_returns_nan(bundle: Bundle, share: float) -> None:
    """Half NaN rollouts still give a finite plan; all NaN raise an error and leave no state."""

    class Broken(PointMass):
        share = 0.0

        def rollout(self, *arguments: Any) -> np.ndarray:
            latents = super().rollout(*arguments)
            latents[len(latents) - round(self.share * len(latents)) :] = np.nan
            return latents

    engine = Broken(bundle)
    planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, CONFIG)
    engine.share = share
    if share == 1.0:
        with pytest.raises(ModelError, match='finite cost'):
            planner.plan(at(REST), idle(), GOAL)
        engine.share = 0.0
    assert np.isfinite(planner.plan(at(REST), idle(), GOAL).actions).all()


def test_committed_block_of_the_wrong_shape(planner: RecedingHorizonPlanner) -> None:
    """A flattened block is refused; the error has both shapes."""
    with pytest.raises(ModelError, match=r'\(10,\): expected \(5, 2\)'):
        planner.plan(at(REST), idle().reshape(-1), GOAL)


@pytest.mark.parametrize('broken', ['committed', 'goal'])
def test_inputs_that_are_not_finite(planner: RecedingHorizonPlanner, broken: str) -> None:
    """NaN in the committed block or in the goal is refused."""
    committed, goal = idle(), GOAL.copy()
    (committed if broken == 'committed' else goal)[0] = np.nan
    with pytest.raises(ModelError, match='NaN'):
        planner.plan(at(REST), committed, goal)


def test_robot_of_another_kind_is_refused(bundle: Bundle, engine: PointMass) -> None:
    """The contract is compared with the bundle's before anything is planned."""
    contract = replace(bundle.contract, rates=replace(bundle.contract.rates, control=10.0))
    with pytest.raises(ConfigError, match=r'rates\.control'):
        RecedingHorizonPlanner(bundle.spec, contract, engine, CONFIG)


def test_horizon_beyond_the_bundle_is_refused(bundle: Bundle, engine: PointMass) -> None:
    """The error names both horizons."""
    with pytest.raises(ModelError, match=r'horizon is 7 blocks.*has 6'):
        RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, replace(CONFIG, horizon=7))


@pytest.mark.parametrize(
    'change',
    [
        {'horizon': 1},
        {'execute': 0},
        {'execute': 5},
        {'std': 0.0},
        {'warm_std': float('nan')},
        {'deadline_fraction': float('inf')},
        {'seed': -1},
        {'cost': 'mean'},
        {'elites': 65},
        {'cold_iterations': 0},
        {'keep_elites': 9},
        {'candidates': 'second'},
        {'exact_iterations': -1},
    ],
)
def test_settings_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    """PlannerConfig rejects values out of range."""
    with pytest.raises(ConfigError, match='expected'):
        replace(CONFIG, **change)  # type: ignore[arg-type]


def test_plans_with_a_real_bundle(tiny_bundle: Bundle) -> None:
    """With onnxruntime, a plan costs less than half of the average command for a reachable goal."""
    engine = load_engine(tiny_bundle)
    manifest = tiny_bundle.manifest
    rng = np.random.default_rng(0)
    latents = np.stack(
        [engine.encode(rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)) for _ in range(3)]
    )
    past = rng.normal(size=(2, TICKS * SIZE)).astype(np.float32)
    wanted = rng.normal(size=(1, 5, TICKS * SIZE)).astype(np.float32)
    goal = engine.rollout(latents, past, wanted)[0, -1]
    context = Context(NS_PER_S, latents, tiny_bundle.spec.denormalise_block(past))
    config = replace(CONFIG, horizon=manifest.horizon, cost='terminal')
    planner = RecedingHorizonPlanner(tiny_bundle.spec, tiny_bundle.contract, engine, config)
    committed = tiny_bundle.spec.denormalise_block(wanted[0, 0]).reshape(TICKS, SIZE)
    plan = planner.plan(context, committed, goal)
    average = wanted.copy()
    average[:, 1:] = 0
    idle_cost = ((engine.rollout(latents, past, average)[0, -1] - goal) ** 2).sum()
    assert plan.cost < 0.5 * idle_cost
    assert planner.plan(context, committed, goal).cost <= plan.cost


def test_planning_needs_no_engine() -> None:
    """Importing the planner imports neither the engines nor torch."""
    code = (
        'import sys, lewm_ros.planning; '
        "print([m for m in ('torch', 'onnxruntime', 'lewm_ros.engines') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == '[]'


@pytest.mark.parametrize('hold', [None, 0.3])
def test_a_holding_robot_may_wait_for_its_goal_as_long_as_it_likes(
    planner: RecedingHorizonPlanner, bundle: Bundle, hold: float | None
) -> None:
    """A context exists before the first command; later, a finite ``hold`` requires commands."""
    contract = bundle.contract
    made = replace(contract.action, kind='position', hold=hold)
    contract = replace(contract, action=made, stop=Stop('hold'))
    goal = Goal(GoalConfig(), bundle.spec.camera_period)
    agent = PlanningAgent(bundle.spec, contract, planner, goal)
    agent.set_goal(GOAL, 1, 0.0)

    def film(start: int, frames: int) -> bool:
        """Return whether there is a context to plan on after this many frames."""
        for stamp in range(start, start + frames * PERIOD, PERIOD):
            agent.history.append_latent(stamp, REST)
            agent.observe(stamp, REST, 0.0)
        return agent.prepare(stamp) is not None

    assert film(NS_PER_S, 200)
    for tick in range(200, 220):
        agent.history.append_action(NS_PER_S + tick * PERIOD, np.full(SIZE, 0.5))
    assert film(NS_PER_S + 200 * PERIOD, 20)
    assert film(NS_PER_S + 220 * PERIOD, 20) == (hold is None)
