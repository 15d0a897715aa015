# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Conversion between ROS messages and NumPy arrays."""

from __future__ import annotations

from dataclasses import replace

from geometry_msgs.msg import TwistStamped
import numpy as np
import pytest
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image, JointState
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.errors import ObservationError
from lewm_ros.nodes.messages import (
    action_message,
    header,
    image_message,
    message_class,
    plan_message,
    read_action,
    read_plan,
    stamp_of,
    to_ns,
    to_time,
    vector,
    vector_message,
    vectors,
)
from lewm_ros.robot.contract import Action, Executed
from lewm_ros.robot.fields import JointOrder
from lewm_ros.robot.imaging import from_message
from lewm_ros.time import NS_PER_S

PERIOD = NS_PER_S // 20
ACTION = Action(
    topic='action',
    type='std_msgs/msg/Float64MultiArray',
    fields=('data[1]', 'data[0]'),
    names=('shoulder', 'elbow'),
    units=('N*m', 'N*m'),
    kind='effort',
    low=(-1, -1),
    high=(1, 1),
    delay=0.02,
)


def sent(message):
    """Return the message after serialization and deserialization."""
    return deserialize_message(serialize_message(message), type(message))


@pytest.mark.parametrize('stamp', [0, 1, NS_PER_S - 1, 1_795_000_000_123_456_789])
def test_stamps_keep_every_nanosecond(stamp):
    """The round trip from [ns] to builtin_interfaces/Time and back is exact."""
    assert to_ns(to_time(stamp)) == stamp


def test_a_message_without_a_header_has_no_stamp():
    """Its stamp is 0, which means that the receive time is used."""
    assert stamp_of(message_class('std_msgs/msg/Float64MultiArray')()) == 0
    assert stamp_of(Image(header=header(5))) == 5


def test_rows_of_latents_come_back_and_others_are_refused():
    """Any number of finite rows of the latent size is read; a single vector is read as one row."""
    rows = np.arange(12, dtype=np.float32).reshape(3, 4)
    message = sent(vector_message(rows, header(1)))
    assert (message.height, message.width, message.step) == (3, 4, 16)
    assert (vectors(message, 4) == rows).all()
    assert (vectors(vector_message(rows[0], header(1)), 4) == rows[:1]).all()
    with pytest.raises(ObservationError, match='latents are 3x4 32FC1: expected rows of 5'):
        vectors(message, 5)
    with pytest.raises(ObservationError, match='not finite'):
        vectors(vector_message(rows * np.nan, header(1)), 4)


def test_a_latent_keeps_every_bit():
    """A latent (D,) survives serialization as a one-row 32FC1 Image bit by bit."""
    values = np.random.default_rng(0).normal(size=192).astype(np.float32)
    message = sent(vector_message(values, header(3, 'camera')))
    assert (message.height, message.width, message.encoding) == (1, 192, '32FC1')
    assert message.step == 4 * 192 == len(message.data)
    np.testing.assert_array_equal(vector(message, 192), values)


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        ({'width': 7}, '1x7 32FC1: expected 1x8'),
        ({'encoding': '64FC1'}, '64FC1'),
        ({'height': 2}, '2x8'),
        ({'data': b'\0' * 4}, 'cut short'),
        ({'data': np.full(8, np.nan, np.float32).tobytes()}, 'not finite'),
    ],
)
def test_a_latent_of_another_shape_or_not_finite_is_refused(change, reason):
    """A latent of another bundle, a truncated one and one with NaN are each refused."""
    message = vector_message(np.zeros(8), header(1))
    for key, value in change.items():
        setattr(message, key, value)
    with pytest.raises(ObservationError, match=reason):
        vector(message, 8)


def test_an_image_keeps_every_bit():
    """An RGB image survives the conversion to a serialized Image and back."""
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(from_message(sent(image_message(image, header(1)))), image)


@pytest.mark.parametrize(
    ('kind', 'field'),
    [('position', 'positions'), ('velocity', 'velocities'), ('effort', 'effort')],
)
def test_a_plan_survives_the_wire(kind, field):
    """Start, period and commands survive; each action kind uses its own field of the points."""
    action = replace(ACTION, kind=kind)
    commands = np.random.default_rng(0).uniform(-1, 1, (30, 2))
    message = sent(plan_message(5 * NS_PER_S, PERIOD, commands, action))
    assert len(getattr(message.points[0], field)) == 2
    start, period, read = read_plan(message, action, 1)
    assert (start, period) == (5 * NS_PER_S, PERIOD)
    np.testing.assert_array_equal(read, commands)


def test_a_single_command_lasts_a_control_period():
    """A plan of one point has no spacing, so the control period is used."""
    message = plan_message(5, 1, np.zeros((1, 2)), ACTION)
    assert read_plan(message, ACTION, PERIOD)[1] == PERIOD


def spoilt(spoil) -> JointTrajectory:
    message = plan_message(5 * NS_PER_S, PERIOD, np.zeros((3, 2)), ACTION)
    spoil(message)
    return message


