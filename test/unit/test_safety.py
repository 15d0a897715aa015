# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Command limits, which reject non-finite values, and the watchdogs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lewm_ros.control.limits import Limits
from lewm_ros.control.watchdogs import CameraWatchdog, ClockWatchdog, ExecutionWatchdog
from lewm_ros.errors import ConfigError
from lewm_ros.robot.contract import Action, Executed

ACTION = Action(
    topic='action',
    type='std_msgs/msg/Float64MultiArray',
    fields=('data[0]', 'data[1]', 'data[2]'),
    names=('a', 'b', 'c'),
    units=('rad', 'rad', 'rad'),
    kind='effort',
    low=(-1.0, -0.2, 3.0),
    high=(1.0, 0.5, 4.0),
)
STEPPED = replace(ACTION, max_step=(0.1, 0.05, 0.5))
RATED = replace(ACTION, max_rate=(1.0, 0.5, 5.0))
PERIOD = 0.1
SECOND = 1_000_000_000
INSIDE = np.array([0.0, 0.0, 3.5])


def test_command_within_limits_passes_unchanged():
    """A command within the limits is neither changed nor counted."""
    limits = Limits(ACTION, PERIOD)
    command = np.array([-1.0, 0.5, 3.25])
    np.testing.assert_array_equal(limits.apply(command, INSIDE, PERIOD), command)
    assert (limits.clipped, limits.rejected) == (0, 0)


def test_command_beyond_limits_is_clipped_and_counted():
    """Each dimension is clipped to its own bounds."""
    limits = Limits(ACTION, PERIOD)
    np.testing.assert_array_equal(
        limits.apply(np.array([5.0, -5.0, 0.0]), None, PERIOD), [1.0, -0.2, 3.0]
    )
    assert (limits.clipped, limits.rejected) == (1, 0)


def test_clipping_leaves_the_caller_s_array_alone():
    """The caller's array is not modified."""
    command = np.array([5.0, -5.0, 0.0])
    Limits(STEPPED, PERIOD).apply(command, INSIDE, PERIOD)
    np.testing.assert_array_equal(command, [5.0, -5.0, 0.0])


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dimension', [0, 1, 2])
@pytest.mark.parametrize('action', [ACTION, STEPPED])
def test_non_finite_command_is_rejected(bad, dimension, action):
    """One NaN or infinity anywhere rejects the whole command; infinity is not clipped."""
    limits = Limits(action, PERIOD)
    command = INSIDE.copy()
    command[dimension] = bad
    assert limits.apply(command, INSIDE, PERIOD) is None
    assert limits.apply(command, None, PERIOD) is None
    assert (limits.clipped, limits.rejected) == (0, 2)


@pytest.mark.parametrize(
    'command', [np.zeros(2), np.zeros(4), np.zeros((1, 3)), np.zeros(0), np.float64(0.0)]
)
def test_command_of_another_size_is_rejected(command):
    """Nothing is broadcast: a wrong shape is rejected and counted."""
    limits = Limits(ACTION, PERIOD)
    assert limits.apply(command, None, PERIOD) is None
    assert limits.rejected == 1


def test_step_is_limited_from_the_last_command():
    """max_step bounds the change per tick, per dimension, in both directions."""
    limits = Limits(STEPPED, PERIOD)
    up = limits.apply(np.array([1.0, 0.5, 4.0]), INSIDE, PERIOD)
    np.testing.assert_allclose(up, [0.1, 0.05, 4.0])
    down = limits.apply(np.array([-1.0, -0.2, 3.0]), INSIDE, PERIOD)
    np.testing.assert_allclose(down, [-0.1, -0.05, 3.0])
    assert limits.clipped == 2


def test_first_command_has_no_step_to_limit():
    """Without a previous command only the value limits apply."""
    np.testing.assert_array_equal(
        Limits(STEPPED, PERIOD).apply(np.array([1.0, 0.5, 3.0]), None, PERIOD), [1.0, 0.5, 3.0]
    )


def test_value_limits_win_over_the_step_limit():
    """From outside the bounds the command returns at once, not step by step."""
    limited = Limits(STEPPED, PERIOD).apply(INSIDE, np.array([9.0, -9.0, 0.0]), PERIOD)
    np.testing.assert_array_equal(limited, [1.0, -0.2, 3.0])


def test_the_rate_counts_over_the_time_that_passed():
    """The allowed change scales with the elapsed time, up to that of one period."""
    limits = Limits(RATED, PERIOD)
    far = np.array([1.0, 0.5, 4.0])
    for elapsed, step in ((PERIOD, 0.1), (PERIOD / 10, 0.01), (0.0, 0.0), (50 * PERIOD, 0.1)):
        sent = limits.apply(far, INSIDE, elapsed)
        np.testing.assert_allclose(sent - INSIDE, [step, step / 2, min(5 * step, 0.5)])


