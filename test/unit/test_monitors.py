# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Monitors of drift, a frozen camera and missing frames."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.surprise.monitors import (
    DRIFT_SPAN,
    FrameGap,
    FrozenCamera,
    RunningMean,
    commands_move,
    running_means,
)
from lewm_ros.time import NS_PER_S

PERIOD = NS_PER_S // 10
SPAN = round(DRIFT_SPAN * 10)  # frames
STILL, OTHER = np.zeros(4), np.array([0.0, 1e-9, 0.0, 0.0])


def frames(count: int, start: int = 1) -> np.ndarray:
    """Return stamps at 10 Hz."""
    return NS_PER_S * start + PERIOD * np.arange(count)


def test_running_mean_is_of_the_last_span() -> None:
    """There is no mean until one span has passed; then it covers exactly the frames of a span."""
    scores = np.arange(2.0 * SPAN)
    means = running_means(frames(2 * SPAN), scores)
    assert np.isnan(means[:SPAN]).all()
    expected = [scores[i - SPAN + 1 : i + 1].mean() for i in range(SPAN, 2 * SPAN)]
    assert means[SPAN:] == pytest.approx(expected)


@pytest.mark.parametrize('jump', [2 * NS_PER_S, -100 * NS_PER_S])
def test_running_mean_begins_anew_after_a_pause_or_a_jump(jump: int) -> None:
    """The mean contains no score from before the pause or the jump."""
    stamps = frames(2 * SPAN + 1)
    stamps[SPAN:] += jump
    means = running_means(stamps, np.arange(2.0 * SPAN + 1))
    assert np.isnan(means[:-1]).all()
    assert means[-1] == pytest.approx(np.arange(SPAN + 1, 2 * SPAN + 1).mean())


def test_one_infinite_score_leaves_the_mean_after_a_span() -> None:
    """An infinite score makes the mean infinite only while it is within the span."""
    scores = np.ones(3 * SPAN)
    scores[SPAN] = np.inf
    means = running_means(frames(3 * SPAN), scores)
    assert np.isinf(means[SPAN])
    assert means[-1] == 1.0


def test_slow_growth_moves_the_mean_and_no_single_score() -> None:
    """Scores 1.7 times as large push the running mean above its nominal maximum."""
    rng = np.random.default_rng(0)
    nominal = rng.exponential(size=20 * SPAN)
    limit = np.nanmax(running_means(frames(len(nominal)), nominal))
    mean = RunningMean()
    drifting = 1.7 * rng.exponential(size=5 * SPAN)
    found = [mean.update(int(s), x) for s, x in zip(frames(5 * SPAN), drifting)]
    assert max(m for m in found if m is not None) > limit


def freeze(moving: list[bool], latents: list[np.ndarray] | None = None) -> list[float]:
    """Feed a FrozenCamera with a limit of 0.5 s; latents are equal unless given."""
    camera = FrozenCamera(0.5)
    shown = latents or [STILL] * len(moving)
    return [camera.update(int(s), z, m) for s, z, m in zip(frames(len(moving)), shown, moving)]


def test_equal_frames_count_while_the_robot_should_move() -> None:
    """Each equal frame adds the time since the previous one."""
    assert freeze([True] * 8) == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7])


def test_a_robot_at_rest_is_no_frozen_camera() -> None:
    """Equal frames for 100 s with an occasional moving command stay below 0.2 s."""
    assert max(freeze([i % 20 == 0 for i in range(1000)])) < 0.2


def test_commands_that_change_from_block_to_block_add_up() -> None:
    """If commands should move the robot half of the time, the freeze is detected later."""
    found = freeze([True, True, False, False] * 4)
    assert found[4:6] == pytest.approx([0.15, 0.25])
    assert max(found[:12]) < 0.5 < found[13]


def test_the_smallest_change_ends_it() -> None:
    """A change of one latent by 1e-9 ends the freeze: latents are compared bit by bit."""
    assert freeze([True] * 5, [STILL, STILL, STILL, OTHER, OTHER])[3:] == [0.0, 0.1]


def test_a_pause_between_frames_is_no_frozen_time() -> None:
    """Frames without a score say nothing; equal latents 5 s apart do not count, nor a new start."""
    camera = FrozenCamera(0.5)
    seconds = NS_PER_S * np.array([0, 5, 6, 7])
    assert [camera.update(int(s), STILL, True) for s in seconds] == [0.0, 0.0, 1.0, 2.0]
    camera.reset()
    assert camera.update(int(seconds[-1]) + NS_PER_S // 10, STILL, True) == 0.0


def test_a_robot_that_was_stopped_for_it_does_not_end_it() -> None:
    """Once above the limit, the value holds until the image changes, robot moving or not."""
    latents = [STILL] * 20 + [OTHER]
    found = freeze([True] * 8 + [False] * 13, latents)
    assert min(found[7:20]) == pytest.approx(0.7)
    assert found[20] == 0.0


@pytest.mark.parametrize(
    ('commands', 'kind', 'moves'),
    [
        ([[0.0, 0.0]] * 5, 'effort', False),
        ([[0.9, 0.0]] * 5, 'effort', False),  # may hold a load
        ([[0.9, 0.0]] * 5, 'position', False),
        ([[0.9, 0.0]] * 5, 'velocity', True),
        ([[0.0, 0.01]] * 5, 'velocity', False),
        ([[0.0, 0.0]] * 4 + [[0.0, 0.3]], 'effort', True),
        ([[0.5, 0.0]] * 4 + [[0.6, 0.0]], 'position', True),
        ([[0.5, 0.0]] * 4 + [[0.5, 0.1]], 'position', False),  # the std of this joint is 1
    ],
)
def test_which_commands_move(commands: list[list[float]], kind: str, moves: bool) -> None:
    """A change is compared with the standard deviation; for velocities, so is the magnitude."""
    assert commands_move(np.array(commands), np.array([0.4, 1.0]), kind) is moves


def test_gaps_by_arrival_and_by_stamp() -> None:
    """The gap is the longer of the arrival gap and the stamp gap; a reset clears both."""
    gap = FrameGap()
    assert gap.silence(100.0) == 0.0
    assert gap.frame(NS_PER_S, 5.0) == 0.0
    assert gap.silence(5.3) == pytest.approx(0.3)
    assert gap.frame(NS_PER_S + PERIOD, 5.7) == pytest.approx(0.7)  # came late
    assert gap.frame(NS_PER_S + 9 * PERIOD, 5.8) == pytest.approx(0.8)  # frames are missing
    gap.reset()
    assert gap.silence(50.0) == gap.frame(90 * NS_PER_S, 60.0) == 0.0
