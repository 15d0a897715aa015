# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Every format in which rosbag2 stores a recording holds the same episodes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
import logging
import shutil
import sqlite3

import cv2
import numpy as np
import pytest
from recordings import (
    FRAME,
    MCAP,
    SQLITE3,
    Recorded,
    assert_equal,
    command,
    compressed,
    drive,
    episode,
    frame,
    header,
    joints,
    make,
    noise,
    write,
)
from rosbags.rosbag2 import CompressionMode
import yaml

from lewm_ros.bags.episodes import ReadReport, read_episodes
from lewm_ros.bags.reader import Bag, find_bags
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import Contract, Stop
from lewm_ros.robot.imaging import decode, prepare
from lewm_ros.time import NS_PER_S

JOINTS = {'state': ['shoulder', 'elbow']}
NONE, STORAGE = CompressionMode.NONE, CompressionMode.STORAGE
MESSAGE, FILE = CompressionMode.MESSAGE, CompressionMode.FILE


def read(paths, contract, size=16):
    """Episodes of some bags, and the read report."""
    report = ReadReport()
    paths = paths if isinstance(paths, list) else [paths]
    return list(read_episodes(paths, contract, size, report)), report


@pytest.fixture(scope='module')
def plain(tmp_path_factory):
    """An MCAP bag without compression."""
    return write(tmp_path_factory.mktemp('plain') / 'bag', drive())


@pytest.fixture
def expected(plain, reacher_contract):
    """The episodes of that bag, as they were written."""
    episodes, report = read(plain, reacher_contract)
    assert [len(e.stamps) for e in episodes] == [30, 30]
    np.testing.assert_array_equal(episodes[1].images[7], noise(207))
    np.testing.assert_array_equal(episodes[1].actions[7], [2.07, -0.07])
    np.testing.assert_array_equal(episodes[1].states[7], [7, 2, 0, 0])
    assert report == ReadReport(frames=60, episodes=2, joints=JOINTS, camera_size=(16, 16))
    return episodes


@pytest.mark.parametrize(
    ('storage', 'compression'),
    [(MCAP, c) for c in (STORAGE, MESSAGE, FILE)] + [(SQLITE3, c) for c in (NONE, MESSAGE, FILE)],
)
@pytest.mark.parametrize('metadata', [True, False], ids=['', 'without metadata'])
def test_every_storage_and_compression_gives_the_same(
    tmp_path, reacher_contract, expected, storage, compression, metadata
):
    """Every storage and compression holds the same episodes, with and without metadata.yaml."""
    bag = write(tmp_path / 'bag', drive(), storage, compression)
    if not metadata:
        (bag / 'metadata.yaml').unlink()
    episodes, report = read(bag, reacher_contract)
    assert_equal(episodes, expected)
    assert report == ReadReport(frames=60, episodes=2, joints=JOINTS, camera_size=(16, 16))


@pytest.mark.parametrize('storage', [MCAP, SQLITE3])
@pytest.mark.parametrize('compression', [NONE, FILE])
def test_a_single_file_is_a_bag(tmp_path, reacher_contract, expected, storage, compression):
    """A single bag file can be read by its own name, outside its folder."""
    bag = write(tmp_path / 'bag', drive(), storage, compression)
    (file,) = (p for p in bag.iterdir() if p.name != 'metadata.yaml')
    alone = shutil.move(file, tmp_path / file.name)
    assert_equal(read(alone, reacher_contract)[0], expected)


