# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Frames and commands are time-aligned, shown with images that integrate the commands.

The image of these recordings is the integral of the held command, to 16 bits. So for every training
window, the commands given to the model, averaged over a block, must equal the change seen between
its frames. The same check must fail for each kind of misalignment.
"""

from __future__ import annotations

from dataclasses import replace
import sqlite3

import numpy as np
import pytest
from recordings import (
    FRAME,
    MCAP,
    SQLITE3,
    Recorded,
    command,
    episode,
    frame,
    header,
    joints,
    make,
    noise,
    write,
)

from lewm_ros.bags import episodes as bags
from lewm_ros.bags.episodes import ReadReport, read_episodes
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import Rates
from lewm_ros.robot.history import block_edges, held_average
from lewm_ros.time import NS_PER_S
from lewm_ros.training import windows
from lewm_ros.training.windows import load_windows

MS = 1_000_000
PARTS = 5
#: One step of the image, and the rounding error of two frames, half a step each.
STEP = 12.0 / 65535
ROUNDING = 1.01 * STEP


def twist(stamp: int, logged: int, value: float) -> Recorded:
    """A stamped command, logged at another time."""
    vector = make('geometry_msgs/msg/Vector3')
    inner = make('geometry_msgs/msg/Twist')(
        linear=vector(x=value, y=0.0, z=0.0), angular=vector(x=0.0, y=0.0, z=-value)
    )
    kind = 'geometry_msgs/msg/TwistStamped'
    message = make(kind)(header=header(stamp), twist=inner)
    return Recorded('/lewm/action', kind, logged, message)


def image(position: float) -> np.ndarray:
    """A position in [-6, 6] as an image (8, 8, 3): high byte red, low byte green."""
    level = round((position + 6) / STEP)
    assert 0 <= level < 65536
    return np.broadcast_to(np.array([level >> 8, level & 255, 0], dtype=np.uint8), (8, 8, 3)).copy()


def positions(images: np.ndarray) -> np.ndarray:
    """Positions that images (..., 8, 8, 3) show."""
    pixel = images[..., 4, 4, :].astype(int)
    return (pixel[..., 0] * 256 + pixel[..., 1]) * STEP - 6


def integrating(
    seed: int, delay: int = 0, stamped: bool = False, jitter: int = 0, latency: int = 0
) -> list[Recorded]:
    """A recording of 12 s: commands at 20 Hz, off the frames' grid, and frames that integrate them.

    Commands take effect ``delay`` [ns] after they are logged. Stamped commands take effect at their
    stamps and are logged late. Frames are captured at their stamps and logged ``latency`` [ns]
    later.
    """
    rng = np.random.default_rng(seed)
    ticks = NS_PER_S + FRAME * np.arange(240) + 13 * MS
    values = rng.uniform(-1, 1, len(ticks))
    effect = ticks + delay
    whole = np.concatenate([[0], np.cumsum(values[:-1] * np.diff(effect) / NS_PER_S)])
    messages = []
    for stamp, value in zip(ticks.tolist(), values):
        late = twist(stamp + delay, stamp + 3 * MS, value)
        messages.append(late if stamped else command(stamp, value, -value))
    for stamp in (NS_PER_S + FRAME * np.arange(4, 236)).tolist():
        stamp += round(rng.uniform(-jitter, jitter)) if jitter else 0
        index = np.searchsorted(effect, stamp, side='right') - 1
        position = whole[index] + values[index] * (stamp - effect[index]) / NS_PER_S
        messages.append(frame(stamp, image(position), logged=stamp + latency))
    return sorted(messages, key=lambda m: m.logged)


def robot(contract, delay=0.0, stamped=False):
    """The contract of the robot in these recordings."""
    action = replace(contract.action, delay=delay)
    if stamped:
        kind, fields = 'geometry_msgs/msg/TwistStamped', ('twist.linear.x', 'twist.angular.z')
        action = replace(action, type=kind, fields=fields)
    return replace(contract, action=action)


def worst(folder, contract) -> float:
    """Largest difference between the motion that windows command and the motion that is seen.

    Windows are read as training reads them. The check covers the whole blocks of all windows, and
    also the parts of blocks if frames lie on the part boundaries.
    """
    found = windows.load_windows([folder / 'bag'], contract, 8, 2, PARTS, folder / 'cache')
    assert len(found.frames) > 200
    blocks = found.blocks.reshape(*found.blocks.shape[:2], PARTS, 2).astype(float)
    np.testing.assert_allclose(blocks[..., 1], -blocks[..., 0])
    stamps = np.concatenate([e.stamps for e in read_episodes([folder / 'bag'], contract, 8)])
    seconds = np.diff(stamps[found.frames], axis=1) / NS_PER_S
    seen = np.diff(positions(found.images[found.frames]), axis=1)
    errors = [np.abs(blocks[..., 0].mean(axis=2) * seconds - seen).max()]
    if (np.diff(stamps) == FRAME).all():
        inner = found.frames[:, :-1, None] + np.arange(PARTS + 1)
        parts = np.diff(positions(found.images[inner]), axis=2)
        errors.append(np.abs(blocks[..., 0] * (seconds / PARTS)[..., None] - parts).max())
    return max(errors)


@pytest.mark.parametrize('storage', [MCAP, SQLITE3])
@pytest.mark.parametrize('jitter', [0, 4 * MS])
@pytest.mark.parametrize(
    ('delay', 'stamped'), [(0, False), (30 * MS, False), (0, True), (30 * MS, True)]
)
def test_windows_hold_what_was_done_between_their_frames(
    tmp_path, reacher_contract, storage, jitter, delay, stamped
):
    """Window commands match the image motion, stamped or not, with and without delay.

    Frames are logged 40 ms late.
    """
    write(tmp_path / 'bag', integrating(1, delay, stamped, jitter, latency=40 * MS), storage)
    contract = robot(reacher_contract, 0.0 if stamped else delay / NS_PER_S, stamped)
    assert worst(tmp_path, contract) < ROUNDING


def test_frames_late_doubled_and_unstamped_change_nothing(tmp_path, reacher_contract):
    """Late, duplicate and unstamped frames leave the alignment unchanged.

    Every fifth frame is logged three periods late, every seventh twice, and some have no stamp.
    """
    messages = integrating(2)
    for index, item in enumerate([m for m in messages if m.type.endswith('Image')]):
        if index % 5 == 0:
            messages.remove(item)
            messages.append(replace(item, logged=item.logged + 3 * FRAME + MS))
        elif index % 7 == 0:
            messages.append(replace(item, logged=item.logged + 2 * FRAME))
        elif index % 11 == 0:
            item.message.header.stamp.sec = item.message.header.stamp.nanosec = 0
    write(tmp_path / 'bag', sorted(messages, key=lambda m: m.logged))
    assert worst(tmp_path, reacher_contract) < ROUNDING
    report = ReadReport()
    (found,) = read_episodes([tmp_path / 'bag'], reacher_contract, 8, report)
    assert len(found.stamps) == 232
    assert report.late == 47
    assert report.refused.total() == 27


def tick_start_hold(stamps, values, frames, parts, hold=None):
    """Wrong: takes the command held at the start of each part."""
    edges = block_edges(frames[..., :-1], frames[..., 1:], parts)
    index = np.clip(np.searchsorted(stamps, edges[..., :-1], side='right') - 1, 0, None)
    return values[index].reshape(*edges.shape[:-1], -1)


def one_command_off(stamps, values, frames, parts, hold=None):
    """Wrong: each command takes effect at the stamp of the next one."""
    edges = block_edges(frames[..., :-1], frames[..., 1:], parts)
    return held_average(stamps[1:], values[:-1], edges).reshape(*edges.shape[:-1], -1)


def one_tick_off(stamps, values, frames, parts, hold=None):
    """Wrong: the blocks begin and end one tick after the frames."""
    edges = block_edges(frames[..., :-1], frames[..., 1:], parts) + FRAME
    return held_average(stamps, values, edges).reshape(*edges.shape[:-1], -1)


def one_block_off(stamps, values, frames, parts, hold=None):
    """Wrong: a frame gets the block before it instead of the block after it."""
    edges = block_edges(frames[..., :-1], frames[..., 1:], parts)
    edges = edges - (frames[..., 1:] - frames[..., :-1])[..., None]
    return held_average(stamps, values, edges).reshape(*edges.shape[:-1], -1)


def parts_reversed(stamps, values, frames, parts, hold=None):
    """Wrong: the parts of a block are in reverse order."""
    edges = block_edges(frames[..., :-1], frames[..., 1:], parts)
    averages = held_average(stamps, values, edges)[..., ::-1, :]
    return averages.reshape(*edges.shape[:-1], -1)


WRONG = [tick_start_hold, one_command_off, one_tick_off, one_block_off, parts_reversed]


@pytest.mark.parametrize('wrong', WRONG, ids=lambda f: f.__name__)
def test_a_wrong_alignment_would_be_noticed(tmp_path, reacher_contract, monkeypatch, wrong):
    """The check above fails by a wide margin for each wrong way to cut commands into blocks."""
    write(tmp_path / 'bag', integrating(3))
    monkeypatch.setattr(bags, 'block_actions', wrong)
    assert worst(tmp_path, reacher_contract) > 30 * ROUNDING


@pytest.mark.parametrize('error', [-10, 5, 20, 50])
def test_a_delay_that_is_off_would_be_noticed(tmp_path, reacher_contract, error):
    """The check fails if the contract's delay is off by 5 ms or more (true delay: 30 ms)."""
    write(tmp_path / 'bag', integrating(4, delay=30 * MS))
    assert worst(tmp_path, robot(reacher_contract, 0.030)) < ROUNDING
    assert worst(tmp_path, robot(reacher_contract, 0.030 + error / 1000)) > 10 * ROUNDING