@pytest.mark.parametrize(
    ('spoil', 'reason'),
    [
        (lambda m: m.joint_names.reverse(), r"\['elbow', 'shoulder'\]: expected \['shoulder'"),
        (lambda m: m.points.clear(), 'no points'),
        (lambda m: m.points[1].effort.append(0.0), r'\[2, 3\] effort: expected 2'),
        (lambda m: setattr(m.points[2], 'effort', [0.0, float('inf')]), 'not finite'),
        (lambda m: setattr(m.header, 'stamp', to_time(0)), 'no start'),
        (lambda m: setattr(m.points[2].time_from_start, 'sec', 3), 'not evenly spaced'),
        (lambda m: setattr(m.points[1].time_from_start, 'nanosec', 0), 'not evenly spaced'),
    ],
)
def test_a_malformed_plan_is_refused_with_the_reason(spoil, reason):
    """Joint names, sizes, values and times are checked when a plan is read."""
    with pytest.raises(ObservationError, match=reason):
        read_plan(spoilt(spoil), ACTION, PERIOD)


def test_commands_go_where_the_contract_says():
    """Fields may be in any order; reading restores the contract's order and adds the delay."""
    message = sent(action_message(np.array([0.1, 0.2]), ACTION, 7))
    assert list(message.data) == [0.2, 0.1]
    stamp, values = read_action(message, ACTION, received=1000)
    assert stamp == 1000 + 20_000_000
    np.testing.assert_array_equal(values, [0.1, 0.2])


def test_a_stamped_command_counts_from_its_stamp():
    """The header stamp is set when writing and used when reading, unless ``stamp`` is 'log'."""
    action = replace(
        ACTION, type='geometry_msgs/msg/TwistStamped', fields=('twist.linear.x', 'twist.angular.z')
    )
    message = action_message(np.array([0.1, 0.2]), action, 7 * NS_PER_S)
    assert isinstance(message, TwistStamped)
    assert message.twist.angular.z == 0.2
    stamp, _ = read_action(message, action, received=1)
    assert stamp == 7 * NS_PER_S
    stamp, _ = read_action(message, replace(action, stamp='log'), received=1)
    assert stamp == 1 + 20_000_000


def test_fixed_numbers_are_sent_with_every_command():
    """A joint that is no dimension keeps its place in the array, and its name in a JointState."""
    action = replace(ACTION, fields=('data[2]', 'data[0]'), fixed={'data[1]': 1.57, 'data[3]': 2.0})
    message = sent(action_message(np.array([0.1, 0.2]), action, 7))
    assert list(message.data) == [0.2, 1.57, 0.1, 2.0]
    fields, kind = ('effort[shoulder]', 'effort[elbow]'), 'sensor_msgs/msg/JointState'
    action = replace(ACTION, type=kind, fields=fields, fixed={'effort[wrist]': 0.5})
    message = action_message(np.array([0.1, 0.2]), action, 7)
    assert list(message.name) == ['shoulder', 'elbow', 'wrist']
    assert list(message.effort) == [0.1, 0.2, 0.5]


def test_joint_commands_carry_the_names_in_the_order_of_the_message():
    """A JointState names its joints in the order of its fields, as drivers read it by name."""
    action = replace(ACTION, type='sensor_msgs/msg/JointState', fields=('effort[1]', 'effort[0]'))
    message = action_message(np.array([0.1, 0.2]), action, 7)
    assert isinstance(message, JointState)
    assert list(message.name) == ['elbow', 'shoulder']
    assert list(message.effort) == [0.2, 0.1]


def test_a_command_to_a_trajectory_controller_is_one_point_a_period_ahead():
    """Joints are named in field order; the command reads back equal; two points are refused."""
    fields = ('points[0].positions[1]', 'points[0].positions[0]')
    kind = 'trajectory_msgs/msg/JointTrajectory'
    action = replace(ACTION, type=kind, fields=fields, kind='position')
    message = sent(action_message(np.array([0.1, 0.2]), action, 7 * NS_PER_S, 50_000_000))
    assert list(message.joint_names) == ['elbow', 'shoulder']
    (point,) = message.points
    assert list(point.positions) == [0.2, 0.1]
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 50_000_000)
    stamp, values = read_action(message, action, received=1)
    assert stamp == 7 * NS_PER_S
    np.testing.assert_array_equal(values, [0.1, 0.2])
    message.points.append(point)
    with pytest.raises(ObservationError, match='trajectory of 2 points: expected one'):
        read_action(message, action, received=1)


def test_the_command_as_applied_is_read_from_the_robots_own_report():
    """It is read from the fields of ``executed``; another order of joints is refused."""
    report = Executed('applied', 'sensor_msgs/msg/JointState', ('effort[0]', 'effort[1]'))
    action = replace(ACTION, executed=report)
    message = JointState(header=header(7), effort=[0.3, 0.4])
    np.testing.assert_array_equal(read_action(message, action, 1)[1], [0.3, 0.4])
    order = JointOrder(report.fields)
    message.name = ['shoulder', 'elbow']
    read_action(message, action, 1, order)
    message.name = ['elbow', 'shoulder']
    with pytest.raises(ObservationError, match='listed as elbow, shoulder'):
        read_action(message, action, 1, order)


def test_a_command_that_is_not_finite_is_no_history():
    """A NaN in a recorded command is refused: it would corrupt every later context."""
    message = action_message(np.array([np.nan, 0.0]), ACTION, 7)
    with pytest.raises(ObservationError, match='not finite'):
        read_action(message, ACTION, 1)