@pytest.mark.parametrize('storage', [MCAP, SQLITE3])
@pytest.mark.parametrize('order', ['metadata', 'name', 'killed'])
def test_a_split_bag_is_one_recording(tmp_path, reacher_contract, expected, storage, order):
    """A split bag is one recording, in the order of metadata.yaml or of the numbers (10 after 9).

    A killed recorder has not listed its last file in metadata.yaml yet.
    """
    whole, pieces, messages = tmp_path / 'bag', 12, drive()
    whole.mkdir()
    names = []
    for index in range(pieces):
        part = messages[len(messages) * index // pieces : len(messages) * (index + 1) // pieces]
        piece = write(tmp_path / f'piece_{index}', part, storage)
        (file,) = (p for p in piece.iterdir() if p.name != 'metadata.yaml')
        number = pieces - index if order == 'metadata' else index
        names.append(f'bag/bag_{number}{file.suffix}')  # as Foxy wrote it, with the folder name
        file.rename(tmp_path / names[-1])
    if order != 'name':
        names = names[:-1] if order == 'killed' else names
        data = {'rosbag2_bagfile_information': {'relative_file_paths': names}}
        (whole / 'metadata.yaml').write_text(yaml.safe_dump(data))
    assert_equal(read(whole, reacher_contract)[0], expected)


def test_a_file_that_metadata_names_must_be_there(tmp_path, plain, reacher_contract):
    """A bag that lacks a file listed in metadata.yaml is rejected, not read in part."""
    bag = shutil.copytree(plain, tmp_path / 'bag')
    (bag / 'bag.mcap').rename(bag / 'other.mcap')
    with pytest.raises(BagError, match=r'metadata.yaml lists bag.mcap, which is missing'):
        read(bag, reacher_contract)


@pytest.mark.parametrize('text', ['', '[', 'a: b', '- 1', 'rosbag2_bagfile_information: 3'])
def test_useless_metadata_is_as_good_as_none(tmp_path, plain, reacher_contract, expected, text):
    """A broken metadata.yaml, as a killed recorder may leave it, is ignored."""
    bag = shutil.copytree(plain, tmp_path / 'bag')
    (bag / 'metadata.yaml').write_text(text)
    assert_equal(read(bag, reacher_contract)[0], expected)


def test_a_folder_of_bags_counts_as_its_bags(tmp_path, plain, reacher_contract, expected):
    """Nested folders of bags are read in natural order; a bag that is named twice counts once."""
    folder = tmp_path / 'day'
    for name in ('run_10', 'run_9', 'later/run_1'):
        shutil.copytree(plain, folder / name)
    (folder / 'notes').mkdir()
    (folder / 'notes.txt').write_text('nothing')
    found = find_bags([folder, plain, folder / 'run_9'])
    assert [str(p.relative_to(tmp_path)) for p in found[:3]] == [
        'day/later/run_1',
        'day/run_9',
        'day/run_10',
    ]
    assert found[3:] == [plain]
    episodes, report = read([folder, plain], reacher_contract)
    assert_equal(episodes, expected * 4)
    assert report.episodes == 8


def test_type_names_of_the_first_distributions_are_understood(tmp_path, reacher_contract, expected):
    """The type name of the first ROS 2 distributions, sensor_msgs/Image, is understood."""
    bag = write(tmp_path / 'bag', drive(), SQLITE3)
    with sqlite3.connect(bag / 'bag.db3') as database:
        database.execute("UPDATE topics SET type = replace(type, '/msg/', '/')")
    database.close()
    assert_equal(read(bag, reacher_contract)[0], expected)


def test_a_journal_that_was_not_written_back_is_read(tmp_path, reacher_contract, expected):
    """Messages in bag.db3-wal, left by a killed recorder with the resilient profile, are read."""
    bag = write(tmp_path / 'bag', drive(), SQLITE3)
    copy = tmp_path / 'copy'
    copy.mkdir()
    database = sqlite3.connect(bag / 'bag.db3')
    database.execute('PRAGMA journal_mode = WAL')
    rows = database.execute('SELECT * FROM messages WHERE id > 50').fetchall()
    database.execute('DELETE FROM messages WHERE id > 50')
    database.commit()
    database.execute('PRAGMA wal_checkpoint(TRUNCATE)')
    database.executemany('INSERT INTO messages VALUES (?, ?, ?, ?)', rows)
    database.commit()
    for name in ('bag.db3', 'bag.db3-wal'):  # copied while the recorder still has it open
        shutil.copy(bag / name, copy / name)
    database.close()
    assert_equal(read(copy, reacher_contract)[0], expected)


def test_zero_stamps_fall_back_to_log_time_and_are_mentioned_once(
    tmp_path, reacher_contract, caplog
):
    """Zero stamps fall back to log time, with one warning per topic, not per message."""
    messages = []
    for index in range(10):
        logged = NS_PER_S + index * FRAME
        messages += [command(logged, 0, 0), frame(0, noise(index), logged=logged + 7)]
        messages += [replace(joints(0, index, 0), logged=logged)]
    with caplog.at_level(logging.WARNING, 'lewm'):
        (found,), report = read(write(tmp_path / 'bag', messages), reacher_contract)
    np.testing.assert_array_equal(found.stamps, NS_PER_S + 7 + FRAME * np.arange(10))
    np.testing.assert_array_equal(found.states[:, 0], np.arange(10))
    assert report.unstamped == {'/lewm/camera/image', '/lewm/joint_states'}
    assert len(caplog.messages) == 2
    assert all('zero stamp' in text for text in caplog.messages)


def test_messages_logged_out_of_order_are_sorted_in_both_formats(tmp_path, reacher_contract):
    """A bag logged out of order and a sorted sqlite3 copy of it hold identical episodes."""
    messages = drive(40, 1)
    mixed = [m for i in range(0, len(messages), 8) for m in messages[i : i + 8][::-1]]
    one = read(write(tmp_path / 'a', mixed), reacher_contract)[0]
    other = read(write(tmp_path / 'b', messages, SQLITE3), reacher_contract)[0]
    assert_equal(one, other)


def camera(contract: Contract, **values) -> Contract:
    """The same robot with another camera."""
    return replace(contract, camera=replace(contract.camera, **values))


GREY = (np.arange(96).reshape(8, 12) * 2).astype(np.uint8)
COLOUR = np.random.default_rng(5).integers(0, 256, (8, 12, 4), dtype=np.uint8)


@pytest.mark.parametrize(
    ('encoding', 'pixels'),
    [
        ('rgb8', COLOUR[..., :3]),
        ('bgr8', COLOUR[..., :3]),
        ('rgba8', COLOUR),
        ('bgra8', COLOUR),
        ('mono8', GREY),
        ('mono16', GREY.astype('<u2') * 250),
        ('16UC1', GREY.astype('<u2') * 20),
        ('yuyv', COLOUR[..., :2]),
        ('yuv422_yuy2', COLOUR[..., :2]),
        ('uyvy', COLOUR[..., :2]),
        *((f'bayer_{pattern}8', GREY) for pattern in ('rggb', 'bggr', 'gbrg', 'grbg')),
    ],
)
@pytest.mark.parametrize('padding', [0, 5])
def test_a_bag_of_any_encoding_gives_what_the_robot_sees(
    tmp_path, reacher_contract, encoding, pixels, padding
):
    """For every encoding, padded or not, a bag gives bit for bit what the runtime sees."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(8, -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=199)
    recorded = frame(NS_PER_S, rows, encoding, width=12)
    bag = write(tmp_path / 'bag', [command(NS_PER_S, 0, 0), recorded])
    (found,), _ = read(bag, camera(reacher_contract, scale=4000), 8)
    data = rows.tobytes()
    seen = decode(encoding, 8, 12, rows.shape[1], data, scale=4000)
    np.testing.assert_array_equal(found.images[0], prepare(seen, 8))


@pytest.mark.parametrize(('suffix', 'tolerance'), [('.png', 0), ('.jpg', 25)])
def test_compressed_images_are_read(tmp_path, reacher_contract, suffix, tolerance):
    """JPEG and PNG images are read."""
    image = np.dstack([GREY, GREY[::-1], 255 - GREY])
    data = cv2.imencode(suffix, image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 100])[1].tobytes()
    bag = write(tmp_path / 'bag', [command(NS_PER_S, 0, 0), compressed(NS_PER_S, data)])
    contract = camera(reacher_contract, type='sensor_msgs/msg/CompressedImage', crop=(0, 0, 8, 8))
    (found,), _ = read(bag, contract, 8)
    difference = np.abs(found.images[0].astype(int) - image[:8, :8])
    assert difference.max() <= tolerance


def test_what_disagrees_with_itself_is_refused_and_counted_by_name(tmp_path, reacher_contract):
    """An inconsistent frame or command is refused and counted by reason; the rest is used."""
    good = frame(NS_PER_S, noise(1))
    short = frame(NS_PER_S + FRAME, noise(2))
    short.message.height = 17
    other = frame(NS_PER_S + 2 * FRAME, noise(3), 'h264')
    depth = frame(NS_PER_S + 3 * FRAME, noise(4)[..., :2].copy(), '16UC1')
    cut = replace(good, message=b'\0\1\0\0\1\2\3', logged=NS_PER_S + 1)
    again = frame(NS_PER_S, noise(5), logged=NS_PER_S + 2)
    commands = [command(NS_PER_S + 1, 0.5, 0.5), command(NS_PER_S + 2, np.nan, 0)]
    commands += [command(NS_PER_S + 3), command(NS_PER_S + 1, 0.7, 0.7)]
    messages = [good, short, other, depth, cut, again, *commands]
    (found,), report = read(write(tmp_path / 'bag', messages), reacher_contract)
    np.testing.assert_array_equal(found.images, [noise(1)])
    np.testing.assert_array_equal(found.actions, [[0.5, 0.5]])
    assert report.refused.total() == 8
    reasons = '\n'.join(report.refused)
    for reason in (
        'height 17 x step 48 needs 816',
        "'h264' is not supported",
        'set camera.scale',
        'damaged or of another layout',
        'frame with a duplicate stamp',
        'not finite',
        "no number at 'data[0]'",
        'command with a duplicate stamp',
    ):
        assert reason in reasons


def test_a_trajectory_of_one_point_is_a_command(tmp_path, reacher_contract):
    """A JointTrajectory of one point is a command; other numbers of points are refused."""
    kind = 'trajectory_msgs/msg/JointTrajectory'
    duration = make('builtin_interfaces/msg/Duration')(sec=0, nanosec=50_000_000)
    none = np.empty(0)

    def trajectory(stamp, *rows):
        points = [
            make('trajectory_msgs/msg/JointTrajectoryPoint')(
                positions=np.array(row),
                velocities=none,
                accelerations=none,
                effort=none,
                time_from_start=duration,
            )
            for row in rows
        ]
        message = make(kind)(header=header(stamp), joint_names=['a', 'b'], points=points)
        return Recorded('/lewm/action', kind, stamp, message)

    fields = ('points[0].positions[1]', 'points[0].positions[0]')
    contract = replace(
        reacher_contract,
        action=replace(reacher_contract.action, type=kind, fields=fields, kind='position'),
        stop=Stop('hold'),
    )
    messages = [trajectory(NS_PER_S, [1.0, 2.0]), frame(NS_PER_S, noise(1))]
    messages += [trajectory(NS_PER_S + 5, [1.0, 2.0], [3.0, 4.0]), trajectory(NS_PER_S + 6)]
    (found,), report = read(write(tmp_path / 'bag', messages), contract)
    np.testing.assert_array_equal(found.actions, [[2.0, 1.0]])
    assert [text.split(':')[0] for text in report.refused] == [
        'trajectory of 2 points',
        'trajectory of 0 points',
    ]


def test_topics_in_another_serialisation_are_named(tmp_path, reacher_contract):
    """A topic that is not serialised as CDR is rejected as such, not as damage."""
    bag = write(tmp_path / 'bag', [episode(1, 1)], SQLITE3)
    with sqlite3.connect(bag / 'bag.db3') as database:
        database.execute("UPDATE topics SET serialization_format = 'protobuf'")
    database.close()
    with pytest.raises(BagError, match=r"/lewm/episode: serialised as 'protobuf', expected cdr"):
        Bag(bag, Counter())