@pytest.mark.parametrize('stamped', [False, True])
def test_log_times_instead_of_stamps_would_be_noticed(
    tmp_path, reacher_contract, monkeypatch, stamped
):
    """The check fails if log times replace stamps, for late frames and late stamped commands."""
    write(tmp_path / 'bag', integrating(5, 0, stamped, latency=20 * MS))
    monkeypatch.setattr(
        bags.Stamps, 'read', lambda stamps, message, logged, topic, source, delay=0: logged + delay
    )
    assert worst(tmp_path, robot(reacher_contract, stamped=stamped)) > 10 * ROUNDING


# --- Cutting into episodes ------------------------------------------------------------------


def filmed(stamps: list[int], logged: list[int] | None = None) -> list[Recorded]:
    """Frames of noise in the order of the list, each with a command a millisecond earlier."""
    messages = []
    for index, stamp in enumerate(stamps):
        at = stamp if logged is None else logged[index]
        messages.append(command(at - MS, index, 0))
        messages.append(frame(stamp, noise(index), logged=at))
    return messages


def grid(count: int, start: float = 1.0) -> list[int]:
    """Stamps [ns] of ``count`` frames at 20 Hz, starting at ``start`` [s]."""
    return (round(start * NS_PER_S) + FRAME * np.arange(count)).tolist()


