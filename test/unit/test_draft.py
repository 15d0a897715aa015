# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm check --draft`: a contract drafted from a bag alone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from recordings import Recorded, command, compressed, drive, frame, header, joints, noise, write
import yaml

from lewm_ros.bags.check import check_bag, check_contract
from lewm_ros.bags.draft import draft
from lewm_ros.bags.messages import command as command_of
from lewm_ros.cli import main
from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S

ROBOTS = Path(__file__).resolve().parents[2] / 'config' / 'robots'


def driven(contract: Contract, rate: float) -> list[Recorded]:
    """Commands of a robot at ``rate`` [Hz]; each dimension covers nine tenths of its range."""
    low, high = contract.action.bounds
    names, channel = contract.action.names, contract.action
    messages = []
    for n in range(200):
        share = 0.5 + 0.45 * np.sin(n * 0.31 + np.arange(channel.size))
        stamp = NS_PER_S + round(n * NS_PER_S / rate)
        message = command_of(channel, names, low + share * (high - low))
        if hasattr(message, 'header'):
            message.header = header(stamp)
        for point in getattr(message, 'points', ()):
            point.positions = np.array(point.positions)
        for array in ('position', 'velocity', 'effort', 'data'):
            if isinstance(value := getattr(message, array, None), list):
                setattr(message, array, np.array(value, dtype=float))
        topic = f'/{channel.topic.lstrip("/")}'
        messages += [Recorded(topic, channel.type, stamp, message), joints(stamp, n / 10)]
    return messages


