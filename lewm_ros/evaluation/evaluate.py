# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Closed-loop success in simulation, the simulator waiting for the planner."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.evaluation.intervals import wilson
from lewm_ros.evaluation.recorded import Pair, Resumed
from lewm_ros.planning import PlannerConfig
from lewm_ros.progress import progress
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import Task
from lewm_ros.sim.collect import START, Policy, UniformPolicy, simulate
from lewm_ros.time import NS_PER_S


def run_goals(
    task: Task,
    contract: Contract,
    policy: Policy,
    goals: int,
    seconds: float,
    camera_rate: float,
    seed: int,
    far: float | None = None,
    pairs: Sequence[Pair] | None = None,
) -> dict[str, Any]:
    """Drive the robot from a fresh random pose to a goal, ``goals`` times, or through ``pairs``.

    Poses and goals depend on the seed alone. Success latches at any frame, as in the paper;
    ``within_at_end`` counts those still at the goal. Each episode has its own search seed, so that
    their random errors are independent. ``plan_median`` is the time from a frame to its plan [s].
    """
    task.rng = np.random.default_rng(seed)
    rng = np.random.default_rng(seed)
    within, times, forecasts = 0, [], list[np.ndarray]()
    errors = list[list[float]]()
    planner = policy if isinstance(policy, PlannerPolicy) else None
    for number in progress(range(goals), desc='evaluate', unit='goal'):
        if planner is not None:
            planner.seed(seed + number)
        driver, began, held, at = policy, START, None, None
        if pairs is None:
            task.reset()
            goal, phase = task.sample_goal(far), rng.uniform(0, contract.period)
        else:
            pair = pairs[number]
            task.set_state(pair.state)
            goal, phase, held = pair.goal, pair.phase, pair.held
            driver, began = Resumed(policy, pair), START + pair.lead
        task.set_goal(goal)
        lasts = (began - START) / NS_PER_S + seconds
        for kind, stamp, _ in simulate(
            task, contract, driver, lasts, camera_rate, phase, START, held
        ):
            if at is None and kind == 'state' and stamp >= began and task.reached():
                at = stamp
        if at is None and task.reached():  # after the last frame
            at = START + round(lasts * NS_PER_S)
        if at is not None:
            times.append((at - began) / NS_PER_S)
            told = () if planner is None else planner.forecasts
            rows = [(s, (at - t) / NS_PER_S) for t, s in told if t < at and np.isfinite(s)]
            forecasts.extend([np.array(rows)] if rows else [])
        within += task.reached()
        errors.append(task.errors(goal).tolist())
    reached = len(times)
    low, high = wilson(reached, goals)
    return {
        'episodes': goals,
        'successes': reached,
        'success_low': low,
        'success_high': high,
        'within_at_end': within,
        'seconds_mean': float(np.mean(times)) if times else None,
        'final_error_median': float(np.median(np.max(errors, axis=1))),
        'final_errors': errors,
        'forecast': _compare(forecasts),
        'plan_median': float(np.median(planner.plan_times))
        if planner and planner.plan_times
        else None,
        'unit': task.unit,
    }


def _compare(forecasts: list[np.ndarray]) -> dict[str, float] | None:
    """Compare predicted with true times to the goals reached; None if there are too few.

    ``forecasts`` has an array (plans, 2) [s] for each goal. Means and ``correlation`` are of the
    first plans, ``countdown`` is the correlation over all plans on the way.
    """
    if len(forecasts) < 3:
        return None
    first, every = np.array([rows[0] for rows in forecasts]), np.concatenate(forecasts)
    if not (first.std(axis=0).all() and every.std(axis=0).all()):
        return None
    return {
        'goals': len(first),
        'correlation': float(np.corrcoef(first.T)[0, 1]),
        'predicted_mean': float(first[:, 0].mean()),
        'true_mean': float(first[:, 1].mean()),
        'plans': len(every),
        'countdown': float(np.corrcoef(every.T)[0, 1]),
    }


def evaluate(
    bundle: Bundle,
    task: Task,
    engine: Engine,
    config: PlannerConfig,
    goals: int = 40,
    seconds: float = 6.0,
    seed: int = 1000,
    far: float | None = None,
    pairs: Sequence[Pair] | None = None,
) -> dict[str, Any]:
    """Measure the planner and the random policy on the same goals.

    Args:
        bundle: the model.
        task: the simulated robot, with the bundle's contract.
        engine: runs the bundle.
        config: of the planner.
        goals: number of goals.
        seconds: for each [s].
        seed: of poses and goals.
        far: largest error at the start, in the task's unit; None: within a plan's reach.
        pairs: starts and goals, ``goals`` of them, instead of random ones.

    """
    contract = bundle.contract
    planner = PlannerPolicy(bundle, contract, engine, config, task)
    uniform = UniformPolicy(contract, np.random.default_rng(seed))
    rate = planner.camera_rate
    return {
        name: run_goals(task, contract, policy, goals, seconds, rate, seed, far, pairs)
        for name, policy in (('planner', planner), ('random', uniform))
    }
