# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm check`: all problems of a contract, or of a bag for it, at once."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
import json
from pathlib import Path
import sqlite3

import numpy as np
import pytest
from recordings import MCAP, SQLITE3, command, drive, frame, noise, write, write_mcap
import yaml

from lewm_ros.bags.check import check_contract, lacks_number
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.cli import main
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import ACTION_TYPES, Contract
from lewm_ros.time import NS_PER_S

ROBOTS = Path(__file__).resolve().parents[2] / 'config' / 'robots'


@pytest.fixture
def reacher() -> dict:
    """The data of the simulated arm's contract."""
    return yaml.safe_load((ROBOTS / 'reacher.yaml').read_text())


def checked(capsys, *arguments: object) -> tuple[int, str]:
    """Status and output of the command."""
    status = main(['check', *map(str, arguments)])
    return status, capsys.readouterr().out


def test_every_shipped_contract_fits_its_message_types(capsys):
    """Every shipped contract fits its message types; together they cover all action types."""
    paths = sorted(ROBOTS.glob('*.yaml'))
    for path in paths:
        assert checked(capsys, path.stem) == (0, f'contract {path}: fits\n')
    assert {Contract.load(path).action.type for path in paths} == set(ACTION_TYPES)


def test_all_problems_of_a_contract_are_named_at_once(tmp_path, capsys, reacher):
    """All problems of a contract are listed at once, even if a whole section is missing."""
    reacher['camera'].update(topic='has space', type='Image', croop=None, scale=0)
    reacher['action'].update(low=[1, float('nan')], kind='torque', executed={'topic': 'x'})
    reacher['action']['names'] = []
    reacher['state']['fields'] = ['position[0]', 'Position', '1']
    del reacher['rates']
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(reacher))
    status, said = checked(capsys, path)
    assert status == 2
    assert said.splitlines()[0] == f'contract {path}: 12 problems'
    for text in (
        "contract lacks 'rates'",
        "camera has unknown key 'croop'",
        "camera.topic is 'has space'",
        "camera.type is 'Image'",
        'camera.scale is 0',
        "action.executed lacks 'type'",
        "action.executed lacks 'fields'",
        "action.kind is 'torque'",
        'action.low[1] is nan',
        'action.names is []',
        "state.fields has 'Position'",
        "state.fields has '1'",
    ):
        assert f'  - {text}' in said


def test_values_that_disagree_are_all_named(tmp_path, capsys, reacher):
    """Values that are valid alone but disagree with each other are all named."""
    reacher['action'].update(low=[1, 2], high=[0, 0], units=['N*m'], names=['a', 'a'])
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(reacher))
    status, said = checked(capsys, path)
    assert (status, said.count('\n')) == (2, 5)
    for text in ('duplicates', 'action.units has 1 entries', 'low 1.0, high 0.0', 'low 2.0'):
        assert text in said


def test_positions_that_may_jump_are_noted(tmp_path, capsys, reacher):
    """A position contract without a limit of its changes is valid, with a note."""
    reacher['action'].update(kind='position', max_step=None)
    reacher['stop'] = {'mode': 'hold'}
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(reacher))
    status, said = checked(capsys, path)
    assert status == 0
    assert '  note: action has no max_step and no max_rate: positions may jump' in said
    reacher['action']['max_rate'] = [1.0, 1.0]
    path.write_text(yaml.safe_dump(reacher))
    assert 'note' not in checked(capsys, path)[1]


@pytest.mark.parametrize(
    ('kind', 'path', 'reason'),
    [
        ('std_msgs/msg/Float64MultiArray', 'data[3]', None),
        ('std_msgs/msg/Float64MultiArray', 'data', 'data is a list'),
        ('std_msgs/msg/Float64MultiArray', 'values[0]', 'has no values; it has layout, data'),
        ('geometry_msgs/msg/Twist', 'linear.x', None),
        ('geometry_msgs/msg/Twist', 'linear', 'name one of its numbers'),
        ('geometry_msgs/msg/Twist', 'linear[0]', 'linear is not a list'),
        ('geometry_msgs/msg/Twist', 'linear.x.y', 'a number has no y'),
        ('geometry_msgs/msg/TwistStamped', 'linear.x', 'has no linear; it has header, twist'),
        ('geometry_msgs/msg/TwistStamped', 'header.frame_id', 'is a string'),
        ('trajectory_msgs/msg/JointTrajectory', 'points[0].positions[5]', None),
        ('trajectory_msgs/msg/JointTrajectory', 'points.positions[5]', 'points is a list'),
        ('nav_msgs/msg/Odometry', 'pose.covariance[35]', None),
        ('nav_msgs/msg/Odometry', 'pose.covariance[36]', 'has 36 entries'),
    ],
)
def test_a_field_must_be_a_number_of_the_type(kind, path, reason):
    """A field path must lead to a number of the message type; no bag or robot is needed."""
    found = lacks_number(kind, path)
    assert found is None if reason is None else reason in found


