# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Playback of overlapping plans on one timeline: which plan is active, and gaps."""

import numpy as np

from lewm_ros.control.playback import Playback

TICK = 50_000_000


def line(*plans):
    playback = Playback(1)
    for start, values in plans:
        playback.add(start * TICK, TICK, np.array(values, dtype=float)[:, None])
    return playback


def played(playback, *ticks):
    commands = [playback.command(round(t * TICK), TICK) for t in ticks]
    return [None if c is None else round(float(c[0]), 9) for c in commands]


def test_a_plan_is_played_by_time_and_ends():
    """Each tick gets its own command; before and after the plan there is none."""
    assert played(line((10, [1, 2, 3])), 9, 10, 11, 12, 13) == [None, 1, 2, 3, None]


def test_off_the_grid_the_command_is_the_average_so_nothing_is_delayed():
    """A tick off by a quarter averages two commands; past the end only planned time counts."""
    assert played(line((10, [1, 2, 3])), 10.25, 12.5) == [1.25, 3]


def test_a_plan_that_begins_within_a_tick_is_mixed_with_what_was_before():
    """A tick that overlaps the plan's start averages the previous command with the plan's."""
    playback, before = line((10, [1, 2, 3])), np.array([0.0])
    mixed = [playback.command(round(t * TICK), TICK, before) for t in (9.25, 10.25)]
    np.testing.assert_allclose(np.ravel(mixed), [0.25, 1.25])
    assert playback.command(8 * TICK, TICK, before) is None
    assert playback.command(9 * TICK, TICK, before) is None


def test_a_newer_plan_takes_over_at_its_start_and_not_before():
    """Where plans overlap, the newer one is played from its start on."""
    playback = line((10, [1, 1, 1, 1]), (12, [5, 5, 5]))
    assert played(playback, 11, 12, 14, 15) == [1, 5, 5, None]


def test_nothing_is_played_between_two_plans():
    """In a gap there is no command; the last one is not repeated."""
    assert played(line((10, [1]), (12, [5])), 10, 11, 12) == [1, None, 5]


def test_forgetting_keeps_the_tick_that_is_playing():
    """Only ticks that have ended are dropped."""
    playback = line((10, [1, 2, 3]))
    playback.forget(11 * TICK + 1)
    assert played(playback, 10, 11, 12) == [None, 2, 3]


def test_the_expected_block_joins_executed_commands_and_the_plan():
    """Command 7 holds from tick 10.0 to 10.5, command 8 to 11.0; then the plan's 2 follows."""
    playback = line((10, [1, 2, 3]))
    executed = np.array([9, 10]) * TICK + TICK // 2
    edges = np.array([10, 11, 12]) * TICK
    block = playback.expected(executed, np.array([[7.0], [8.0]]), int(executed[-1]), edges)
    assert np.allclose(block[:, 0], [7.5, 2.0])


def test_a_tick_that_begins_now_is_expected_of_the_plan():
    """The previous command counts as executed until now, not for a tick longer."""
    playback = line((10, [1, 2, 3]))
    executed, edges = np.array([9 * TICK + TICK // 4]), np.array([10, 11, 12]) * TICK
    block = playback.expected(executed, np.array([[7.0]]), 10 * TICK, edges)
    assert np.allclose(block[:, 0], [1.0, 2.0])


def test_after_the_plan_a_stop_is_expected():
    """Zero is expected where the robot stops with zero, the last command where it holds."""
    edges = np.array([12, 13, 14]) * TICK
    nothing = np.empty(0, dtype=np.int64), np.empty((0, 1))
    for hold, last in ((False, 0.0), (True, 3.0)):
        playback = Playback(1, hold)
        playback.add(10 * TICK, TICK, np.array([[1.0], [2.0], [3.0]]))
        assert np.allclose(playback.expected(*nothing, 0, edges)[:, 0], [3.0, last])


def test_what_was_executed_before_the_first_known_command_is_unknown():
    """No guess is made about the time before the first command."""
    playback = line((10, [1, 2, 3]))
    edges = np.array([5, 6]) * TICK
    assert playback.expected(np.empty(0, dtype=np.int64), np.empty((0, 1)), 0, edges) is None
