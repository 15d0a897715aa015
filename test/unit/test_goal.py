# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The state of a goal, frame by frame: when it is reached, left and given up."""

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
    """Observe frames of given distances at 20 Hz, from number ``first`` on; return the states."""
    states = []
    for number, distance in enumerate(distances, first):
        latent = TARGET + np.float32(distance**0.5)
        before = goal.state
        changed = goal.observe(number * PERIOD, latent, 100 + number / 20)
        assert changed == (goal.state is not before)
        states.append(goal.state)
    return states


def test_distance_is_the_mean_square_per_dimension():
    """The distance is the mean square per dimension, in float64 so that it cannot overflow."""
    goal = pursued()
    goal.observe(3, np.array([0.5, 1.5, 0.5, 2.5], np.float32), 100.0)
    assert (goal.frame, goal.distance) == (3, (1 + 4) / 4)
    goal.observe(4, np.full(SIZE, 1e30, np.float32), 100.0)
    assert goal.distance == pytest.approx(1e60)


def test_a_goal_is_reached_after_half_a_second_of_near_frames():
    """A goal is reached after 0.5 s within the tolerance: eleven frames, ten periods."""
    goal = pursued()
    states = see(goal, [0.0999] * 20)
    assert states == [ACTIVE] * 10 + [REACHED] * 10
    assert goal.pursued is TARGET  # and still pursued


def test_a_robot_that_swings_through_has_not_reached_it():
    """Frames within the tolerance must be consecutive: swinging through is not reaching."""
    goal = pursued()
    assert REACHED not in see(goal, ([0.05] * 10 + [0.11]) * 5)


def test_a_reached_goal_is_left_only_beyond_twice_the_tolerance():
    """A reached goal is left only after 0.5 s beyond twice the tolerance."""
    goal = pursued()
    see(goal, [0.0] * 11)
    assert set(see(goal, [0.05, 0.19] * 20, 11)) == {REACHED}
    assert set(see(goal, ([0.3] * 10 + [0.19]) * 3, 51)) == {REACHED}
    assert see(goal, [0.21] * 11, 84) == [REACHED] * 10 + [ACTIVE]


def test_a_goal_is_given_up_after_its_time():
    """An unreached goal is given up at its timeout: nothing is pursued, but its age goes on."""
    goal = pursued(timeout=3.0)
    assert not goal.expire(102.99)
    assert goal.expire(103.0)
    assert (goal.state, goal.pursued, goal.latent) == (TIMEOUT, None, TARGET)
    assert not goal.expire(104.0)  # no further change
    assert set(see(goal, [0.0] * 20, 80)) == {TIMEOUT}
    assert goal.age(104.0) == 4.0
    goal.set(TARGET, 8, 110.0)
    assert (goal.state, goal.age(110.0)) == (ACTIVE, 0.0)
    assert np.isnan(goal.distance)


def test_a_goal_that_is_left_has_its_whole_time_again():
    """A reached goal that is left has its whole timeout again."""
    goal = pursued(timeout=3.0)
    see(goal, [0.0] * 11)
    assert not goal.expire(200.0)
    see(goal, [1.0] * 11, 2000)  # active again at 200.5 s
    assert goal.state is ACTIVE
    assert not goal.expire(203.4)
    assert goal.expire(203.5)


def test_the_timeout_may_be_a_multiple_of_the_predicted_time():
    """The timeout may be a multiple of the first predicted time, but at least 2 s.

    It counts from that prediction; without a prediction there is none.
    """
    goal = Goal(GoalConfig(goal_timeout_factor=3.0), PERIOD / NS_PER_S)
    goal.set(TARGET, 1, now=100.0)
    assert not goal.expire(1e6)
    goal.foresee(1.5, now=120.0)  # the first plan came late
    goal.foresee(9.0, now=121.0)  # later predictions do not count
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
    """A timeout of 0 means none."""
    assert not pursued().expire(1e9)


def test_without_a_goal_there_is_nothing():
    """Without a goal there is no distance, age or change, and again after it is cleared."""
    goal = Goal(GoalConfig(0.1, 0.5, 1.0), PERIOD / NS_PER_S)
    for _ in range(2):
        assert set(see(goal, [0.0] * 20)) == {NONE}
        assert (goal.pursued, goal.stamp, goal.frame) == (None, 0, 0)
        assert np.isnan(goal.distance) and np.isnan(goal.age(200.0))
        assert not goal.expire(1e9)
        goal.set(TARGET, 7, 100.0)
        goal.clear()


def test_frames_before_a_break_do_not_count():
    """Frames before a new episode do not count, whatever their stamps."""
    goal = pursued()
    see(goal, [0.0] * 10, 100)
    goal.forget_frames()
    assert goal.frame == 0
    assert see(goal, [0.0] * 11, 20) == [ACTIVE] * 10 + [REACHED]


def test_two_near_frames_with_a_silence_between_are_not_enough():
    """Frames before a silence do not count, because the robot's motion in it is unknown."""
    goal = pursued()
    assert see(goal, [0.0]) == [ACTIVE]
    assert see(goal, [0.0] * 11, 200) == [ACTIVE] * 10 + [REACHED]
    assert see(goal, [0.3], 220) == [REACHED]
    assert see(goal, [0.3] * 11, 420) == [REACHED] * 10 + [ACTIVE]


def test_slow_frames_are_no_silence():
    """Two seconds between the frames of a slow camera are not a silence."""
    goal = Goal(GoalConfig(0.1, 0.5), 2.0)
    goal.set(TARGET, 7, 100.0)
    assert [goal.observe(s * NS_PER_S, TARGET, 100.0 + s) for s in (2, 4)] == [False, True]


def test_settings_can_change_under_a_goal():
    """New settings apply from the next frame on."""
    goal = pursued()
    see(goal, [0.15] * 20)
    assert goal.state is ACTIVE
    goal.config = GoalConfig(0.2, 0.0, 1.0)
    assert see(goal, [0.15], 20) == [REACHED]