def test_the_smaller_of_step_and_rate_limits_counts():
    """The smaller limit applies per dimension."""
    action = replace(ACTION, max_step=(0.05, 0.05, 0.5), max_rate=(1.0, 0.1, 1.0))
    sent = Limits(action, PERIOD).apply(np.array([1.0, 0.5, 4.0]), INSIDE, PERIOD)
    np.testing.assert_allclose(sent - INSIDE, [0.05, 0.01, 0.1])


@pytest.mark.parametrize(
    'action', [ACTION, STEPPED, RATED, replace(STEPPED, max_rate=(0.5, 1.0, 1.0))]
)
def test_a_projected_plan_passes_unchanged(action):
    """project() changes a plan as apply() does tick by tick."""
    plans = np.random.default_rng(0).normal(size=(6, 20, 3)) * 2 + INSIDE
    limits = Limits(action, PERIOD)
    projected = limits.project(plans, INSIDE)
    for plan, possible in zip(plans, projected):
        previous = before = INSIDE
        for wanted, command in zip(plan, possible):
            previous = limits.apply(wanted, previous, PERIOD)
            np.testing.assert_allclose(previous, command)
        limits.clipped = 0
        for command in possible:
            before = limits.apply(command, before, PERIOD)
            np.testing.assert_allclose(before, command, rtol=1e-12)
        assert limits.clipped == 0


def test_a_plan_between_ticks_keeps_its_distance_from_all_commands_before():
    """A tick that overlaps two previous commands stays within a step of both."""
    before = np.array([[0.0, 0.0, 3.5], [0.1, 0.0, 3.5]])
    projected = Limits(STEPPED, PERIOD).project(np.array([[1.0, 0.0, 3.5]] * 2), before)
    np.testing.assert_allclose(projected[:, 0], [0.1, 0.2])


def test_what_was_clipped_is_counted_by_dimension():
    """A command counts once; each of its clipped dimensions counts separately."""
    limits = Limits(ACTION, PERIOD)
    limits.apply(np.array([5.0, 0.0, 9.0]), None, PERIOD)
    limits.apply(np.array([5.0, 0.0, 3.5]), None, PERIOD)
    assert limits.clipped == 2
    assert limits.clipped_by.tolist() == [2, 0, 1]


@pytest.mark.parametrize('key', ['low', 'high', 'max_step', 'max_rate'])
@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_limit_that_is_not_finite_is_an_error(key, bad):
    """It would silently disable clipping; it is refused even past the contract's check."""
    action = replace(ACTION)
    object.__setattr__(action, key, (1.0, bad, 1.0))
    with pytest.raises(ConfigError, match=f'action.{key} is '):
        Limits(action, PERIOD)


def test_no_random_command_gets_past_the_limits():
    """100 000 random commands, a tenth of them broken: all output is finite and within limits.

    The output of each is the previous command of the next, as in the controller, so the step
    limit is checked along the whole sequence.
    """
    rng = np.random.default_rng(0)
    commands = rng.normal(scale=3.0, size=(100_000, 3)) * 10.0 ** rng.integers(-3, 6, (100_000, 1))
    broken = rng.random(100_000) < 0.1
    commands[broken, rng.integers(0, 3, broken.sum())] = rng.choice(
        [np.nan, np.inf, -np.inf], broken.sum()
    )
    limits = Limits(STEPPED, PERIOD)
    low, high = STEPPED.bounds
    step = np.array(STEPPED.max_step)
    previous = INSIDE
    for command, is_broken in zip(commands, broken):
        sent = limits.apply(command, previous, PERIOD)
        assert (sent is None) == is_broken
        if sent is not None:
            assert np.isfinite(sent).all()
            assert (sent >= low).all() and (sent <= high).all()
            assert (np.abs(sent - previous) <= step + 1e-12).all()
            previous = sent
    assert limits.rejected == broken.sum()
    assert limits.clipped > 80_000


def test_the_camera_is_stale_until_its_first_frame():
    """Before the first observation the robot must not move."""
    camera = CameraWatchdog(timeout=0.5)
    assert camera.wrong(0.0) == 'no latent yet'
    assert camera.age(1e9) == float('inf')


def test_the_camera_is_stale_by_its_last_frame():
    """The camera is fresh up to the timeout, stale beyond it, and fresh again when fed."""
    camera = CameraWatchdog(timeout=0.5)
    camera.feed(100.0)
    assert camera.age(100.25) == pytest.approx(0.25)
    assert camera.wrong(100.5) is None
    assert camera.wrong(100.501) == 'no latent for 0.50 s'
    camera.feed(101.0)
    assert camera.wrong(101.2) is None


def readings(watchdog, *pairs):
    """Results of a clock watchdog for readings (clock [s], steady [s])."""
    return [watchdog.wrong(round(clock * SECOND), steady) for clock, steady in pairs]


def test_an_even_clock_is_right():
    """A slow clock, and one that is ahead by less than the timeout, are accepted too."""
    watchdog = ClockWatchdog(0.5, PERIOD)
    said = readings(watchdog, (1e9, 0), (1e9 + 0.1, 0.1), (1e9 + 0.11, 0.2), (1e9 + 0.6, 0.3))
    assert said + readings(watchdog, (1e9 + 1.1, 0.8)) == [None] * 5


