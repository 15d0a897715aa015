# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The history of a running robot: its contexts equal training windows."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.robot.history import History, block_actions, window_indices

MS = 1_000_000
TICK = 50 * MS
BLOCK = 250 * MS
PARTS = 5


def ticks(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Commands on the tick grid: (i, 100 + i) at tick i."""
    index = np.arange(count)
    return index * TICK, np.stack([index, 100.0 + index], axis=1)


def history(length: int = 3, ahead: float = 0.0, hold: float | None = None) -> History:
    """A history of a 20 Hz camera and two action dimensions."""
    return History(length, PARTS, 0.25, 0.05, action_size=2, ahead=ahead, hold=hold)


def filled(count: int = 40) -> History:
    """A history that has seen ``count`` frames and commands; latent i is (i, −i)."""
    kept = history(ahead=10.0)
    for stamp, action in zip(*ticks(count)):
        kept.append_action(int(stamp), action)
    for i in range(count):
        kept.append_latent(i * TICK, np.array([i, -i], dtype=np.float32))
    return kept


def test_context_holds_latents_and_the_blocks_between_them():
    """The context of frame 20 is frames 10, 15 and 20 and the commands 10 to 19."""
    context = filled().context(20 * TICK)
    assert context.stamp == 20 * TICK
    np.testing.assert_array_equal(context.latents[:, 0], [10, 15, 20])
    assert context.latents.dtype == np.float32
    np.testing.assert_allclose(context.past[:, ::2].ravel(), np.arange(10, 20))


@pytest.mark.parametrize('hold', [None, 0.08])
@pytest.mark.parametrize('seed', range(5))
def test_contexts_at_run_time_are_the_windows_of_training(seed, hold):
    """Contexts at run time equal training windows: jittered, with lost frames, off the grid.

    Frames and commands are fed in the order of their stamps; the context at each frame must
    be the training window that ends there, with equal latents and equal actions.
    """
    rng = np.random.default_rng(seed)
    frames = np.arange(200) * TICK + rng.integers(-5 * MS, 5 * MS, 200)
    frames = np.delete(frames, rng.choice(np.arange(20, 200), 8, replace=False))
    commands = np.arange(-20, 220) * TICK + rng.integers(-20 * MS, 20 * MS, 240)
    values = rng.normal(size=(240, 2))
    windows = window_indices(frames, BLOCK, 3, TICK)
    blocks = block_actions(commands, values, frames[windows], PARTS, hold)
    known = np.isfinite(blocks).all(axis=(1, 2))
    assert known.all() == (hold is None)  # some are further apart than the hold
    expected = {int(w[-1]): (w, b) for w, b in zip(windows[known], blocks[known])}

    kept = history(hold=hold)
    found = {}
    fed = 0
    for i, stamp in enumerate(frames):
        while commands[fed] <= stamp:
            kept.append_action(int(commands[fed]), values[fed])
            fed += 1
        kept.append_latent(int(stamp), np.array([i], dtype=np.float32))
        context = kept.context(int(stamp))
        if context is not None:
            found[i] = context
    assert len(found) > (130 if hold is None else 20)
    assert found.keys() == expected.keys()
    for i, context in found.items():
        window, block = expected[i]
        np.testing.assert_array_equal(context.latents[:, 0], window)
        np.testing.assert_allclose(context.past, block, atol=1e-9)


def test_nothing_is_known_before_h_frames_one_block_apart():
    """A context exists from the first frame that has H − 1 blocks of frames before it."""
    kept = history()
    kept.append_action(-TICK, np.zeros(2))
    known = []
    for i in range(14):
        kept.append_latent(i * TICK, np.zeros(1, dtype=np.float32))
        known.append(kept.context(i * TICK) is not None)
    assert known == [False] * 10 + [True] * 4


def test_empty_history_has_no_context():
    """An empty history has no context, no newest frame and no actions."""
    kept = history()
    assert kept.context(0) is None
    assert kept.newest is None
    stamps, values = kept.actions()
    assert stamps.shape == (0,) and values.shape == (0, 2)
    kept.append_latent(0, np.zeros(1))
    assert np.isnan(kept.executed(np.array([0, BLOCK]))).all()


def test_missing_frame_gives_no_context():
    """A context that needs a missing frame does not exist; others do."""
    kept = history()
    kept.append_action(-TICK, np.zeros(2))
    for i in range(21):
        if i != 15:
            kept.append_latent(i * TICK, np.full(1, i, dtype=np.float32))
    assert kept.context(20 * TICK) is None
    assert kept.context(19 * TICK) is not None


def test_unknown_action_gives_no_context():
    """A context whose first block begins before the first command does not exist."""
    kept = history()
    for i in range(21):
        kept.append_latent(i * TICK, np.zeros(1, dtype=np.float32))
    assert kept.context(20 * TICK) is None
    kept.append_action(10 * TICK + 1, np.zeros(2))
    assert kept.context(20 * TICK) is None
    later = history()
    for i in range(21):
        later.append_latent(i * TICK, np.zeros(1, dtype=np.float32))
    later.append_action(10 * TICK, np.zeros(2))
    assert later.context(20 * TICK) is not None


def test_context_far_from_any_frame_does_not_exist():
    """A context exists only within three quarters of a camera period of a frame."""
    kept = filled(21)
    assert kept.context(20 * TICK + 75 * MS // 2).stamp == 20 * TICK
    assert kept.context(20 * TICK + 75 * MS // 2 + 1) is None


def test_older_or_equal_stamps_are_refused():
    """A frame or command that is not newer than the last is refused and changes nothing."""
    kept = filled(21)
    before = kept.context(20 * TICK)
    assert not kept.append_latent(20 * TICK, np.array([99, 99], dtype=np.float32))
    assert not kept.append_latent(3 * TICK, np.array([99, 99], dtype=np.float32))
    assert not kept.append_action(20 * TICK, np.full(2, 99.0))
    after = kept.context(20 * TICK)
    np.testing.assert_array_equal(before.latents, after.latents)
    np.testing.assert_array_equal(before.past, after.past)


def test_old_entries_are_dropped_but_the_held_command_stays():
    """Old entries are dropped, but a command sent once long ago is still held."""
    kept = history()
    kept.append_action(0, np.array([0.5, -0.5]))
    for i in range(2000):
        kept.append_latent(i * TICK, np.zeros(1, dtype=np.float32))
    np.testing.assert_allclose(kept.context(1999 * TICK).past[:, ::2], 0.5)
    for i in range(1, 2000):
        kept.append_action(i * TICK, np.zeros(2))
    assert len(kept.actions()[0]) < 30


def test_command_held_for_long_counts_until_the_next_one():
    """A command held for a long time still fills the block before a new command."""
    kept = history(length=2)
    kept.append_action(0, np.array([0.5, -0.5]))
    for i in range(1980, 2001):
        kept.append_latent(i * TICK, np.zeros(1, dtype=np.float32))
    kept.append_action(1998 * TICK, np.array([1.0, -1.0]))
    past = kept.context(2000 * TICK).past[0]
    np.testing.assert_allclose(past[::2], [0.5, 0.5, 0.5, 1.0, 1.0])


def test_contexts_reach_back_as_far_as_promised():
    """With ``ahead`` of two blocks, the context of two blocks ago is still complete."""
    kept = history(ahead=0.5)
    for i, action in enumerate(ticks(200)[1]):
        kept.append_action(i * TICK, action)
        kept.append_latent(i * TICK, np.array([i], dtype=np.float32))
    context = kept.context(189 * TICK)
    np.testing.assert_array_equal(context.latents[:, 0], [179, 184, 189])
    np.testing.assert_allclose(context.past[:, ::2].ravel(), np.arange(179, 189))


def test_cleared_history_starts_anew():
    """After clear(), older stamps are accepted again (a new episode, a clock jump)."""
    kept = filled(21)
    kept.clear()
    assert kept.newest is None and kept.context(20 * TICK) is None
    assert kept.append_latent(0, np.zeros(2, dtype=np.float32))
    assert kept.append_action(0, np.zeros(2))


def test_transition_is_the_context_one_block_back_and_what_was_done_since():
    """Frame 20 is predicted from frames 5, 10 and 15 and the commands 15 to 19."""
    context, executed = filled().transition(20 * TICK)
    assert context.stamp == 15 * TICK
    np.testing.assert_array_equal(context.latents[:, 0], [5, 10, 15])
    assert executed.shape == (1, 10)
    np.testing.assert_allclose(executed[0, ::2], np.arange(15, 20))
    np.testing.assert_allclose(executed[0, 1::2], 100 + np.arange(15, 20))


def test_transition_follows_the_frames_own_stamps():
    """With jitter, the executed block spans from the context's frame to the observed one."""
    kept = history(ahead=1.0)
    for stamp, action in zip(*ticks(21)):
        kept.append_action(int(stamp), action)
    for i in range(20):
        kept.append_latent(i * TICK, np.zeros(1, dtype=np.float32))
    context, executed = kept.transition(20 * TICK + 20 * MS)
    assert context.stamp == 15 * TICK
    expected = kept.executed(np.array([15 * TICK, 20 * TICK + 20 * MS]))
    np.testing.assert_array_equal(executed, expected)
    assert executed[0, 0] == pytest.approx((50 * 15 + 4 * 16) / 54)


def test_transition_over_three_blocks():
    """Frame 30 from frames 5, 10 and 15 and the commands 15 to 29, block by block."""
    kept = history(ahead=1.0)
    for stamp, action in zip(*ticks(31)):
        kept.append_action(int(stamp), action)
    for i in range(31):
        if i not in (20, 25):  # frames between context and prediction are not needed
            kept.append_latent(i * TICK, np.full(1, i, dtype=np.float32))
    context, executed = kept.transition(30 * TICK, 3)
    np.testing.assert_array_equal(context.latents[:, 0], [5, 10, 15])
    np.testing.assert_allclose(executed[:, ::2], np.arange(15, 30).reshape(3, 5))
    assert kept.transition(30 * TICK, 5) is None  # it would need a frame before the first


def test_incomplete_transition_does_not_exist():
    """Without a context one block back there is no transition."""
    kept = history()
    kept.append_action(-TICK, np.zeros(2))
    known = []
    for i in range(18):
        kept.append_latent(i * TICK, np.zeros(1, dtype=np.float32))
        known.append(kept.transition(i * TICK) is not None)
    assert known == [False] * 15 + [True] * 3
