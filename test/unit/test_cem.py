# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The cross-entropy method on problems with known solutions."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.planning.cem import CEM, CEMConfig, Search, Solution

STEPS, SIZE = 4, 2
TARGET = np.array([[0.5, -0.5], [0.2, 0.1], [-0.3, 0.8], [0.0, -0.9]])
LOW, HIGH = np.full(SIZE, -1.0), np.full(SIZE, 1.0)
CONFIG = CEMConfig(samples=64, elites=8, iterations=12, keep=5)


def distance(candidates: np.ndarray) -> np.ndarray:
    """Return the squared distance to TARGET."""
    return ((candidates - TARGET) ** 2).sum(axis=(1, 2))


def solve(config: CEMConfig = CONFIG, **changes: Any) -> Solution:
    """Solve the quadratic problem from zero, with the given arguments changed."""
    arguments = {
        'cost': distance,
        'low': LOW,
        'high': HIGH,
        'rng': np.random.default_rng(0),
        'coarse_cost': None,
        'mean': np.zeros((STEPS, SIZE)),
        'std': 1.0,
        'extra': None,
        'deadline': None,
        **changes,
    }
    names = ('cost', 'low', 'high', 'rng', 'coarse_cost')
    search = Search(config, **{name: arguments.pop(name) for name in names})
    return CEM(config).solve(search, **arguments)


def test_finds_the_minimum_of_a_quadratic() -> None:
    """Every value of the solution is within 0.05 of the known optimum."""
    solution = solve(CEMConfig(128, 12, 20))
    assert solution.mean == pytest.approx(TARGET, abs=0.05)
    assert solution.cost == pytest.approx(distance(solution.mean[None])[0])
    assert solution.iterations == 20
    assert solution.rollouts == 20 * 128 + 1


def test_drives_a_linear_system_to_its_goal() -> None:
    """A double integrator reaches 1.0 at rest in 8 steps of bounded force."""

    def arrival(candidates: np.ndarray) -> np.ndarray:
        position = np.zeros(len(candidates))
        velocity = np.zeros(len(candidates))
        for force in candidates[:, :, 0].T:
            velocity = velocity + 0.2 * force
            position = position + velocity
        return (position - 1.0) ** 2 + velocity**2

    solution = solve(
        CEMConfig(200, 20, 30),
        cost=arrival,
        mean=np.zeros((8, 1)),
        low=np.array([-0.5]),
        high=np.array([0.5]),
    )
    assert solution.cost < 1e-3
    assert np.abs(solution.mean).max() <= 0.5


def test_never_leaves_the_bounds() -> None:
    """Candidates, elites and solution stay within bounds that exclude the optimum."""
    seen = []

    def cost(candidates: np.ndarray) -> np.ndarray:
        seen.append(candidates.copy())
        return distance(candidates)

    low, high = np.array([-0.1, -0.2]), np.array([0.3, 0.2])
    solution = solve(cost=cost, low=low, high=high, mean=np.tile(high, (STEPS, 1)))
    everything = np.concatenate([*seen, solution.elites, solution.mean[None]])
    assert (everything >= low).all()
    assert (everything <= high).all()
    assert solution.mean == pytest.approx(np.clip(TARGET, low, high), abs=0.05)


def test_first_sample_is_the_mean() -> None:
    """The initial mean is the first candidate."""
    first = []

    def cost(candidates: np.ndarray) -> np.ndarray:
        first.append(candidates[0].copy())
        return distance(candidates)

    mean = np.full((STEPS, SIZE), 0.25)
    solve(cost=cost, mean=mean)
    assert np.array_equal(first[0], mean)


def test_elites_by_hand() -> None:
    """The next mean is the mean of the elites: the two best of five given sequences."""
    values = np.array([3.0, 1.0, 4.0, 2.0])[:, None, None]
    seen = []

    def cost(candidates: np.ndarray) -> np.ndarray:
        seen.append(candidates.copy())
        return np.abs(candidates[:, 0, 0])

    solution = solve(
        CEMConfig(samples=5, elites=2, iterations=1, keep=2),
        cost=cost,
        low=-np.inf,
        high=np.inf,
        mean=np.full((1, 1), 9.0),
        extra=values,
    )
    assert seen[0].ravel().tolist() == [9.0, 3.0, 1.0, 4.0, 2.0]
    assert solution.elites.ravel().tolist() == [1.0, 2.0]
    assert solution.mean.tolist() == [[1.5]]
    assert solution.cost == 1.5
    assert solution.std == 0.5


