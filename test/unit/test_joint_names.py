# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Joints are read and written by name in any order, by index only in one order."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from recordings import Recorded, drive, write

from lewm_ros.bags.check import check_bag
from lewm_ros.bags.delay import DelayEstimate
from lewm_ros.bags.draft import draft
from lewm_ros.bags.episodes import ReadReport, read_episodes
from lewm_ros.bags.messages import command
from lewm_ros.errors import BagError, ConfigError, ObservationError
from lewm_ros.evaluation.planability import _states
from lewm_ros.robot.contract import Channel, Contract
from lewm_ros.robot.fields import JointOrder, read_command, read_fields, write_fields
from lewm_ros.time import NS_PER_S
from lewm_ros.training.windows import load_windows

JOINT_STATE = 'sensor_msgs/msg/JointState'
TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
BY_NAME = ('position[shoulder]', 'position[elbow]')
BY_PLACE = ('position[0]', 'position[1]')


def state(names: list[str], positions: list[float]) -> object:
    """A JointState."""
    message = command(Channel('joints', JOINT_STATE, BY_NAME), (), np.zeros(2))
    message.name, message.position = names, np.array(positions)
    return message


def test_joints_are_read_by_name_in_any_order() -> None:
    """Joints are read by name in any order, whatever else the message lists."""
    for names, values in ((['shoulder', 'elbow'], [1, 2]), (['elbow', 'x', 'shoulder'], [2, 9, 1])):
        assert read_fields(state(names, values), BY_NAME).tolist() == [1.0, 2.0]
    with pytest.raises(
        ObservationError, match="a .*JointState.* of gripper has no joint 'shoulder'"
    ):
        read_command(state(['gripper'], [0.0]), BY_NAME)
    with pytest.raises(ConfigError, match=r"no number at 'velocity\[elbow\]'"):
        read_fields(state(['elbow'], [1.0]), ('velocity[elbow]',))


@pytest.mark.parametrize('kind', [JOINT_STATE, TRAJECTORY])
def test_joints_are_written_by_name(kind: str) -> None:
    """A command names its joints in the contract's order; a given message keeps its own order."""
    prefix = '' if kind == JOINT_STATE else 'points[0].'
    array = 'position' if kind == JOINT_STATE else 'positions'
    paths = tuple(f'{prefix}{array}[{joint}]' for joint in ('elbow', 'shoulder'))
    message = command(Channel('c', kind, paths), ('a', 'b'), np.array([0.5, -0.5]))
    names = message.name if kind == JOINT_STATE else message.joint_names
    assert list(names) == ['elbow', 'shoulder']
    assert read_fields(message, paths).tolist() == [0.5, -0.5]
    listed = state(['shoulder', 'elbow'], [1.0, 2.0])
    write_fields(listed, ('position[elbow]',), np.array([7.0]))
    assert list(listed.position) == [1.0, 7.0]  # type: ignore[attr-defined]


def test_places_keep_to_one_order() -> None:
    """By index, a message in another order is rejected; by name, any order is accepted."""
    order = JointOrder(BY_PLACE)
    order.check(state(['shoulder', 'elbow'], [1, 2]))
    with pytest.raises(
        ObservationError, match=r'listed as elbow, shoulder, before as shoulder, elb'
    ):
        order.check(state(['elbow', 'shoulder'], [2, 1]))
    order.check(state(['shoulder', 'elbow'], [1, 2]))
    trained = JointOrder(BY_PLACE, ('elbow', 'shoulder'))
    with pytest.raises(ObservationError, match='before as elbow, shoulder'):
        trained.check(state(['shoulder', 'elbow'], [1, 2]))
    by_name = JointOrder(BY_NAME)
    for names in (['shoulder', 'elbow'], ['elbow', 'shoulder'], ['gripper']):
        by_name.check(state(names, [0.0] * len(names)))


@pytest.mark.parametrize(
    ('kind', 'fields', 'text'),
    [
        ('std_msgs/msg/Float64MultiArray', ['data[elbow]'], 'has no joint names'),
        (JOINT_STATE, ['position[elbow]', 'position[0]'], 'indices: name all joints'),
        (JOINT_STATE, ['position[my elbow]'], r"state.fields has 'position\[my elbow\]'"),
        (TRAJECTORY, ['points[elbow].positions[0]'], 'expected a path such as'),
    ],
)
def test_names_where_there_are_none_are_refused(kind: str, fields: list[str], text: str) -> None:
    """Joint names in a field of a message without names are rejected with what is expected."""
    with pytest.raises(ConfigError, match=text):
        Channel('topic', kind, tuple(fields))


def shuffled() -> list[Recorded]:
    """A recording whose second episode lists the joints in reverse order."""
    messages = drive()
    for item in messages:
        if item.type == JOINT_STATE and item.logged > 15 * NS_PER_S:
            item.message.name = item.message.name[::-1]
            item.message.position = item.message.position[::-1].copy()
    return messages


@pytest.fixture
def robot(reacher_contract: Contract) -> Contract:
    """The arm, whose state is positions only."""
    assert reacher_contract.state is not None
    return replace(reacher_contract, state=replace(reacher_contract.state, fields=BY_PLACE))