def lengths(folder, messages, contract) -> tuple[list[int], ReadReport]:
    """Number of frames in each episode of a recording, and the read report."""
    report = ReadReport()
    bag = write(folder / 'bag', messages)
    found = list(read_episodes([bag], contract, 16, report))
    assert all((np.diff(e.stamps) > 0).all() for e in found)
    assert all((np.diff(e.action_stamps) > 0).all() for e in found)
    return [len(e.stamps) for e in found], report


@pytest.mark.parametrize(('pause', 'expected'), [(0.95, [12]), (1.05, [5, 7])])
def test_a_pause_of_more_than_a_second_cuts(tmp_path, reacher_contract, pause, expected):
    """A gap of more than a second starts a new episode; a shorter one does not."""
    stamps = [*grid(5), *grid(7, 1.2 + pause)]
    assert lengths(tmp_path, filmed(stamps), reacher_contract)[0] == expected


def test_a_command_is_held_over_a_pause_of_the_camera(tmp_path, reacher_contract):
    """The last command is still held in the episode after it, if anything was recorded since.

    Otherwise the recorder may have paused, and the robot may have got others.
    """
    stamps = [*grid(5), *grid(7, 5.0)]
    messages = [command(NS_PER_S - 1, 0.7, 0), *(frame(s, noise(s % 99)) for s in stamps)]
    paused = write(tmp_path / 'paused', messages)
    (only,) = read_episodes([paused], reacher_contract, 16)
    assert len(only.stamps) == 5
    driven = [command(s - MS, 0.1, 0) for s in (*grid(40), *grid(40, 60.07))]
    filmed_too = [*(frame(s, noise(s % 99)) for s in (*grid(40), *grid(40, 60.0))), *driven]
    resumed = write(tmp_path / 'resumed', sorted(filmed_too, key=lambda m: m.logged))
    first, second = read_episodes([resumed], reacher_contract, 16)
    assert second.action_stamps[0] > second.stamps[0]
    state = joints(3 * NS_PER_S, 0.1, 0.2)
    bag = write(tmp_path / 'bag', sorted([*messages, state], key=lambda m: m.logged))
    first, second = read_episodes([bag], reacher_contract, 16)
    assert (len(first.stamps), len(second.stamps)) == (5, 7)
    np.testing.assert_array_equal(second.actions, [[0.7, 0]])


def test_a_state_that_ends_is_unknown_after_that(tmp_path, reacher_contract):
    """The last one does not stand for frames of much later."""
    stamps = grid(80)
    messages = [*filmed(stamps), *(joints(s, 0.1, 0.2) for s in stamps[:20])]
    bag = write(tmp_path / 'bag', sorted(messages, key=lambda m: m.logged))
    report = ReadReport()
    (episode,) = read_episodes([bag], reacher_contract, 16, report)
    known = np.isfinite(episode.states).all(axis=1)
    assert known[:39].all() and not known[41:].any()
    assert report.refused['frame without a state within 1 s, whose state is unknown'] >= 39