def test_a_field_that_the_type_lacks_is_a_problem_of_the_contract(tmp_path, reacher):
    """A field that the type lacks is named, such as a Twist's path with a TwistStamped."""
    reacher['action'].update(
        type='geometry_msgs/msg/TwistStamped', fields=['linear.x', 'angular.z']
    )
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(reacher))
    contract, problems = check_contract(path)
    assert contract is not None
    assert len(problems) == 2
    assert problems[0].startswith(
        "action.fields has 'linear.x': geometry_msgs/msg/TwistStamped has"
    )


@pytest.mark.parametrize('storage', [MCAP, SQLITE3])
def test_a_bag_that_fits_shows_what_is_taken_for_what(tmp_path, capsys, storage):
    """For a bag that fits, every topic is listed with role and count, used or not."""
    extra = replace(frame(5, noise(1)), topic='/other/image')
    bag = write(tmp_path / 'bag', [*drive(5, 2), extra], storage)
    status, said = checked(capsys, 'reacher', '--data', bag)
    assert status == 0
    rows = [line.split() for line in said.splitlines()[2:]]
    assert rows == [
        ['topic', 'type', 'role', 'count'],
        ['/lewm/action', 'std_msgs/msg/Float64MultiArray', 'action', '10'],
        ['/lewm/camera/image', 'sensor_msgs/msg/Image', 'camera', '10'],
        ['/lewm/episode', 'std_msgs/msg/UInt32', 'episode', '2'],
        ['/lewm/joint_states', 'sensor_msgs/msg/JointState', 'state', '10'],
        ['/other/image', 'sensor_msgs/msg/Image', '1'],
    ]


def test_what_a_bag_lacks_is_named_with_what_it_has(tmp_path, capsys):
    """A missing topic is reported with those of its type, a wrong type with the bag's."""
    image = replace(frame(NS_PER_S, noise(1)), topic='/usb_cam/image_raw')
    twist = command(NS_PER_S, 0, 0)
    messages = [image, replace(twist, topic='/lewm/joint_states')]
    bag = write(tmp_path / 'bag', messages)
    status, said = checked(capsys, 'reacher', '--data', bag, '--json')
    (report,) = json.loads(said)['bags']
    assert status == 2
    assert report['problems'] == [
        'camera.topic camera/image (sensor_msgs/msg/Image): not in the bag; topics of this '
        'type: /usb_cam/image_raw',
        'action.topic action (std_msgs/msg/Float64MultiArray): not in the bag; topics of this '
        'type: /lewm/joint_states',
        'state.topic joint_states (sensor_msgs/msg/JointState): its type in the bag is '
        'std_msgs/msg/Float64MultiArray',
    ]
    assert [(t['name'], t['count']) for t in report['topics']] == [
        ('/lewm/joint_states', 1),
        ('/usb_cam/image_raw', 1),
    ]


def test_a_topic_that_is_named_alike_is_another_one(tmp_path, capsys):
    """An absolute name is not the end of another: the type of that one is not the fault."""
    other = replace(command(NS_PER_S, 0, 0), topic='/arm/cmd_vel')
    bag = write(tmp_path / 'bag', [frame(NS_PER_S, noise(1)), other])
    status, said = checked(capsys, 'base_twist', '--data', bag)
    assert status == 2
    there = 'not in the bag, which has /arm/cmd_vel (std_msgs/msg/Float64MultiArray)'
    assert f'action.topic /cmd_vel (geometry_msgs/msg/Twist): {there}' in said