@pytest.mark.parametrize('path', sorted(ROBOTS.glob('*.yaml')), ids=lambda path: path.stem)
def test_commands_of_every_shipped_robot_are_found(tmp_path, path):
    """A draft has the robot's topic, fields, kind, rate and stop mode, and limits as driven."""
    robot = Contract.load(path)
    images = [frame(NS_PER_S + n * NS_PER_S // 20, noise(n)) for n in range(5)]
    bag = write(tmp_path / 'bag', driven(robot, 25.0) + images)
    text, lacking = draft(bag)
    assert lacking == []
    (tmp_path / 'mine.yaml').write_text(text)
    found, problems = check_contract(tmp_path / 'mine.yaml')
    assert problems == []
    assert check_bag(bag, found).problems == []
    assert found.action.topic.lstrip('/') == robot.action.topic.lstrip('/')
    assert set(found.action.fields) == set(robot.action.fields)
    assert found.rates.control == 25.0
    assert found.state.topic == '/lewm/joint_states'
    if robot.action.type != 'std_msgs/msg/Float64MultiArray':  # plain numbers do not tell the kind
        assert found.action.kind == robot.action.kind
        assert found.stop.mode == robot.stop.mode
        order = [found.action.fields.index(name) for name in robot.action.fields]
        if 'Twist' not in robot.action.type:
            assert [found.action.names[n] for n in order] == list(robot.action.names)
        low, high = (bounds[order] for bounds in found.action.bounds)
        span = np.subtract(*robot.action.bounds[::-1])
        assert (low >= robot.action.bounds[0] - 0.01 * span).all()
        assert (high <= robot.action.bounds[1] + 0.01 * span).all()
        assert (high - low >= 0.85 * span).all()


def test_a_camera_is_one_that_can_be_read(tmp_path):
    """The latents of running nodes are images too, at a higher rate than the camera."""
    messages = []
    for n in range(100):
        stamp = NS_PER_S + n * NS_PER_S // 20
        messages.append(command(stamp, np.sin(0.1 * n), np.cos(0.1 * n)))
        latent = frame(stamp, np.zeros((1, 12), np.uint8), '32FC1', width=3, topic='/lewm/latent')
        messages.append(latent)
        if n % 4 == 0:
            messages.append(frame(stamp + 1, noise(n)))
    path = write(tmp_path / 'bag', sorted(messages, key=lambda m: m.logged))
    text, lacking = draft(path)
    assert lacking == []
    assert yaml.safe_load(text)['camera']['topic'] == '/lewm/camera/image'
    only = [m for m in messages if m.topic != '/lewm/camera/image']
    text, lacking = draft(write(tmp_path / 'only', sorted(only, key=lambda m: m.logged)))
    assert lacking == ["no camera: none of ['/lewm/latent'] has images that can be read"]


def test_positions_are_found_beside_what_is_missing(tmp_path):
    """Efforts that are NaN, and a gripper on the same topic, leave a position arm one."""
    messages = [frame(NS_PER_S + n * NS_PER_S // 20, noise(n)) for n in range(5)]
    for n in range(200):
        stamp = NS_PER_S + n * NS_PER_S // 20
        pose = np.sin(0.1 * n), np.cos(0.07 * n)
        messages += [command(stamp, *pose), joints(stamp + 1000, *pose)]
        messages[-1].message.effort = np.full(2, np.nan)
        if n % 10 == 0:
            gripper = joints(stamp + 2000, 0.5)
            gripper.message.name = ['finger']
            gripper.message.velocity = gripper.message.effort = np.zeros(1)
            messages.append(gripper)
    text, lacking = draft(write(tmp_path / 'bag', sorted(messages, key=lambda m: m.logged)))
    assert lacking == []
    robot = Contract.parse(yaml.safe_load(text))
    assert (robot.action.kind, robot.stop.mode) == ('position', 'hold')
    assert robot.action.names == ('shoulder', 'elbow')
    assert robot.state is not None
    assert not any(path.startswith('effort') for path in robot.state.fields)


def test_the_draft_of_a_recording_with_a_wide_compressed_camera(tmp_path, capsys):
    """A draft names image size and centre crop, fixes constant dimensions and fits its bag."""
    jpeg = cv2.imencode('.jpg', np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    messages = [item for item in drive() if item.type != 'sensor_msgs/msg/Image']
    for item in messages:
        if item.type == 'std_msgs/msg/Float64MultiArray':
            item.message.data = np.append(item.message.data, 0.25)
    images = [compressed(n * NS_PER_S // 20 + 10 * NS_PER_S, jpeg) for n in range(9)]
    bag = write(tmp_path / 'My bag', [*messages, *images])
    assert main(['check', '--draft', str(bag)]) == 0
    said = capsys.readouterr().out
    assert 'name: my_bag' in said
    assert '# 64 x 48; crop: [8, 0, 48, 48] is the square in the middle' in said
    assert "  fixed: {'data[2]': 0.25}  # constant in the bag" in said
    assert "fields: ['data[0]', 'data[1]']" in said
    (tmp_path / 'mine.yaml').write_text(said)
    assert main(['check', str(tmp_path / 'mine.yaml'), '--data', str(bag)]) == 0


def test_a_joint_that_moves_late_in_a_long_bag_is_a_dimension(tmp_path):
    """Commands at 500 Hz are sampled over the whole bag; the drafted control rate is lower."""
    messages = [frame(NS_PER_S + n * NS_PER_S // 20, noise(n)) for n in range(5)]
    for n in range(25_000):
        late = 1.5 * np.sin(0.01 * n) if n > 22_500 else 0.0
        messages.append(command(NS_PER_S + n * NS_PER_S // 500, np.sin(0.01 * n), late))
    path = write(tmp_path / 'bag', sorted(messages, key=lambda m: m.logged))
    text, lacking = draft(path)
    robot = Contract.parse(yaml.safe_load(text))
    assert lacking == []
    assert robot.action.fields == ('data[0]', 'data[1]')
    assert robot.action.high[1] == pytest.approx(1.5, abs=0.1)
    assert robot.rates.control == 30.0
    assert '# a plan takes longer than a block at 500 Hz' in text


@pytest.mark.parametrize('ticks', [1, 8])
def test_a_drafted_position_arm_moves_as_fast_as_recorded(tmp_path, ticks):
    """Positions get the changes in a control period as `max_step`; joints that stay are held.

    Commands at 240 Hz are for a control rate of 30 Hz.
    """
    messages = [frame(NS_PER_S + n * NS_PER_S // 20, noise(n)) for n in range(5)]
    for n in range(200 * ticks):
        stamp = NS_PER_S + n * NS_PER_S // (30 * ticks)
        pose = np.sin(0.1 * n / ticks), 1.57, np.cos(0.07 * n / ticks)
        done = joints(stamp + 1000, *pose[:2])
        done.message.name = ['a', 'b', 'c']
        done.message.position = np.array(pose)
        done.message.velocity = done.message.effort = np.zeros(3)
        messages += [command(stamp, *pose), done]
    text, _ = draft(write(tmp_path / 'bag', sorted(messages, key=lambda m: m.logged)))
    robot = Contract.parse(yaml.safe_load(text))
    assert robot.action.kind == 'position'
    assert robot.action.fields == ('data[0]', 'data[2]')
    assert robot.action.fixed == {'data[1]': 1.57}
    assert robot.action.max_step == pytest.approx((0.1, 0.07), rel=0.05)
    assert robot.rates.control == 30.0
    assert robot.remarks() == []


def test_what_a_bag_lacks_is_named_after_its_topics(tmp_path, capsys):
    """A bag that lacks what a draft needs gives status 2, its topics and what is missing."""
    bag = write(tmp_path / 'bag', [joints(NS_PER_S * n, float(n)) for n in range(1, 4)])
    assert main(['check', '--draft', str(bag)]) == 2
    output = capsys.readouterr()
    assert '/joint_states' in output.out
    assert 'no camera: no message of sensor_msgs/msg/Image' in output.err
    # An arm that is commanded in another way: what it measures is no command.
    assert 'by its name, /lewm/joint_states is measured' in output.err
    still = [item for item in drive() if item.type != 'std_msgs/msg/Float64MultiArray']
    command = next(item for item in drive() if item.type == 'std_msgs/msg/Float64MultiArray')
    bag = write(tmp_path / 'still', [*still, command])
    assert main(['check', '--draft', str(bag)]) == 2
    assert f'all messages on {command.topic} are equal' in capsys.readouterr().err


@pytest.mark.parametrize('arguments', [[], ['reacher', '--draft', 'bag']])
def test_a_contract_or_a_bag_to_draft_one_from(capsys, arguments):
    """`lewm check` takes a contract or --draft: neither and both are rejected."""
    assert main(['check', *arguments]) == 2
    assert 'expected a contract, or --draft with a bag' in capsys.readouterr().err


@pytest.mark.parametrize('name', ['2026-11-29', 'on'])
def test_a_bag_may_be_named_like_another_value_of_yaml(tmp_path, name):
    """A date is a number in YAML, and `on` is true: the contract's name is text."""
    text, _ = draft(write(tmp_path / name, drive()))
    assert Contract.parse(yaml.safe_load(text)).name == name.replace('-', '_')


def test_names_in_a_bag_cannot_break_the_file(tmp_path):
    """Names in a bag cannot break the YAML: they are quoted, and comments stay on their line."""
    messages = drive()
    for item in messages:
        if item.type == 'sensor_msgs/msg/JointState':
            item.message.name = ['a: b #c', 'x\ny'][: len(item.message.position)]
    odd = [Recorded('/odd\nname: evil', m.type, m.logged, m.message) for m in messages[-1:]]
    text, _ = draft(write(tmp_path / 'bag', [*messages, *odd]))
    assert yaml.safe_load(text)['name'] == 'bag'


@pytest.mark.parametrize('data', [b'', b'\1\2\3'])
def test_a_broken_first_depth_image_is_passed_over(tmp_path, data):
    """A broken first depth image is skipped: the scale is the next one's largest value."""
    messages = drive()
    images = [m.message for m in messages if m.type == 'sensor_msgs/msg/Image']
    for image in images:
        image.encoding, image.step = '16UC1', 2 * image.width
        image.data = np.full(image.height * image.width, 1234, np.uint16).view(np.uint8)
    images[0].data = np.frombuffer(data, np.uint8)
    text, _ = draft(write(tmp_path / 'bag', messages))
    assert yaml.safe_load(text)['camera']['scale'] == 1234.0
