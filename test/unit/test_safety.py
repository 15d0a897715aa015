# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Limits that nothing non-finite passes, and the watchdog."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lewm_ros.contract import Action
from lewm_ros.safety import Limits, Watchdog

ACTION = Action(
    topic='action',
    type='std_msgs/msg/Float64MultiArray',
    fields=('data[0]', 'data[1]', 'data[2]'),
    names=('a', 'b', 'c'),
    units=('rad', 'rad', 'rad'),
    low=(-1.0, -0.2, 3.0),
    high=(1.0, 0.5, 4.0),
)
STEPPED = replace(ACTION, max_step=(0.1, 0.05, 0.5))
INSIDE = np.array([0.0, 0.0, 3.5])


def test_command_within_limits_passes_unchanged():
    """What is allowed is neither changed nor counted."""
    limits = Limits(ACTION)
    command = np.array([-1.0, 0.5, 3.25])
    np.testing.assert_array_equal(limits.apply(command, INSIDE), command)
    assert (limits.clipped, limits.rejected) == (0, 0)


def test_command_beyond_limits_is_clipped_and_counted():
    """Each dimension is clipped to its own bounds."""
    limits = Limits(ACTION)
    np.testing.assert_array_equal(limits.apply(np.array([5.0, -5.0, 0.0]), None), [1.0, -0.2, 3.0])
    assert (limits.clipped, limits.rejected) == (1, 0)


def test_clipping_leaves_the_caller_s_array_alone():
    """The command handed in is not written to."""
    command = np.array([5.0, -5.0, 0.0])
    Limits(STEPPED).apply(command, INSIDE)
    np.testing.assert_array_equal(command, [5.0, -5.0, 0.0])


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('dimension', [0, 1, 2])
@pytest.mark.parametrize('action', [ACTION, STEPPED])
def test_non_finite_command_is_rejected(bad, dimension, action):
    """One NaN or infinity anywhere rejects the whole command; infinity is not clipped."""
    limits = Limits(action)
    command = INSIDE.copy()
    command[dimension] = bad
    assert limits.apply(command, INSIDE) is None
    assert limits.apply(command, None) is None
    assert (limits.clipped, limits.rejected) == (0, 2)


@pytest.mark.parametrize(
    'command', [np.zeros(2), np.zeros(4), np.zeros((1, 3)), np.zeros(0), np.float64(0.0)]
)
def test_command_of_another_size_is_rejected(command):
    """Nothing is broadcast: a wrong shape is rejected and counted."""
    limits = Limits(ACTION)
    assert limits.apply(command, None) is None
    assert limits.rejected == 1


def test_step_is_limited_from_the_last_command():
    """max_step bounds the change per tick, each dimension for itself, both ways."""
    limits = Limits(STEPPED)
    up = limits.apply(np.array([1.0, 0.5, 4.0]), INSIDE)
    np.testing.assert_allclose(up, [0.1, 0.05, 4.0])
    down = limits.apply(np.array([-1.0, -0.2, 3.0]), INSIDE)
    np.testing.assert_allclose(down, [-0.1, -0.05, 3.0])
    assert limits.clipped == 2


def test_first_command_has_no_step_to_limit():
    """Without a previous command only the value limits count."""
    np.testing.assert_array_equal(
        Limits(STEPPED).apply(np.array([1.0, 0.5, 3.0]), None), [1.0, 0.5, 3.0]
    )


def test_value_limits_win_over_the_step_limit():
    """From outside the bounds the way back is at once, not step by step."""
    limited = Limits(STEPPED).apply(INSIDE, np.array([9.0, -9.0, 0.0]))
    np.testing.assert_array_equal(limited, [1.0, -0.2, 3.0])


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
    limits = Limits(STEPPED)
    low, high = STEPPED.bounds
    step = np.array(STEPPED.max_step)
    previous = INSIDE
    for command, is_broken in zip(commands, broken):
        sent = limits.apply(command, previous)
        assert (sent is None) == is_broken
        if sent is not None:
            assert np.isfinite(sent).all()
            assert (sent >= low).all() and (sent <= high).all()
            assert (np.abs(sent - previous) <= step + 1e-12).all()
            previous = sent
    assert limits.rejected == broken.sum()
    assert limits.clipped > 80_000


def test_watchdog_is_stale_until_fed():
    """Before the first observation the robot must not move."""
    watchdog = Watchdog(timeout=0.5)
    assert watchdog.stale(0.0)
    assert watchdog.age(1e9) == float('inf')


def test_watchdog_follows_the_last_observation():
    """Fresh up to the timeout, stale beyond it, fresh again when fed."""
    watchdog = Watchdog(timeout=0.5)
    watchdog.feed(100.0)
    assert watchdog.age(100.25) == pytest.approx(0.25)
    assert not watchdog.stale(100.5)
    assert watchdog.stale(100.501)
    watchdog.feed(101.0)
    assert not watchdog.stale(101.2)