def test_a_controller_that_stood_still_trusts_nothing_for_the_timeout():
    """After a stall, queued messages have an unknown age."""
    said = readings(ClockWatchdog(0.5, PERIOD), (100, 0), (102, 2), (102.4, 2.4), (102.6, 2.6))
    assert said == [None, *['no control tick for 2 s'] * 2, None]


def test_a_period_as_long_as_the_timeout_is_no_standstill():
    """A tick may be late by up to the timeout."""
    said = readings(ClockWatchdog(0.5, 1.0), (100, 0), (101, 1), (102.4, 2.4), (104, 4))
    assert said == [None, None, None, 'no control tick for 1.6 s']


def test_a_clock_set_back_is_wrong_for_the_timeout():
    """A jump back of any size trips the watchdog for the timeout: old plans may still arrive."""
    for back in (0.001, 60.0):
        watchdog = ClockWatchdog(0.5, PERIOD)
        first, *said, last = readings(
            watchdog, (100, 0), (100 - back, 0.1), (100.4 - back, 0.5), (100.6 - back, 0.7)
        )
        assert first is None and last is None
        assert said == [f'the clock went back by {back:g} s'] * 2


def test_a_clock_that_leaps_ahead_is_wrong():
    """The jump must exceed the elapsed steady time by more than the timeout."""
    said = readings(ClockWatchdog(0.5, PERIOD), (100, 0), (100.7, 0.05), (100.8, 0.5), (101, 0.6))
    assert said == [None, *['the clock went ahead by 0.7 s'] * 2, None]


def test_a_clock_that_stands_still_is_wrong_until_it_moves():
    """The watchdog trips after the timeout, as in a simulation that has not started."""
    said = readings(ClockWatchdog(0.5, PERIOD), (0, 0), (0, 0.5), (0, 0.6), (0, 1.0), (0.01, 1.1))
    assert said[:2] == [None, None]
    assert said[2:4] == [f'the clock has stood still for {s:.2f} s' for s in (0.6, 1)]
    assert said[4] is None


class Executor:
    """A robot that is sent a command and reports another one every eighth of a second."""

    def __init__(self, **changes):
        executed = Executed('applied', ACTION.type, ACTION.fields, changes.pop('tolerance', None))
        action = replace(ACTION, executed=executed, **changes)
        self.watchdog, self.now = ExecutionWatchdog(action, timeout=0.5), 0.0

    def run(self, ticks, sent, reported):
        """Return what the watchdog says at each tick; 4 of them are the timeout."""
        said = []
        for _ in range(ticks):
            self.now += 0.125
            if sent is not None:
                self.watchdog.sent(self.now, np.array(sent))
            if reported is not None:
                self.watchdog.reported(self.now, np.array(reported))
            said.append(self.watchdog.wrong(self.now))
        return said


SENT = [0.0, 0.0, 3.5]
OTHERWISE = 'the robot executes something other than what is sent'


def test_what_is_executed_as_sent_is_right():
    """Deviations within 5 % of the range are accepted, and any report before the first command."""
    robot = Executor()
    assert robot.run(8, None, [1.0, 0.0, 3.0]) == [None] * 8
    assert robot.run(8, SENT, [0.09, -0.03, 3.54]) == [None] * 8


def test_what_is_executed_otherwise_is_wrong_until_it_is_right_again():
    """The watchdog trips after the timeout, and clears as long after reports match again."""
    robot = Executor()
    robot.run(8, SENT, SENT)
    assert robot.run(8, SENT, [0.0, 0.0, 3.6]) == [None] * 4 + [OTHERWISE] * 4
    assert robot.run(8, SENT, SENT) == [OTHERWISE] * 4 + [None] * 4


def test_one_match_amid_others_does_not_end_a_doubt():
    """A joystick may briefly match the commands; that does not clear the watchdog."""
    robot = Executor()
    robot.run(8, SENT, [1.0, 0.0, 3.5])
    for _ in range(5):
        assert None not in robot.run(4, SENT, SENT) + robot.run(1, SENT, [1.0, 0.0, 3.5])


def test_a_report_may_be_of_any_recent_command():
    """A report may match any command no older than the timeout plus the robot's delay."""
    robot = Executor(delay=0.25)
    robot.run(1, [1.0, 0.0, 3.5], [1.0, 0.0, 3.5])
    said = robot.run(20, SENT, [1.0, 0.0, 3.5])
    assert said.index(OTHERWISE) == 10  # it matches for 0.75 s, then trips after 0.5 s


def test_a_robot_that_does_not_report_is_not_trusted():
    """Missing reports count from the first command on."""
    said = Executor().run(8, SENT, None)
    assert said == [None] * 5 + ['the robot does not report what it executes'] * 3


def test_the_tolerance_is_the_contract_s():
    """The tolerance is per dimension, in contract units."""
    robot = Executor(tolerance=(0.5, 0.01, 0.01))
    assert robot.run(8, SENT, [0.4, 0.0, 3.5]) == [None] * 8
    assert robot.run(8, SENT, [0.0, 0.02, 3.5])[-1] == OTHERWISE