def test_a_bag_of_two_orders(tmp_path: Path, robot: Contract) -> None:
    """By name, states in both orders are right; by index, the second order is left out."""
    bag = write(tmp_path / 'bag', shuffled())
    report = ReadReport()
    _, second = read_episodes([bag], robot, 16, report)
    assert second.states is None
    refused = [text for text in report.refused if 'listed as elbow, shoulder' in text]
    assert [report.refused[text] for text in refused] == [30]
    (problem,) = check_bag(bag, robot).problems
    assert 'joint_states: joints of a' in problem
    assert robot.state is not None
    named = replace(robot, state=replace(robot.state, fields=BY_NAME))
    report = ReadReport()
    for number, part in enumerate(read_episodes([bag], named, 16, report), 1):
        assert part.states[:, 0].tolist() == list(range(30))
        assert (part.states[:, 1] == number).all()
    assert not report.refused
    assert check_bag(bag, named).problems == []


def test_two_bags_of_two_orders_are_not_trained_on(tmp_path: Path, robot: Contract) -> None:
    """Bags with different joint orders can be trained on by name, but not by index.

    Each is right by itself; together their states would mean two things.
    """
    messages = drive()
    first = write(tmp_path / 'first', messages)
    for item in messages:
        if item.type == JOINT_STATE:
            item.message.name = item.message.name[::-1]
    second = write(tmp_path / 'second', messages)
    assert robot.state is not None
    named = replace(robot, state=replace(robot.state, fields=BY_NAME))
    for contract in (named, robot):
        for bag in (first, second):
            assert check_bag(bag, contract).problems == []
    assert len(load_windows([first, second], named, 16, 1, 2, tmp_path / 'cache').bags) == 2
    report = ReadReport()
    *_, last = read_episodes([first, second], robot, 16, report)
    assert last.states is None
    assert [n for text, n in report.refused.items() if 'as elbow, shoulder, before' in text]
    said = (
        r'bag .*/second lists the joints of state as elbow, shoulder, .*/first as shoulder, elbow'
    )
    with pytest.raises(BagError, match=said):
        load_windows([first, second], robot, 16, 1, 2, tmp_path / 'cache')


def test_a_cropped_camera_has_one_mode(tmp_path: Path, robot: Contract) -> None:
    """A crop is in pixels of the raw image: with frames of another size it shows another view.

    Without one, two sizes of the same aspect ratio are the same view.
    """
    paths = [write(tmp_path / str(side), drive(size=side)) for side in (16, 32)]
    cropped = replace(robot, camera=replace(robot.camera, crop=(0, 0, 8, 8)))
    assert len(load_windows(paths, robot, 16, 1, 2, tmp_path / 'cache').bags) == 2
    said = r'/32 has images of 32x32 pixels, those of bag .*/16 were 16x16: expected the same size'
    with pytest.raises(BagError, match=said):
        load_windows(paths, cropped, 16, 1, 2, tmp_path / 'cache')
    report = ReadReport()
    assert len(list(read_episodes(paths, cropped, 16, report))) == report.episodes
    (reason,) = report.refused
    assert reason.startswith('image is 32x32 pixels, the first was 16x16: expected the same size')


def test_a_draft_leaves_out_messages_of_other_joints(tmp_path: Path) -> None:
    """A draft ignores messages of other joints, such as a gripper's on the same topic."""
    messages = drive()
    for item in messages[40:]:
        if item.type == JOINT_STATE:
            item.message.name, item.message.position = ['gripper'], np.zeros(1)
    text, lacking = draft(write(tmp_path / 'bag', messages))
    assert not lacking
    assert 'position[shoulder]' in text


def test_a_state_that_is_never_finite_is_said_and_left_out(tmp_path: Path, robot: Contract) -> None:
    """A state that is never finite is reported, and left out of the delay and of metrics."""
    period = NS_PER_S // 20
    messages = drive(frames=200, episodes=1)
    rng = np.random.default_rng(0)
    commanded = np.cumsum(rng.normal(size=400))
    for item in messages:
        place = (item.logged - 10 * NS_PER_S) // period
        if item.type == JOINT_STATE:
            item.message.position = np.array([commanded[place + 96], np.nan])
        if item.type == 'std_msgs/msg/Float64MultiArray':
            item.message.data = np.array([commanded[place + 100], 0.1])
    action = replace(robot.action, kind='position')
    robot = replace(robot, action=action, stop=replace(robot.stop, mode='hold'))
    report = ReadReport()
    (part,) = read_episodes([write(tmp_path / 'bag', messages)], robot, 16, report)
    assert report.refused == {'state position[1] is not finite': 200}
    estimate = DelayEstimate(robot)
    estimate.add(part)
    found = estimate.result()
    assert (found.action, found.motion) == (robot.action.names[0], 'position[0]')
    assert found.seconds == pytest.approx(0.15, abs=0.05)
    latents = part.states[:, :1]
    fields = _states(robot, [(part, latents), (part, latents)], 0.1, rng)
    assert [field.name for field in fields] == ['position[0]']
