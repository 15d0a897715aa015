# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Simulated episodes: camera rates and image shapes, commands, what ends up in the bag."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from command_line import lewm
import numpy as np
import pytest

from lewm_ros import cli
from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.bags.message_types import TYPES
from lewm_ros.bags.reader import Bag
from lewm_ros.bundle import FILES, Bundle, write_bundle
from lewm_ros.errors import BagError, ConfigError
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract, Executed
from lewm_ros.sim import Reacher, make_task
from lewm_ros.sim.collect import (
    START,
    UniformPolicy,
    collect_task,
    image_size,
    simulate,
    write_action,
)
from lewm_ros.time import NS_PER_S


@pytest.mark.parametrize('rate', [20.0, 30.0, 70.0])
def test_frames_lie_at_the_physics_steps_nearest_to_their_times(rate):
    """Frames lie at the physics steps nearest to their times and do not drift, e.g. at 30 Hz."""
    contract = Contract.load(find('contract', 'reacher'))
    task = make_task('reacher', 16)
    policy = UniformPolicy(contract, np.random.default_rng(0))
    events = list(simulate(task, contract, policy, 2.0, rate, 0.02, START))
    frames = np.array([stamp for kind, stamp, _ in events if kind == 'image'])
    ideal = START + np.arange(len(frames)) / rate * NS_PER_S
    assert len(frames) == round(2.0 * rate)
    assert np.abs(frames - ideal).max() <= task.timestep * NS_PER_S / 2 + 1
    stamps = [stamp for _, stamp, _ in events]
    assert stamps == sorted(stamps)
    ticks = np.array([stamp for kind, stamp, _ in events if kind == 'action'])
    assert np.all(np.diff(ticks[1:]) == contract.period * NS_PER_S)
    task.close()


def test_a_wide_image_has_the_square_one_in_its_middle():
    """The centre of a wide image equals the square image: the vertical field of view is fixed."""
    assert image_size('64') == 64
    wide = make_task('reacher', image_size('128x96'), seed=3)
    image = wide.render()
    assert image.shape == (96, 128, 3)
    wide.close()
    square = make_task('reacher', 96, seed=3)
    difference = np.abs(image[:, 16:112].astype(int) - square.render())
    assert (difference > 8).mean() < 0.01
    square.close()


def test_pushes_come_back_from_their_bag(tmp_path):
    """Pushes stay within the limits, move the puck and are recorded the same for the same seed."""
    contract = Contract.load(find('contract', 'push'))
    command = ['collect', 'push', '--episodes', '3', '--seconds', '3', '--seed', '2', '--out']
    assert cli.main([*command, str(tmp_path / 'a')]) == 0
    assert cli.main([*command, str(tmp_path / 'b')]) == 0
    episodes = list(read_episodes([tmp_path / 'a'], contract, 64))
    again = list(read_episodes([tmp_path / 'b'], contract, 64))
    assert [e.images.shape for e in episodes] == [(60, 64, 64, 3)] * 3
    for episode, twin in zip(episodes, again, strict=True):
        assert episode.actions.shape[1] == 2
        assert 0.1 < np.abs(episode.actions).max() <= 0.3
        np.testing.assert_array_equal(episode.actions, twin.actions)
        np.testing.assert_array_equal(episode.images, twin.images)
        # Once the actuators have settled, the velocity in the state is the command's.
        late = np.searchsorted(episode.action_stamps, episode.stamps) - 1
        followed = episode.states[5:, 4:6] - episode.actions[late[5:]]
        assert np.median(np.abs(followed)) < 0.05
    moved = [np.ptp(e.states[:, 2:4], axis=0).max() for e in episodes]
    assert max(moved) > 0.05


@pytest.mark.parametrize(
    ('kind', 'path'),
    [
        ('sensor_msgs/msg/JointState', 'effort'),
        ('trajectory_msgs/msg/JointTrajectory', 'points[0].effort'),
    ],
)
def test_joints_are_named_in_the_order_of_the_message(tmp_path, kind, path):
    """Joints are named in the message's order, even if the contract lists them differently."""
    contract = Contract.load(find('contract', 'reacher'))
    fields = (f'{path}[1]', f'{path}[0]')
    contract = replace(contract, action=replace(contract.action, type=kind, fields=fields))
    with BagWriter(tmp_path / 'bag') as bag:
        write_action(bag, contract, START, np.array([0.1, 0.2]))
    ((_, _, data),) = (bag := Bag(tmp_path / 'bag', Counter())).messages(bag.topics)
    message = TYPES.deserialize_cdr(data, kind)
    point = message.points[0] if hasattr(message, 'points') else message
    names = getattr(message, 'joint_names', None) or message.name
    values = getattr(point, path.rpartition('.')[2])
    assert list(names) == ['elbow', 'shoulder'] == list(contract.action.names)[::-1]
    assert list(values) == [0.2, 0.1]


