# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Held commands and windows, against brute force and grids computed by hand."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.robot.history import block_actions, held_average, held_values, window_indices
from lewm_ros.time import NS_PER_S

MS = 1_000_000
TICK = 50 * MS
BLOCK = 250 * MS
PARTS = 5


def ns(*milliseconds: float) -> np.ndarray:
    """Stamps [ns] from milliseconds."""
    return np.array([round(m * MS) for m in milliseconds], dtype=np.int64)


def slow_average(stamps, values, start, stop):
    """Average of the held signal over [start, stop), one overlap at a time."""
    if start < stamps[0]:
        return np.full(values.shape[1], np.nan)
    ends = [*stamps[1:], max(stop, stamps[-1])]
    total = np.zeros(values.shape[1])
    for begin, end, value in zip(stamps, ends, values):
        total += value * max(0, min(int(end), int(stop)) - max(int(begin), int(start)))
    return total / (stop - start)


# --- held_average ---------------------------------------------------------------------------


@pytest.mark.parametrize('seed', range(20))
def test_held_average_equals_brute_force(seed):
    """The average equals brute force for irregular commands and edges."""
    rng = np.random.default_rng(seed)
    # A present-day stamp: float seconds since 1970 would lose half a microsecond.
    origin = 1_790_000_000 * NS_PER_S
    stamps = origin + np.cumsum(rng.integers(1, 120 * MS, 40))
    values = rng.normal(size=(40, 3))
    edges = np.sort(
        rng.integers(stamps[0] - 300 * MS, stamps[-1] + 300 * MS, (7, PARTS + 1)), axis=1
    )
    expected = [
        [slow_average(stamps, values, a, b) for a, b in zip(row[:-1], row[1:])] for row in edges
    ]
    result = held_average(stamps, values, edges)
    assert result.shape == (7, PARTS, 3)
    np.testing.assert_allclose(result, expected, rtol=0, atol=1e-9)


def test_held_average_takes_the_command_that_starts_at_an_edge():
    """A command takes effect at its own stamp, to the nanosecond."""
    stamps, values = ns(0, 50, 100), np.array([[1.0], [2.0], [3.0]])
    np.testing.assert_allclose(held_average(stamps, values, ns(0, 50, 100)), [[1.0], [2.0]])
    edge = np.array([49 * MS, 50 * MS - 1, 50 * MS, 50 * MS + 1])
    np.testing.assert_allclose(held_average(stamps, values, edge), [[1.0], [1.0], [2.0]])


def test_last_command_holds_on():
    """The last command is held for ever."""
    result = held_average(ns(0, 50), np.array([[1.0], [2.0]]), ns(25, 75, 5000))
    np.testing.assert_allclose(result, [[1.5], [2.0]])


def test_time_before_the_first_command_is_unknown():
    """A part that begins before the first command, even by one nanosecond, is NaN."""
    stamps, values = ns(100, 150), np.array([[1.0], [2.0]])
    edges = np.array([100 * MS - 1, 120 * MS, 140 * MS])
    result = held_average(stamps, values, edges)
    assert np.isnan(result[0]).all()
    np.testing.assert_allclose(result[1], 1.0)


@pytest.mark.parametrize('seed', range(10))
def test_a_command_that_ends_is_unknown_from_then_on(seed):
    """With ``hold``, a command is NaN once it expires; other averages do not change.

    It is compared with brute force, and is exact to the nanosecond.
    """
    rng = np.random.default_rng(seed)
    stamps = 1_790_000_000 * NS_PER_S + np.cumsum(rng.integers(1, 120 * MS, 40))
    values = rng.normal(size=(40, 2))
    edges = np.sort(rng.integers(stamps[0], stamps[-1] + 300 * MS, (30, 2)), axis=1)
    hold = 80 * MS
    found = held_average(stamps, values, edges, hold / NS_PER_S)
    for (start, stop), row, endless in zip(edges, found, held_average(stamps, values, edges)):
        ends = [*stamps[1:].tolist(), int(stop)]
        gaps = [(a + hold, b) for a, b in zip(stamps.tolist(), ends) if b > a + hold]
        unknown = any(max(a, start) < min(b, stop) for a, b in gaps)
        np.testing.assert_array_equal(row, np.full((1, 2), np.nan) if unknown else endless)
    times = np.array([0, 79 * MS + 999_999, 80 * MS, 100 * MS]) + 7
    stamps, values = ns(0, 100) + 7, np.array([[1.0], [2.0]])
    held = held_values(stamps, values, times, 0.08)
    np.testing.assert_array_equal(held[:, 0], [1.0, 1.0, np.nan, 2.0])
    np.testing.assert_array_equal(held_average(stamps, values, times[[0, 2]], 0.08), [[1.0]])
    assert np.isnan(held_average(stamps, values, times[[0, 2]] + 1, 0.08)).all()
    assert np.isnan(held_values(stamps, values, ns(0), None)).all()  # before the first