def test_a_topic_in_another_serialisation_is_named_as_such(tmp_path, capsys, reacher_contract):
    """A topic that is not serialised as CDR is reported as such, not as missing."""
    bag = write(tmp_path / 'bag', drive(8, 1), SQLITE3)
    with closing(sqlite3.connect(bag / 'bag.db3')) as database, database:
        database.execute(
            "UPDATE topics SET serialization_format = 'protobuf' WHERE name LIKE '%image'"
        )
    status, said = checked(capsys, 'reacher', '--data', bag)
    assert status == 2
    assert (
        '1 problem\n  - camera.topic camera/image (sensor_msgs/msg/Image): serialised as '
        "'protobuf', expected cdr\n"
    ) in said
    with pytest.raises(BagError, match="topic camera/image is serialised as 'protobuf'"):
        list(read_episodes([bag], reacher_contract, 16))


def test_8uc3_needs_its_order(tmp_path, capsys, caplog, reacher):
    """8UC3 without camera.order is read as RGB with one note; Python nodes mostly mean BGR."""
    messages = drive(8, 1)
    for item in messages:
        if item.topic == '/lewm/camera/image':
            item.message.encoding = '8UC3'
    bag = write(tmp_path / 'bag', messages)
    status, said = checked(capsys, 'reacher', '--data', bag)
    assert status == 0
    assert said.count('note: /lewm/camera/image: image encoding 8UC3 does not state the order') == 1
    images = {}
    for order in (None, 'rgb', 'bgr'):
        reacher['camera']['order'] = order
        caplog.clear()
        (found,) = read_episodes([bag], Contract.parse(reacher), 16)
        images[order] = found.images
        assert len(caplog.records) == (order is None)
    assert (images[None] == images['rgb']).all()
    assert (images['bgr'] == images['rgb'][..., ::-1]).all()


def test_the_first_messages_are_looked_into(tmp_path, capsys, reacher):
    """The first messages are checked, so a wrong crop and short commands are found early."""
    reacher['camera']['crop'] = [0, 0, 64, 64]
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(reacher))
    messages = drive(8, 1)
    for item in messages:
        if item.topic == '/lewm/action':
            item.message.data = np.zeros(1)
    status, said = checked(capsys, path, '--data', write(tmp_path / 'bag', messages))
    assert status == 2
    assert '2 problems' in said
    assert 'camera.crop [0, 0, 64, 64] does not fit an image of 16x16 pixels' in said
    assert "no number at 'data[1]'" in said


def test_every_bag_is_looked_at(tmp_path, capsys, reacher):
    """Every bag is checked, even if others are cut or missing or the contract is invalid."""
    write(tmp_path / 'day' / 'one', drive(5, 1))
    (tmp_path / 'day' / 'two').mkdir()
    cut = tmp_path / 'day' / 'two' / 'two.mcap'
    write_mcap(cut, drive(30, 1), chunk_bytes=5000)
    cut.write_bytes(cut.read_bytes()[:-3000])
    (tmp_path / 'three').mkdir()
    given = ['--data', tmp_path / 'day', tmp_path / 'three', '--data', tmp_path / 'four']
    status, said = checked(capsys, 'reacher', *given)
    assert status == 2
    assert f'bag {tmp_path}/day/one: fits' in said
    assert f'bag {tmp_path}/day/two: fits' in said
    assert 'refused: 1 x two.mcap: ' in said
    assert 'cannot be read as rosbag2 (no .mcap or .db3 file' in said
    assert 'no such file or folder' in said
    del reacher['rates']
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(reacher))
    status, said = checked(capsys, path, *given)
    assert status == 2
    assert '/lewm/camera/image' in said
    assert 'load a valid contract to check whether it fits' in said


def test_a_contract_that_does_not_exist_is_one_line(capsys):
    """A contract that does not exist is reported with the names of those that do."""
    assert main(['check', 'nowhere']) == 2
    assert 'trajectory_arm' in capsys.readouterr().err


def test_a_topic_of_another_namespace_is_named(tmp_path, capsys, reacher):
    """A topic in another namespace is reported with the bag's topic of the right type."""
    bag = write(tmp_path / 'bag', drive(), MCAP)
    reacher['camera']['topic'] = '/elsewhere/camera/image'
    path = tmp_path / 'mine.yaml'
    path.write_text(yaml.safe_dump(reacher))
    status, said = checked(capsys, path, '--data', bag)
    assert status == 2
    (line,) = (text for text in said.splitlines() if 'camera.topic' in text)
    assert 'not in the bag; topics of this type: /' in line
    reacher['camera']['topic'] = '/image'  # only the end of a topic name in the bag
    path.write_text(yaml.safe_dump(reacher))
    status, said = checked(capsys, path, '--data', bag)
    assert status == 2
    assert 'not in the bag; topics of this type: /' in said
