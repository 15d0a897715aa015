# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Bags in and out: what the simulator writes is what training reads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.bags.episodes import ReadReport, read_episodes, recording_command
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import Executed
from lewm_ros.time import NS_PER_S

FRAME = NS_PER_S // 20


def write_frames(bag, stamps, contract, size=8, value=None, encoding='rgb8'):
    """Write frames of one colour, by default their index, each with a command, into a bag."""
    layout = bag.make('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
    for index, stamp in enumerate(stamps):
        colour = index % 256 if value is None else value
        bag.write(
            '/lewm/camera/image',
            contract.camera.type,
            stamp,
            header=bag.header(stamp),
            height=size,
            width=size,
            encoding=encoding,
            is_bigendian=0,
            step=3 * size,
            data=np.full(3 * size * size, colour, dtype=np.uint8),
        )
        bag.write(
            '/lewm/action',
            contract.action.type,
            stamp + 1,
            layout=layout,
            data=np.array([index / 100, -index / 100]),
        )


def test_frames_and_commands_come_back_as_written(tmp_path, reacher_contract):
    """Pixels, stamps and commands are read back exactly as written."""
    stamps = NS_PER_S + FRAME * np.arange(10)
    with BagWriter(tmp_path / 'bag', 'lewm collect reacher') as bag:
        write_frames(bag, stamps.tolist(), reacher_contract)
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, 8)
    assert np.array_equal(episode.stamps, stamps)
    assert np.array_equal(episode.images[:, 0, 0, 0], np.arange(10))
    assert np.array_equal(episode.action_stamps, stamps + 1)
    assert np.array_equal(episode.actions[:, 0], np.arange(10) / 100)
    assert recording_command(tmp_path / 'bag') == 'lewm collect reacher'


def test_a_gap_and_a_jump_back_start_new_episodes(tmp_path, reacher_contract):
    """A gap and a backward clock jump each start a new episode, which windows must not cross."""
    first = NS_PER_S + FRAME * np.arange(5)
    second = first + 5 * NS_PER_S
    third = first + NS_PER_S // 2  # logged later, but stamped earlier
    with BagWriter(tmp_path / 'bag') as bag:
        write_frames(bag, [*first.tolist(), *second.tolist()], reacher_contract)
        for stamp in third.tolist():  # the clock was set back while log time went on
            bag.write(
                '/lewm/camera/image',
                reacher_contract.camera.type,
                stamp + 20 * NS_PER_S,
                header=bag.header(stamp),
                height=8,
                width=8,
                encoding='rgb8',
                is_bigendian=0,
                step=24,
                data=np.zeros(192, dtype=np.uint8),
            )
    report = ReadReport()
    episodes = list(read_episodes([tmp_path / 'bag'], reacher_contract, 8, report))
    # The third episode has no commands, so it is left out.
    assert [len(e.stamps) for e in episodes] == [5, 5]
    assert report.frames == 15


def test_log_times_that_jump_back_are_not_sorted_across_the_jump(tmp_path, reacher_contract):
    """A clock set back during a recording: no old frame is read into the new episode."""
    first = NS_PER_S * 20 + FRAME * np.arange(100)
    second = first - 3 * NS_PER_S
    with BagWriter(tmp_path / 'bag') as bag:
        write_frames(bag, first.tolist(), reacher_contract, value=10)
        write_frames(bag, second.tolist(), reacher_contract, value=200)
    report = ReadReport()
    episodes = list(read_episodes([tmp_path / 'bag'], reacher_contract, 8, report))
    assert [np.unique(e.images).tolist() for e in episodes] == [[10], [200]]
    assert [e.stamps.tolist() for e in episodes] == [first.tolist(), second.tolist()]
    assert report.late == 0


def test_a_refused_frame_is_counted_by_reason(tmp_path, reacher_contract):
    """An unsupported encoding costs one frame, not the bag, and is counted by reason."""
    with BagWriter(tmp_path / 'bag') as bag:
        write_frames(bag, [NS_PER_S], reacher_contract, encoding='h264')
        write_frames(bag, [NS_PER_S + FRAME], reacher_contract)
    report = ReadReport()
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, 8, report)
    assert len(episode.stamps) == 1
    assert ['h264' in reason for reason in report.refused] == [True]


def test_a_missing_topic_is_named_with_those_there_are(tmp_path, reacher_contract):
    """A missing topic is reported with the topics that the bag has."""
    with BagWriter(tmp_path / 'bag') as bag:
        bag.write('/lewm/episode', 'std_msgs/msg/UInt32', 1, data=1)
    with pytest.raises(BagError, match=r'camera/image.*it has: /lewm/episode'):
        list(read_episodes([tmp_path / 'bag'], reacher_contract, 8))