def test_equal_seeds_give_equal_bits() -> None:
    """The generator passed in is the only source of randomness: equal seeds give equal bits."""
    one, two = (solve(rng=np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(one.mean, two.mean)
    assert one.cost == two.cost
    assert not np.array_equal(one.mean, solve(rng=np.random.default_rng(8)).mean)


@pytest.mark.parametrize('seed', range(10))
def test_warm_start_never_gets_worse(seed: int) -> None:
    """A warm start from the optimum with few samples returns nothing worse."""
    small = CEMConfig(samples=12, elites=6, iterations=1)
    solution = solve(small, mean=TARGET, std=0.5, rng=np.random.default_rng(seed))
    assert solution.cost <= distance(TARGET[None])[0]


def test_kept_elites_pull_the_search() -> None:
    """Kept elites lead to an optimum that the noise alone would not find."""
    extra = TARGET + np.random.default_rng(1).normal(scale=0.01, size=(5, STEPS, SIZE))
    small = CEMConfig(samples=16, elites=5, iterations=1)
    assert solve(small, extra=extra, std=0.1).cost < 0.01 < solve(small, std=0.1).cost


def test_more_kept_elites_than_samples() -> None:
    """Extra sequences neither displace the mean nor change the number of samples."""
    sizes = []

    def cost(candidates: np.ndarray) -> np.ndarray:
        sizes.append(len(candidates))
        return distance(candidates)

    solve(CEMConfig(4, 2, 1, keep=2), cost=cost, extra=np.zeros((9, STEPS, SIZE)))
    assert sizes == [4, 1]


@pytest.mark.parametrize('broken', [np.nan, np.inf, -np.inf])
def test_costs_that_are_not_finite_are_never_chosen(broken: float) -> None:
    """Candidates without a finite cost are never chosen; the solution lies among the others."""

    def cost(candidates: np.ndarray) -> np.ndarray:
        return np.where(candidates[:, 0, 0] > 0.3, broken, distance(candidates))

    solution = solve(CEMConfig(128, 12, 20), cost=cost)
    assert np.isfinite(solution.mean).all()
    assert np.isfinite(solution.cost)
    assert 0.2 < solution.mean[0, 0] <= 0.3


def test_a_sample_is_returned_where_every_mean_is_broken() -> None:
    """If every mean has cost NaN, the solution is the best single sample."""

    def cost(candidates: np.ndarray) -> np.ndarray:
        costs = distance(candidates)
        costs[0] = np.nan
        return costs

    solution = solve(cost=cost)
    assert np.isfinite(solution.cost)
    assert np.array_equal(solution.mean, solution.elites[0])


def test_nothing_finite_is_an_error() -> None:
    """If no candidate has a finite cost, the search fails with an error."""
    with pytest.raises(ModelError, match='none of 64 candidate plans has a finite cost'):
        solve(cost=lambda candidates: np.full(len(candidates), np.nan))


def test_costs_of_the_wrong_shape_are_refused() -> None:
    """Costs of the wrong shape are rejected with both shapes."""
    with pytest.raises(ModelError, match=r'\(64, 4, 2\) for 64'):
        solve(cost=lambda candidates: candidates)


def test_deadline_is_kept(clock: SimpleNamespace) -> None:
    """With 50 ms a call and 420 ms, seven iterations and a check of the mean run before the cut."""

    def slow(candidates: np.ndarray) -> np.ndarray:
        clock.now += 0.05
        return distance(candidates)

    solution = solve(replace(CONFIG, iterations=1000), cost=slow, deadline=clock.now + 0.42)
    assert clock.now == pytest.approx(100.4)
    assert solution.cut
    assert solution.iterations == 7
    assert solution.cost < distance(np.zeros((1, STEPS, SIZE)))[0]


def test_cheap_check_of_the_mean_leaves_time_for_iterations(clock: SimpleNamespace) -> None:
    """Once evaluating one sequence is known to be cheap, the budget goes into iterations."""

    def slow(candidates: np.ndarray) -> np.ndarray:
        clock.now += 0.1 if len(candidates) > 1 else 0.0
        return distance(candidates)

    cem = CEM(replace(CONFIG, iterations=1000))
    done = []
    for _ in range(2):
        deadline = clock.now + 0.38
        search = Search(cem.config, slow, LOW, HIGH, np.random.default_rng(0))
        solution = cem.solve(search, np.zeros((STEPS, SIZE)), 1.0, deadline=deadline)
        assert clock.now < deadline
        done.append(solution.iterations)
    assert done == [2, 3]


def test_one_iteration_runs_whatever_the_deadline() -> None:
    """One iteration runs even if the deadline has passed; the solution is marked as cut."""
    solution = solve(deadline=time.perf_counter() - 1)
    assert solution.iterations == 1
    assert solution.cut


def test_search_that_ends_by_itself_is_not_cut() -> None:
    """``cut`` means that iterations are missing, not that a deadline was set."""
    assert not solve(deadline=time.perf_counter() + 60).cut
    assert not solve(replace(CONFIG, iterations=1), deadline=0.0).cut


@pytest.mark.parametrize(
    'sizes',
    [
        (4, 5, 1, 1),
        (4, 0, 1, 0),
        (4, 2, 1, 3),
        (4, 2, 1, -1),
    ],
)
def test_sizes_that_make_no_sense_are_refused(sizes: tuple[Any, ...]) -> None:
    """Invalid sizes are rejected, such as more elites than samples or no iterations."""
    with pytest.raises(ConfigError, match='expected'):
        CEMConfig(*sizes)


@pytest.mark.parametrize(('iterations', 'exact'), [(1, 0), (2, 1), (3, 1), (4, 2), (10, 2)])
def test_last_iterations_take_the_exact_cost(iterations: int, exact: int) -> None:
    """The last two iterations (half of a short search) and the mean check use the exact cost."""
    calls = []

    def cost(candidates: np.ndarray, kind: str) -> np.ndarray:
        calls.append(kind)
        return distance(candidates)

    solve(
        replace(CONFIG, iterations=iterations),
        cost=partial(cost, kind='exact'),
        coarse_cost=partial(cost, kind='coarse'),
    )
    assert calls == ['coarse'] * (iterations - exact) + ['exact'] * (exact + 1)


def test_coarse_costs_do_not_decide() -> None:
    """A coarse cost that flatters an early mean does not make it the solution."""

    def flattering(candidates: np.ndarray) -> np.ndarray:
        return distance(candidates) - 1000.0

    solution = solve(coarse_cost=flattering)
    assert solution.cost == pytest.approx(distance(solution.mean[None])[0])
    assert solution.cost < 0.1