def test_reports_of_applied_commands_are_refused(monkeypatch, tmp_path):
    """Nothing would send them, and training would find no commands."""
    contract = Contract.load(find('contract', 'reacher'))
    executed = Executed('applied', 'std_msgs/msg/Float64MultiArray', contract.action.fields)
    robot = replace(contract, action=replace(contract.action, executed=executed))
    monkeypatch.setattr(Reacher, 'robot', classmethod(lambda cls: robot))
    with pytest.raises(ConfigError, match='action.executed is applied: the simulator reports no'):
        collect_task('reacher', tmp_path / 'bag', episodes=1, seconds=1.0)
    assert not (tmp_path / 'bag').exists()


def test_a_delay_of_commands_is_refused():
    """A contract with a command delay is rejected, because a simulated robot has none."""
    contract = Contract.load(find('contract', 'reacher'))
    late = replace(contract, action=replace(contract.action, delay=0.08))
    task = make_task('reacher', 16)
    policy = UniformPolicy(late, np.random.default_rng(0))
    with pytest.raises(ConfigError, match='action.delay is 0.08 s: the simulator applies'):
        list(simulate(task, late, policy, 1.0, 20.0, 0.0, START))
    task.close()


def test_a_collection_that_fails_leaves_no_camera_open(tmp_path):
    """A failed collection releases its camera: the next one works and its bag is complete."""
    contract = Contract.load(find('contract', 'reacher'))
    taken = tmp_path / 'bag'
    taken.mkdir()
    with pytest.raises(BagError, match='exists already'):
        collect_task('reacher', taken, episodes=1, seconds=1.0)
    with pytest.raises(ConfigError, match='--camera-rate is 1e'):
        collect_task('reacher', tmp_path / 'none', episodes=1, seconds=1.0, camera_rate=1e6)
    collect_task('reacher', tmp_path / 'good', episodes=1, seconds=1.0)
    (episode,) = read_episodes([tmp_path / 'good'], contract, 64)
    assert len(episode.stamps) == 20


@pytest.mark.parametrize('frames', [0, 2])
def test_a_collection_that_fails_leaves_no_empty_bag(monkeypatch, tmp_path, frames):
    """A bag in which nothing was recorded would block its name; what was recorded is kept."""

    def fail(*args):
        for index in range(frames):
            yield 'image', START + index, np.zeros((64, 64, 3), np.uint8)
        raise ConfigError('the simulator failed')

    monkeypatch.setattr('lewm_ros.sim.collect.simulate', fail)
    with pytest.raises(ConfigError, match='the simulator failed'):
        collect_task('reacher', tmp_path / 'bag', episodes=1, seconds=1.0)
    assert (tmp_path / 'bag').exists() is (frames > 0)
    if frames:
        assert Bag(tmp_path / 'bag', Counter()).counts().total() == 1 + frames


@pytest.mark.parametrize(
    ('words', 'says'),
    [
        ('', 'or --mjcf MODEL.xml: neither is given'),
        ('reacher --mjcf m.xml', 'both are given'),
        ('--mjcf m.xml reacher', 'both are given'),
        ('reacher --camera top', '--camera only has a meaning with --mjcf'),
        ('reacher --trajectory a.npz', '--trajectory only has a meaning with --mjcf'),
        ('reacher --contract reacher', '--contract only has a meaning with --mjcf'),
        ('--mjcf m.xml --seed 0', '--seed only has a meaning with a task'),
        ('--mjcf m.xml --episodes 3', '--episodes only has a meaning with a task'),
        ('--mjcf m.xml --seconds 3', '--seconds only has a meaning with a task'),
        ('--mjcf m.xml --policy random', '--policy only has a meaning with a task'),
        ('--mjcf m.xml --bundle b', '--bundle only has a meaning with a task'),
        ('--mjcf m.xml --camera top', '--mjcf needs --trajectory and --contract as well'),
        ('--mjcf m.xml --camera a --trajectory b', '--mjcf needs --contract as well'),
    ],
)
def test_options_that_do_not_go_together(tmp_path, capsys, words, says):
    """Options that exclude each other are rejected by name, and no bag is written."""
    assert cli.main(['collect', '--out', str(tmp_path / 'bag'), *words.split()]) == 2
    assert says in capsys.readouterr().err
    assert not (tmp_path / 'bag').exists()


def test_the_planner_is_recorded_at_the_camera_rate_of_its_bundle(
    tmp_path: Path, tiny_bundle: Bundle
) -> None:
    """The planner sees frames as its model was trained with, and so it plans."""
    slow = replace(tiny_bundle.manifest, camera_period=0.125)
    files = {name: tiny_bundle.path / name for name in FILES}
    path = write_bundle(tmp_path / 'slow', slow, files).path
    words = ('collect', 'reacher', '--policy', 'planner', '--bundle', path)
    words = (*words, '--episodes', 1, '--seconds', 3, '--image-size', 32)
    status, _, error = lewm(*words, '--out', tmp_path / 'bag')
    assert status == 0, error
    (episode,) = read_episodes([tmp_path / 'bag'], tiny_bundle.contract, 16)
    assert len(episode.stamps) == 24 and np.abs(episode.actions).max() > 0.01
    status, _, error = lewm(*words, '--camera-rate', 7, '--out', tmp_path / 'other')
    assert status == 2 and '--camera-rate has no meaning with --policy planner' in error