def test_what_is_no_bag_is_refused_by_name(tmp_path, reacher_contract):
    """A missing path, an empty folder and an existing output path are rejected by name."""
    with pytest.raises(BagError, match='nowhere: no such file or folder'):
        list(read_episodes([tmp_path / 'nowhere'], reacher_contract, 8))
    (tmp_path / 'empty').mkdir()
    with pytest.raises(BagError, match='empty: cannot be read as rosbag2'):
        list(read_episodes([tmp_path / 'empty'], reacher_contract, 8))
    with pytest.raises(BagError, match='exists already'):
        BagWriter(tmp_path / 'empty')


def test_an_interrupted_recording_is_a_whole_bag(tmp_path, reacher_contract):
    """Ctrl-C during a recording loses nothing that was written, and the bag is complete."""

    def interrupted():
        with BagWriter(tmp_path / 'bag') as bag:
            write_frames(bag, [NS_PER_S, NS_PER_S + FRAME], reacher_contract)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, 8)
    assert len(episode.stamps) == 2


def test_simulated_time_ends_no_file(tmp_path, reacher_contract):
    """Simulated hours go into one file: bags are not split by simulated time."""
    with BagWriter(tmp_path / 'bag') as bag:
        write_frames(bag, [NS_PER_S, 3600 * NS_PER_S], reacher_contract)
    assert [p.name for p in (tmp_path / 'bag').glob('*.mcap')] == ['bag_0.mcap']


def test_damage_within_a_collected_bag_is_noticed(tmp_path, reacher_contract):
    """A flipped bit is detected by the chunk's CRC: the chunk is left out and reported."""
    noise = np.random.default_rng(0).integers(0, 256, 3 * 64 * 64, dtype=np.uint8)  # stored as is
    with BagWriter(tmp_path / 'bag') as bag:
        write_frames(bag, [NS_PER_S], reacher_contract, size=64, value=noise)
    (file,) = (tmp_path / 'bag').glob('*.mcap')
    data = bytearray(file.read_bytes())
    data[data.index(noise[5000:5100].tobytes())] ^= 1
    file.write_bytes(data)
    report = ReadReport()
    assert list(read_episodes([tmp_path / 'bag'], reacher_contract, 64, report)) == []
    assert 'chunk with a wrong CRC' in ' '.join(report.refused)


def test_the_command_as_applied_is_what_counts(tmp_path, reacher_contract):
    """If the robot reports executed commands, training reads those, as planner and surprise do."""
    applied = Executed('applied', 'std_msgs/msg/Float64MultiArray', ('data[1]', 'data[0]'))
    action = replace(reacher_contract.action, executed=applied, delay=0.01)
    contract = replace(reacher_contract, action=action)
    with BagWriter(tmp_path / 'bag') as bag:
        write_frames(bag, [NS_PER_S, NS_PER_S + FRAME], reacher_contract)
        layout = bag.make('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
        bag.write(
            '/lewm/applied',
            'std_msgs/msg/Float64MultiArray',
            NS_PER_S,
            layout=layout,
            data=np.array([5.0, 6.0]),
        )
    (episode,) = read_episodes([tmp_path / 'bag'], contract, 8)
    assert episode.actions.tolist() == [[6.0, 5.0]]
    assert episode.action_stamps.tolist() == [NS_PER_S + 10_000_000]  # unstamped: log + delay


def test_each_frame_gets_the_nearest_state(tmp_path, reacher_contract):
    """Each frame gets the state nearest in time; states have their own rate."""
    stamps = (NS_PER_S + FRAME * np.arange(3)).tolist()
    with BagWriter(tmp_path / 'bag') as bag:
        write_frames(bag, stamps, reacher_contract)
        for offset in (-9, 2, 26, 49, 53, 98, 140):
            stamp = NS_PER_S + offset * 1_000_000
            bag.write(
                '/lewm/joint_states',
                'sensor_msgs/msg/JointState',
                stamp,
                header=bag.header(stamp),
                name=['shoulder', 'elbow'],
                position=np.full(2, float(offset)),
                velocity=np.zeros(2),
                effort=np.empty(0),
            )
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, 8)
    assert episode.states[:, 0].tolist() == [2.0, 49.0, 98.0]


def test_two_topics_that_fit_are_not_guessed_between(tmp_path, reacher_contract):
    """If two topics match, both are named and neither is chosen."""
    with BagWriter(tmp_path / 'bag') as bag:
        write_frames(bag, [NS_PER_S], reacher_contract)
        bag.write('/a/episode', 'std_msgs/msg/UInt32', 1, data=1)
        bag.write('/b/episode', 'std_msgs/msg/UInt32', 2, data=1)
    with pytest.raises(BagError, match='/a/episode.*/b/episode'):
        list(read_episodes([tmp_path / 'bag'], reacher_contract, 8))
