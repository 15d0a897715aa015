# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The state of a goal: what counts as reached, left and given up, frame by frame."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from lewm_ros.planning.config import GoalConfig
from lewm_ros.planning.goal import Goal, GoalState
from lewm_ros.time import NS_PER_S

SIZE = 4
TARGET = np.full(SIZE, 0.5, np.float32)
PERIOD = NS_PER_S // 20
NONE, ACTIVE, REACHED, TIMEOUT = GoalState


def pursued(timeout: float = 0.0) -> Goal:
    """Return a goal set at 100 s, with a tolerance of 0.1 for 0.5 s."""
    goal = Goal(GoalConfig(0.1, 0.5, timeout), PERIOD / NS_PER_S)
    goal.set(TARGET, 7, 100.0)
    return goal


def see(goal: Goal, distances: Sequence[float], first: int = 0) -> list[GoalState]:
    """Show frames of given distances, 20 a second from number ``first`` on; the states after."""
    states = []
    for number, distance in enumerate(distances, first):
        latent = TARGET + np.float32(distance**0.5)
        before = goal.state
        changed = goal.observe(number * PERIOD, latent, 100 + number / 20)
        assert changed == (goal.state is not before)
        states.append(goal.state)
    return states


def test_distance_is_the_mean_square_per_dimension():
    """Of two latents; in float64, so that huge latents give no infinity of float32."""
    goal = pursued()
    goal.observe(3, np.array([0.5, 1.5, 0.5, 2.5], np.float32), 100.0)
    assert (goal.frame, goal.distance) == (3, (1 + 4) / 4)
    goal.observe(4, np.full(SIZE, 1e30, np.float32), 100.0)
    assert goal.distance == pytest.approx(1e60)


def test_a_goal_is_reached_after_half_a_second_of_near_frames():
    """At the tolerance counts; ten periods are between the first and the eleventh frame."""
    goal = pursued()
    states = see(goal, [0.0999] * 20)
    assert states == [ACTIVE] * 10 + [REACHED] * 10
    assert goal.pursued is TARGET  # and held


def test_a_robot_that_swings_through_has_not_reached_it():
    """Near frames have to be in a row."""
    goal = pursued()
    assert REACHED not in see(goal, ([0.05] * 10 + [0.11]) * 5)


def test_a_reached_goal_is_left_only_beyond_twice_the_tolerance():
    """Between the two limits, and for single frames beyond, nothing changes."""
    goal = pursued()
    see(goal, [0.0] * 11)
    assert set(see(goal, [0.05, 0.19] * 20, 11)) == {REACHED}
    assert set(see(goal, ([0.3] * 10 + [0.19]) * 3, 51)) == {REACHED}
    assert see(goal, [0.21] * 11, 84) == [REACHED] * 10 + [ACTIVE]


def test_a_goal_is_given_up_after_its_time():
    """Not sooner, not once reached, and then there is nothing to plan for; its age goes on."""
    goal = pursued(timeout=3.0)
    assert not goal.expire(102.99)
    assert goal.expire(103.0)
    assert (goal.state, goal.pursued, goal.latent) == (TIMEOUT, None, TARGET)
    assert not goal.expire(104.0)  # it is no change any more
    assert set(see(goal, [0.0] * 20, 80)) == {TIMEOUT}
    assert goal.age(104.0) == 4.0
    goal.set(TARGET, 8, 110.0)
    assert (goal.state, goal.age(110.0)) == (ACTIVE, 0.0)
    assert np.isnan(goal.distance)


def test_a_goal_that_is_left_has_its_whole_time_again():
    """The time counts from when it was last active."""
    goal = pursued(timeout=3.0)
    see(goal, [0.0] * 11)
    assert not goal.expire(200.0)
    see(goal, [1.0] * 11, 2000)  # left at 200.5 s
    assert goal.state is ACTIVE
    assert not goal.expire(203.4)
    assert goal.expire(203.5)


def test_the_timeout_may_be_a_multiple_of_the_predicted_time():
    """It counts from the goal, never below two seconds; without a prediction there is none."""
    goal = Goal(GoalConfig(goal_timeout_factor=3.0), PERIOD / NS_PER_S)
    goal.set(TARGET, 1, now=100.0)
    assert not goal.expire(1e6)
    goal.foresee(1.5, now=120.0)  # the first plan came late
    goal.foresee(9.0, now=121.0)  # later ones do not count
    assert not goal.expire(124.4)
    assert goal.expire(124.6) and goal.state is GoalState.TIMEOUT
    goal.set(TARGET, 2, now=200.0)
    assert np.isnan(goal.forecast)
    goal.foresee(0.1, now=200.0)
    assert not goal.expire(201.9) and goal.expire(202.1)
    both = Goal(GoalConfig(goal_timeout=1.0, goal_timeout_factor=3.0), PERIOD / NS_PER_S)
    both.set(TARGET, 1, now=0.0)
    both.foresee(5.0, now=0.5)
    assert both.expire(1.1)


def test_no_timeout_is_for_ever():
    """0 = none."""
    assert not pursued().expire(1e9)


def test_without_a_goal_there_is_nothing():
    """No distance, no age, no change; the same after it was cleared."""
    goal = Goal(GoalConfig(0.1, 0.5, 1.0), PERIOD / NS_PER_S)
    for _ in range(2):
        assert set(see(goal, [0.0] * 20)) == {NONE}
        assert (goal.pursued, goal.stamp, goal.frame) == (None, 0, 0)
        assert np.isnan(goal.distance) and np.isnan(goal.age(200.0))
        assert not goal.expire(1e9)
        goal.set(TARGET, 7, 100.0)
        goal.clear()


def test_frames_before_a_break_do_not_count():
    """A new episode: half a second of near frames has to come anew, whatever the stamps."""
    goal = pursued()
    see(goal, [0.0] * 10, 100)
    goal.forget_frames()
    assert goal.frame == 0
    assert see(goal, [0.0] * 11, 20) == [ACTIVE] * 10 + [REACHED]


def test_two_near_frames_with_a_silence_between_are_not_enough():
    """What the robot did in it is not known: only frames after the silence count."""
    goal = pursued()
    assert see(goal, [0.0]) == [ACTIVE]
    assert see(goal, [0.0] * 11, 200) == [ACTIVE] * 10 + [REACHED]
    assert see(goal, [0.3], 220) == [REACHED]
    assert see(goal, [0.3] * 11, 420) == [REACHED] * 10 + [ACTIVE]


def test_slow_frames_are_no_silence():
    """Of a camera with two seconds between its frames."""
    goal = Goal(GoalConfig(0.1, 0.5), 2.0)
    goal.set(TARGET, 7, 100.0)
    assert [goal.observe(s * NS_PER_S, TARGET, 100.0 + s) for s in (2, 4)] == [False, True]


def test_settings_can_change_under_a_goal():
    """The next frame is judged by the new ones."""
    goal = pursued()
    see(goal, [0.15] * 20)
    assert goal.state is ACTIVE
    goal.config = GoalConfig(0.2, 0.0, 1.0)
    assert see(goal, [0.15], 20) == [REACHED]