def test_the_episodes_of_two_robots_are_told_apart(tmp_path, reacher_contract):
    """Those in the namespace of camera and commands count; otherwise it is an error."""
    other = replace(episode(2 * NS_PER_S, 5), topic='/other/episode')
    messages = [episode(1, 7), *filmed(grid(40)), other]
    bag = write(tmp_path / 'bag', sorted(messages, key=lambda m: m.logged))
    (found,) = read_episodes([bag], reacher_contract, 16)
    assert len(found.stamps) == 40
    third = replace(episode(1, 7), topic='/third/episode')
    bag = write(tmp_path / 'both', sorted([other, third, *filmed(grid(5))], key=lambda m: m.logged))
    with pytest.raises(BagError, match='number episodes, and no one of them is in the namespace'):
        list(read_episodes([bag], reacher_contract, 16))


def test_a_camera_slower_than_a_block_is_named(tmp_path, reacher_contract):
    """One frame cannot stand for two steps of the model."""
    contract = replace(reacher_contract, rates=Rates(50.0))  # a block of 0.1 s
    bag = write(tmp_path / 'bag', filmed([NS_PER_S + n * NS_PER_S // 7 for n in range(60)]))
    with pytest.raises(BagError, match='frames come every 0.143 s, a block lasts 0.1 s: lower'):
        load_windows([bag], contract, 16, 3, 5, tmp_path / 'cache')


@pytest.mark.parametrize('back', [0.4, 0.425, 3.0, 60.0])
def test_a_clock_that_is_set_back_cuts(tmp_path, reacher_contract, back):
    """A backward clock jump starts a new episode; no frame is mixed up or lost.

    The jump is small or large, onto old stamps or between them.
    """
    stamps = [*grid(20, 100.0), *grid(20, 101.0 - back)]
    logged = grid(40, 100.0)
    found, report = lengths(tmp_path, filmed(stamps, logged), reacher_contract)
    assert found == [20, 20]
    assert not report.refused


def test_a_clock_that_jumps_ahead_cuts(tmp_path, reacher_contract):
    """A forward clock jump starts a new episode, although log times advance evenly."""
    stamps = [*grid(20, 100.0), *grid(20, 160.0)]
    assert lengths(tmp_path, filmed(stamps, grid(40, 100.0)), reacher_contract)[0] == [20, 20]


def test_the_episode_topic_cuts_and_carries_nothing_over(tmp_path, reacher_contract):
    """A new episode number starts an episode and carries over no command from the last one."""
    messages = filmed(grid(12))

    third = NS_PER_S + 3 * FRAME
    messages += [episode(1, 7), episode(2, 7), episode(third - 1, 8), episode(third + 5, 8)]
    bag = write(tmp_path / 'bag', sorted(messages, key=lambda m: m.logged))
    first, second = read_episodes([bag], reacher_contract, 16)
    np.testing.assert_array_equal(first.actions[:, 0], [0, 1, 2, 3])
    np.testing.assert_array_equal(second.actions[:, 0], np.arange(4, 12))
    assert (len(first.stamps), len(second.stamps)) == (3, 9)


def test_what_lies_outside_of_the_episodes_is_left_out(tmp_path, reacher_contract):
    """Frames and commands between episodes (number 0) are left out.

    The recorder keeps running while somebody resets the scene.
    """
    starts = {2: 1, 5: 0, 7: 0, 8: 2}
    messages = [episode(NS_PER_S + i * FRAME - 2 * MS, n) for i, n in starts.items()]
    messages = sorted(messages + filmed(grid(12)), key=lambda m: m.logged)
    bag = write(tmp_path / 'bag', messages)
    report = ReadReport()
    first, second = read_episodes([bag], reacher_contract, 16, report)
    np.testing.assert_array_equal(first.images, [noise(i) for i in (2, 3, 4)])
    np.testing.assert_array_equal(second.images, [noise(i) for i in (8, 9, 10, 11)])
    np.testing.assert_array_equal(second.actions[:, 0], [8, 9, 10, 11])
    assert report.refused == {'frame outside of the episodes': 5}


def test_an_episode_topic_without_messages_says_nothing(tmp_path, reacher_contract):
    """An episode topic without messages does not split the recording."""
    bag = write(tmp_path / 'bag', [episode(1, 1), *filmed(grid(12))], SQLITE3)
    with sqlite3.connect(bag / 'bag.db3') as database:
        database.execute('DELETE FROM messages WHERE id = 1')
    database.close()
    (found,) = read_episodes([bag], reacher_contract, 16)
    assert len(found.stamps) == 12


def test_a_frozen_stamp_is_one_frame(tmp_path, reacher_contract):
    """Frames that repeat one stamp for two seconds count as one; the others are refused."""
    stamps = [*grid(5), *[NS_PER_S + 4 * FRAME] * 40, *grid(5, 3.3)]
    found, report = lengths(tmp_path, filmed(stamps, grid(50)), reacher_contract)
    assert found == [5, 5]
    assert report.refused == {'frame with a duplicate stamp': 40}