def test_without_commands_everything_is_unknown():
    """Without commands the average is NaN of the right shape."""
    result = held_average(np.empty(0, dtype=np.int64), np.empty((0, 2)), np.zeros((4, 6)))
    assert result.shape == (4, 5, 2)
    assert np.isnan(result).all()


def test_long_episode_keeps_its_precision():
    """After an hour of 50 Hz commands the average is still exact to 1e-9."""
    stamps = np.arange(180_000, dtype=np.int64) * 20 * MS
    values = np.where(np.arange(180_000) % 2 == 0, 1.0, -1.0)[:, None]
    start = stamps[-4] + 5 * MS
    edges = np.array([start, start + 20 * MS])
    expected = slow_average(stamps[-6:], values[-6:], *edges)
    np.testing.assert_allclose(held_average(stamps, values, edges)[0], expected, atol=1e-9)


# --- block_actions --------------------------------------------------------------------------


def ticks(count: int, offset: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Commands on the tick grid, shifted by ``offset`` [ns]: (i, 100 + i) at tick i."""
    index = np.arange(count)
    return index * TICK + offset, np.stack([index, 100.0 + index], axis=1)


def test_block_holds_its_k_commands_in_order():
    """On the tick grid a block is exactly its k commands, in order, tick by tick.

    A block off by one tick would hold 4 or 10 where 5 to 9 belong.
    """
    stamps, values = ticks(20)
    blocks = block_actions(stamps, values, np.array([BLOCK, 2 * BLOCK, 3 * BLOCK]), PARTS)
    assert blocks.shape == (2, PARTS * 2)
    np.testing.assert_allclose(blocks[0], [5, 105, 6, 106, 7, 107, 8, 108, 9, 109])
    np.testing.assert_allclose(blocks[1], [10, 110, 11, 111, 12, 112, 13, 113, 14, 114])


@pytest.mark.parametrize(('offset', 'share'), [(1, 0.02), (10, 0.2), (25, 0.5), (49, 0.98)])
def test_commands_beside_the_grid_are_mixed_by_time(offset, share):
    """A command that starts within a tick counts for the rest of that tick only.

    Sampling at the start of the tick would take the previous command for the whole tick, even if
    the new one came a millisecond later.
    """
    stamps, values = ticks(20, offset * MS)
    block = block_actions(stamps, values, np.array([BLOCK, 2 * BLOCK]), PARTS)[0, ::2]
    np.testing.assert_allclose(block, np.arange(5, 10) - share)


def test_action_delay_shifts_what_a_block_holds():
    """A delay added to the stamps shifts commands later, not earlier."""
    stamps, values = ticks(20)
    frames = np.array([BLOCK, 2 * BLOCK])
    one_tick = block_actions(stamps + TICK, values, frames, PARTS)[0, ::2]
    np.testing.assert_allclose(one_tick, [4, 5, 6, 7, 8])
    part = block_actions(stamps + 20 * MS, values, frames, PARTS)[0, ::2]
    np.testing.assert_allclose(part, np.arange(5, 10) - 0.4)


def test_block_follows_the_frames_own_interval():
    """Frames 240 ms apart give five parts of 48 ms each, not five ticks of 50 ms."""
    stamps, values = ticks(20)
    block = block_actions(stamps, values, ns(250, 490), PARTS)[0, ::2]
    # Parts begin at 250, 298, 346, 394 and 442 ms; commands change every 50 ms.
    mixed = [5.0, (2 * 5 + 46 * 6) / 48, (4 * 6 + 44 * 7) / 48, (6 * 7 + 42 * 8) / 48]
    np.testing.assert_allclose(block, [*mixed, (8 * 8 + 40 * 9) / 48])


def test_many_windows_equal_each_window_alone():
    """A batch of windows (w, F) gives the same as each row alone."""
    rng = np.random.default_rng(3)
    stamps = np.cumsum(rng.integers(20 * MS, 80 * MS, 200))
    values = rng.normal(size=(200, 2))
    frames = stamps[5] + np.sort(rng.integers(0, 8 * NS_PER_S, (12, 4)), axis=1)
    together = block_actions(stamps, values, frames, PARTS)
    assert together.shape == (12, 3, PARTS * 2)
    for row, alone in zip(together, frames):
        np.testing.assert_array_equal(row, block_actions(stamps, values, alone, PARTS))


# --- window_indices -------------------------------------------------------------------------


def test_every_frame_starts_a_window():
    """At 20 Hz a block is five frames; every frame with three more blocks starts a window."""
    found = window_indices(np.arange(40) * TICK, BLOCK, 4, TICK)
    np.testing.assert_array_equal(found, np.arange(25)[:, None] + [0, 5, 10, 15])


def test_gap_breaks_exactly_the_windows_that_need_the_missing_frames():
    """Only windows that need the missing frames 20 and 21 are lost."""
    kept = np.delete(np.arange(40), [20, 21])
    found = kept[window_indices(kept * TICK, BLOCK, 4, TICK)]
    expected = [
        [i, i + 5, i + 10, i + 15] for i in range(25) if not {20, 21} & {i, i + 5, i + 10, i + 15}
    ]
    np.testing.assert_array_equal(found, expected)


def test_three_quarters_of_a_period_off_is_allowed_and_more_is_not():
    """A frame may be 37.5 ms off at 20 Hz, and not a nanosecond more."""
    base = ns(0, 250, 500)
    for index, sign in ((1, 1), (1, -1), (2, 1), (2, -1)):
        allowed, refused = base.copy(), base.copy()
        allowed[index] += sign * 75 * MS // 2
        refused[index] += sign * (75 * MS // 2 + 1)
        assert len(window_indices(allowed, BLOCK, 3, TICK)) == 1
        assert len(window_indices(refused, BLOCK, 3, TICK)) == 0


def test_nearest_frame_is_taken():
    """Of two frames near the wanted time the nearer one is in the window."""
    stamps = ns(0, 240, 255, 500)
    np.testing.assert_array_equal(window_indices(stamps, BLOCK, 3, TICK), [[0, 2, 3]])


def test_frames_with_equal_stamps_do_not_shift_the_window():
    """With duplicate stamps, the frames of every window are still one block apart."""
    stamps = np.sort(np.concatenate([np.arange(20) * TICK, ns(250, 500, 500)]))
    found = stamps[window_indices(stamps, BLOCK, 3, TICK)]
    assert len(found) == 11
    np.testing.assert_array_equal(np.diff(found, axis=1), BLOCK)


@pytest.mark.parametrize('stamps', [ns(), ns(0), ns(0, 50, 100)])
def test_too_few_frames_give_no_window(stamps):
    """No frames, one frame or a short run: an empty (0, length) array."""
    assert window_indices(stamps, BLOCK, 3, TICK).shape == (0, 3)


def test_window_of_one_frame_is_every_frame():
    """Every frame is a window of length 1."""
    np.testing.assert_array_equal(window_indices(ns(0, 70, 700), BLOCK, 1, TICK), [[0], [1], [2]])


@pytest.mark.parametrize('rate', [10, 15, 25, 30, 50])
def test_camera_whose_period_does_not_divide_the_block_has_windows(rate):
    """If the camera period does not divide the block, nearly every frame starts a window.

    Frames lie halfway between block ends, with 1 ms of jitter.
    """
    rng = np.random.default_rng(0)
    count = 60 * rate
    frames = np.arange(count) / rate + rng.normal(0, 0.001, count)
    found = window_indices(
        np.round(frames * NS_PER_S).astype(np.int64), BLOCK, 4, round(NS_PER_S / rate)
    )
    assert len(found) > 0.98 * (count - 0.75 * rate)
