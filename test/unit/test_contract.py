# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The robot contract: what it accepts and rejects, and what a bundle binds of it."""

from __future__ import annotations

import copy
from dataclasses import replace
import json
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from lewm_ros.errors import ConfigError
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.fields import read_fields, write_fields

ARM = {
    'name': 'arm',
    'camera': {'topic': 'camera/image', 'crop': [2, 4, 60, 60]},
    'action': {
        'topic': 'action',
        'type': 'std_msgs/msg/Float64MultiArray',
        'fields': ['data[0]', 'data[1]'],
        'names': ['shoulder', 'elbow'],
        'units': ['rad', 'rad'],
        'kind': 'position',
        'low': [-1, -2.5],
        'high': [1, 2.5],
        'max_step': [0.1, 0.2],
        'delay': 0.02,
        'executed': {
            'topic': '/arm/applied',
            'type': 'sensor_msgs/msg/JointState',
            'fields': ['position[0]', 'position[1]'],
        },
    },
    'state': {'topic': 'odom', 'type': 'nav_msgs/msg/Odometry', 'fields': ['twist.twist.linear.x']},
    'rates': {'control': 20},
    'stop': {'mode': 'hold', 'observation_timeout': 0.3},
}


def changed(key: str, value: object) -> dict:
    """Copy the contract above with the value at a dotted key replaced."""
    data = copy.deepcopy(ARM)
    *parents, last = key.split('.')
    target = data
    for parent in parents:
        target = target[parent]
    target[last] = value
    return data


def test_contract_is_read_as_written():
    """Every value of the file arrives, lists as tuples and whole numbers as floats."""
    contract = Contract.parse(ARM)
    assert contract.camera.crop == (2, 4, 60, 60)
    assert contract.camera.type == 'sensor_msgs/msg/Image'
    assert contract.action.names == ('shoulder', 'elbow')
    assert contract.action.max_step == (0.1, 0.2)
    assert contract.action.executed.topic == '/arm/applied'
    assert contract.action.size == 2
    assert contract.state.fields == ('twist.twist.linear.x',)
    assert contract.stop.mode == 'hold'
    assert contract.period == pytest.approx(0.05)
    low, high = contract.action.bounds
    np.testing.assert_array_equal(low, [-1.0, -2.5])
    np.testing.assert_array_equal(high, [1.0, 2.5])


def test_optional_parts_have_safe_defaults():
    """Without stop, state, limits of change and crop, the robot stops with zeros after 0.5 s."""
    data = copy.deepcopy(ARM)
    del data['stop'], data['state'], data['camera']['crop']
    del data['action']['max_step'], data['action']['executed'], data['action']['delay']
    data['action']['kind'] = 'effort'
    contract = Contract.parse(data)
    assert (contract.stop.mode, contract.stop.observation_timeout) == ('zero', 0.5)
    assert contract.state is None and contract.camera.crop is None
    assert contract.action.max_step is None and contract.action.executed is None
    assert contract.action.delay == 0.0


def test_round_trip_through_yaml_and_json(tmp_path):
    """A contract equals itself after a round trip through a YAML file or JSON."""
    contract = Contract.parse(ARM)
    path = tmp_path / 'arm.yaml'
    path.write_text(yaml.safe_dump(contract.to_dict()))
    assert Contract.load(path) == contract
    assert Contract.parse(json.loads(json.dumps(contract.to_dict()))) == contract


def test_shipped_contracts_load(reacher_contract):
    """The contract in config/robots parses and describes two torques."""
    assert reacher_contract.action.names == ('shoulder', 'elbow')
    assert reacher_contract.action.units == ('N*m', 'N*m')


@pytest.mark.parametrize(
    ('key', 'value', 'names'),
    [
        ('name', '', ("name is ''",)),
        ('name', 7, ('name is 7',)),
        ('name', None, ("lacks 'name'",)),
        ('camera', None, ("lacks 'camera'",)),
        ('camera', 'image', ("camera is 'image'", 'mapping')),
        ('camera', [{'topic': 'left'}, {'topic': 'right'}], ("'left', 'right'", 'one camera')),
        ('camera.topic', 'has space', ("camera.topic is 'has space'",)),
        ('camera.topic', 'ends/', ("camera.topic is 'ends/'",)),
        ('camera.topic', None, ("camera lacks 'topic'",)),
        ('camera.type', 'sensor_msgs/Image', ("camera.type is 'sensor_msgs/Image'", 'msg/Image')),
        ('camera.crop', [0, 0, 10], ('camera.crop is [0, 0, 10]', 'width')),
        ('camera.crop', [0, 0, 0, 10], ('camera.crop is [0, 0, 0, 10]',)),
        ('camera.crop', [-1, 0, 5, 10], ('camera.crop is [-1, 0, 5, 10]',)),
        ('camera.crop', [0.5, 0, 5, 10], ('camera.crop is [0.5, 0, 5, 10]',)),
        ('camera.crop', 5, ('camera.crop is [5]',)),
        ('camera.scale', 0, ('camera.scale is 0', '[1.0, 65535.0]')),
        ('camera.scale', float('nan'), ('camera.scale is nan',)),
        ('camera.croop', [0, 0, 1, 1], ("unknown key 'croop'", 'crop')),
        ('action', None, ("lacks 'action'",)),
        ('action.topic', 3, ('action.topic is 3',)),
        ('action.type', 'nav_msgs/msg/Odometry', ("action.type is 'nav_msgs/msg/Odometry'",)),
        ('action.fields', ['data[0]', 'data[x]'], ("action.fields has 'data[x]'", 'data[0]')),
        ('action.fields', ['data[0]', 'data[1000]'], ("action.fields has 'data[1000]'",)),
        ('action.fields', [], ('action.fields is []',)),
        ('action.fields', 'data[0]', ("action.fields is 'data[0]'", 'list')),
        ('action.fields', ['data[0]'], ('action.names has 2 entries', 'action.fields has 1')),
        ('action.fields', ['data[0]', 'data[0]'], ('action.fields has duplicates',)),
        ('action.names', ['a'], ('action.names has 1 entries', '2')),
        ('action.names', ['a', 'a'], ("duplicates: ['a', 'a']",)),
        ('action.units', ['rad', ''], ("action.units is ['rad', '']",)),
        ('action.kind', 'torque', ("action.kind is 'torque'", 'effort')),
        ('action.low', [-1], ('action.low has 1 entries',)),
        ('action.low', None, ('action.low has 0 entries',)),
        ('action.low', [-1, float('nan')], ('action.low[1] is nan', 'a number in [-1')),
        ('action.high', [1, float('inf')], ('action.high[1] is inf', 'a number in [-1')),
        ('action.high', [1, 1e10], ('action.high[1] is 10000000000.0',)),
        ('action.high', [1, 'much'], ("action.high[1] is 'much'",)),
        ('action.high', [1, True], ('action.high[1] is True',)),
        ('action.high', [-1, 2.5], ('limits of shoulder', 'low -1.0', 'high -1.0')),
        ('action.max_step', [0.1, 0], ('action.max_step[1] is 0', 'in (0')),
        ('action.max_step', [0.1], ('action.max_step has 1 entries',)),
        ('action.max_step', [], ('action.max_step has 0 entries',)),
        ('action.max_step', [0.1, float('nan')], ('action.max_step[1] is nan', 'in (0')),
        ('action.max_rate', [1, -1], ('action.max_rate[1] is -1', 'in (0')),
        ('action.max_rate', [1], ('action.max_rate has 1 entries',)),
        ('action.max_rate', [1, float('inf')], ('action.max_rate[1] is inf', 'in (0')),
        ('action.delay', -0.1, ('action.delay is -0.1', '[0.0, 1.0]')),
        ('action.delay', float('nan'), ('action.delay is nan',)),
        ('action.delay', '20ms', ("action.delay is '20ms'",)),
        ('action.hold', 0, ('action.hold is 0', 'in (0.0, 3600.0]')),
        ('action.hold', float('nan'), ('action.hold is nan',)),
        ('action.hold', 0.049, ('action.hold is 0.049', 'rates.control is 20.0', '0.05')),
        ('action.stamp', 'now', ("action.stamp is 'now'", "['header', 'log']")),
        ('action.executed.stamp', 1, ('action.executed.stamp is 1',)),
        ('camera.stamp', 'logged', ("camera.stamp is 'logged'", "['header', 'log']")),
        ('state.stamp', '', ("state.stamp is ''",)),
        ('action.executed.topic', 'a b', ("action.executed.topic is 'a b'",)),
        ('action.executed.type', 'Joints', ("action.executed.type is 'Joints'",)),
        ('action.executed.fields', ['data[0]'], ('action.executed.fields has 1 entries',)),
        ('action.executed.tolerance', [0.1], ('action.executed.tolerance has 1 entries',)),
        ('action.executed.tolerance', [0.1, 0], ('executed.tolerance[1] is 0', 'in (0')),
        ('action.executed.tolerance', [1, float('nan')], ('tolerance[1] is nan', 'in (0')),
        ('action.speed', 1, ("action has unknown key 'speed'",)),
        ('state.topic', '', ("state.topic is ''",)),
        ('state.fields', ['Linear.x'], ("state.fields has 'Linear.x'",)),
        ('rates.control', 0, ('rates.control is 0', '[0.1, 1000.0]')),
        ('rates.control', True, ('rates.control is True',)),
        ('rates.control', float('nan'), ('rates.control is nan',)),
        ('rates.control', None, ("rates lacks 'control'",)),
        ('rates', [20], ('rates is [20]', 'mapping')),
        ('stop.mode', 'brake', ("stop.mode is 'brake'", 'zero')),
        ('stop.observation_timeout', 0, ('stop.observation_timeout is 0',)),
        ('action.kind', 'velocity', ('stop.mode is hold', 'action.kind is velocity', 'zero')),
        ('planner', 'cem', ("contract has unknown key 'planner'",)),
    ],
)
def test_wrong_value_is_refused_with_key_and_value(key, value, names):
    """Each invalid entry raises a ConfigError with the key, the value and what is expected."""
    with pytest.raises(ConfigError) as caught:
        Contract.parse(changed(key, value))
    for name in names:
        assert name in str(caught.value)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('data', [None, [], 'text', 3])
def test_contract_that_is_no_mapping_is_refused(data):
    """A file that does not hold a mapping is rejected as such."""
    with pytest.raises(ConfigError, match='expected a mapping'):
        Contract.parse(data)


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (None, 'No such file'),
        (b'name: [', 'not YAML'),
        (b'\xff\xfe\x00', 'not YAML'),
        (b'name: arm\n', "lacks 'camera'"),
    ],
)
def test_unreadable_file_is_named_in_one_line(tmp_path, content, reason):
    """A missing, broken or incomplete file gives one line with its path and the reason."""
    path = tmp_path / 'arm.yaml'
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        Contract.load(path)
    assert str(path) in str(caught.value)
    assert reason in str(caught.value)
    assert '\n' not in str(caught.value)


def test_bundle_binds_only_what_the_model_learnt_from():
    """Topics, types, stop, delay and tighter limits may differ from the trained contract."""
    trained = Contract.parse(ARM)
    data = changed('action.topic', '/other/command')
    data['camera'].update(topic='/usb_cam/image', type='sensor_msgs/msg/CompressedImage')
    data['action'].update(low=[-0.5, -2.5], high=[0.5, 2.0], delay=0.0, executed=None)
    data['stop'] = {'mode': 'hold', 'observation_timeout': 1.0}
    data.update(name='other', state=None)
    Contract.parse(data).check_against_bundle(trained)


@pytest.mark.parametrize(
    ('key', 'value', 'names'),
    [
        ('camera.crop', None, ('camera.crop is null', '[2, 4, 60, 60]')),
        ('camera.crop', [0, 0, 60, 60], ('camera.crop is [0, 0, 60, 60]', '[2, 4, 60, 60]')),
        ('camera.scale', 4000, ('camera.scale is 4000.0 in the contract', 'null in the bundle')),
        ('action.names', ['elbow', 'shoulder'], ("['elbow', 'shoulder']", "['shoulder', 'elbow']")),
        ('action.units', ['deg', 'rad'], ("action.units is ['deg', 'rad']", "['rad', 'rad']")),
        ('camera.order', 'bgr', ('camera.order is bgr', 'null')),
        ('rates.control', 10, ('rates.control is 10.0', '20.0')),
        ('action.low', [-1, -3], ('limits of elbow', '[-3.0, 2.5]', '[-2.5, 2.5]', 'tighter')),
        ('action.high', [1.5, 2.5], ('limits of shoulder', '[-1.0, 1.5]', '[-1.0, 1.0]')),
    ],
)
def test_disagreement_with_bundle_names_both_values(key, value, names):
    """What the bundle binds must be equal; the error names the given and the trained value."""
    with pytest.raises(ConfigError) as caught:
        Contract.parse(changed(key, value)).check_against_bundle(Contract.parse(ARM))
    for name in names:
        assert name in str(caught.value)


def test_positions_do_not_run_a_bundle_of_efforts():
    """The numbers of a bundle mean what they meant in training."""
    data = changed('action.kind', 'velocity')
    data['stop'] = {'mode': 'zero'}
    with pytest.raises(ConfigError, match='kind is position in the contract but velocity'):
        Contract.parse(ARM).check_against_bundle(Contract.parse(data))


def test_the_kind_must_be_stated():
    """A position robot taken for one of efforts would be stopped by the pose zero."""
    data = copy.deepcopy(ARM)
    del data['action']['kind']
    with pytest.raises(ConfigError, match=r"action\.kind is '': expected one of"):
        Contract.parse(data)


@pytest.mark.parametrize(
    ('fields', 'fixed'),
    [
        (['position[0]', 'position[1]'], {'position[gripper]': 0.9}),
        (['position[shoulder]', 'position[elbow]'], {'position[0]': 0.9}),
    ],
)
def test_fixed_numbers_are_named_as_the_others_are(fields, fixed):
    """A joint named beside indices would be written to the first place of the message."""
    data = changed('action.fields', fields)
    data['action'] |= {'type': 'sensor_msgs/msg/JointState', 'kind': 'position', 'fixed': fixed}
    with pytest.raises(ConfigError, match='action.fixed .* mixes joint names and indices'):
        Contract.parse(data)


@pytest.mark.parametrize(
    ('fields', 'fixed', 'says'),
    [
        (['data[0]', 'data[2]'], None, r'action\.fields lacks data\[1\]: the message would have 0'),
        (['data[0]', 'data[3]'], {'data[1]': 1.0}, r'action\.fields lacks data\[2\]: the message'),
        (['data[0]', 'data[1]'], {'data[1]': 1.0}, r'action\.fixed has data\[1\], which is in'),
        (['data[0]', 'data[1]'], {'data[2]': 'far'}, r"action\.fixed\[0\] is 'far'"),
        (['data[0]', 'data[1]'], [1.0], r'action\.fixed is \[1\.0\]: expected numbers by path'),
        (
            ['data[0]', 'data[1]'],
            {'data(2)': 1.0},
            r"action\.fixed has 'data\(2\)': expected a path",
        ),
    ],
)
def test_an_array_has_no_gaps(fields, fixed, says):
    """A number that nobody gives would be sent as 0, which is a pose."""
    data = changed('action.fields', fields)
    data['action']['fixed'] = fixed
    with pytest.raises(ConfigError, match=says):
        Contract.parse(data)


def test_fixed_numbers_are_kept_and_without_them_a_bundles_hash_stays():
    """Fixed numbers are kept; without them the key is absent, so old hashes stay valid."""
    given = Contract.parse(changed('action.fixed', {'data[2]': 1.57}))
    assert Contract.parse(given.to_dict()) == given
    assert 'fixed' not in Contract.parse(ARM).to_dict()['action']


@pytest.mark.parametrize(
    ('type_name', 'path', 'kind'),
    [
        ('trajectory_msgs/msg/JointTrajectory', 'points[0].positions', 'position'),
        ('trajectory_msgs/msg/JointTrajectory', 'points[0].velocities', 'velocity'),
        ('sensor_msgs/msg/JointState', 'position', 'position'),
        ('sensor_msgs/msg/JointState', 'effort', 'effort'),
    ],
)
def test_the_kind_is_that_of_the_array(type_name, path, kind):
    """Positions of kind effort would be stopped by the command zero, a pose."""
    data = copy.deepcopy(ARM)
    fields = [f'{path}[shoulder]', f'{path}[elbow]']
    data['action'] |= {'type': type_name, 'fields': fields, 'max_step': None}
    for given in ('position', 'velocity', 'effort'):
        data['action']['kind'] = given
        data['stop'] = {'mode': 'hold' if given == 'position' else 'zero'}
        if given == kind:
            assert Contract.parse(data).action.kind == kind
        else:
            with pytest.raises(ConfigError, match=f'kind is {given}, but .* is of kind {kind}'):
                Contract.parse(data)


def test_a_scale_is_kept_and_without_one_a_bundles_hash_stays():
    """A scale is kept; without one the key is absent, so hashes of old bundles stay valid."""
    scaled = Contract.parse(changed('camera.scale', 4000))
    assert Contract.parse(scaled.to_dict()) == scaled
    assert 'scale' not in Contract.parse(ARM).to_dict()['camera']


def test_the_hash_is_of_what_a_contract_says():
    """Equal contracts have equal hashes, whatever the order of keys; other values change it."""
    contract = Contract.parse(ARM)
    assert Contract.parse(dict(reversed(ARM.items()))).hash == contract.hash
    assert Contract.parse(contract.to_dict()).hash == contract.hash
    assert Contract.parse(changed('action.high', [0.5, 1.0])).hash != contract.hash
    assert Contract.parse(changed('stop.observation_timeout', 0.4)).hash != contract.hash


def test_a_rate_and_a_tolerance_are_kept_and_without_them_a_bundles_hash_stays():
    """Rates and tolerances are kept; without them the keys are absent, so old hashes stay valid."""
    for section, key in (('action', 'max_rate'), ('action.executed', 'tolerance')):
        given = Contract.parse(changed(f'{section}.{key}', [1, 2]))
        assert Contract.parse(given.to_dict()) == given
        assert given.hash != Contract.parse(ARM).hash
    action = Contract.parse(ARM).to_dict()['action']
    assert 'max_rate' not in action and 'tolerance' not in action['executed']


def test_what_stamps_and_a_hold_say_is_kept_and_without_them_a_bundles_hash_stays():
    """``stamp`` and ``hold`` are kept, absent by default, and may differ from the bundle."""
    for section in ('camera', 'action', 'action.executed', 'state'):
        given = Contract.parse(changed(f'{section}.stamp', 'log'))
        assert Contract.parse(given.to_dict()) == given
        given.check_against_bundle(Contract.parse(ARM))
    assert 'stamp' not in json.dumps(Contract.parse(ARM).to_dict())
    held = Contract.parse(changed('action.hold', 0.5))
    assert held.action.hold == 0.5 and Contract.parse(held.to_dict()) == held
    held.check_against_bundle(Contract.parse(ARM))
    assert 'hold' not in Contract.parse(ARM).to_dict()['action']


def test_contract_cannot_be_changed_in_place():
    """A contract is immutable, and a changed copy is validated again."""
    contract = Contract.parse(ARM)
    with pytest.raises(AttributeError):
        contract.name = 'other'
    with pytest.raises(ConfigError, match='low 3'):
        replace(contract.action, low=(3.0, 3.0))


def twist_stamped() -> SimpleNamespace:
    """A message object of the shape of geometry_msgs/TwistStamped."""
    linear = SimpleNamespace(x=0.5, y=-1.0, z=0.0)
    return SimpleNamespace(twist=SimpleNamespace(linear=linear), data=np.array([1.0, 2.0, 3.0]))


def test_fields_are_read_by_path_in_contract_order():
    """Numbers come in the order of the paths, from nested fields and from sequences."""
    values = read_fields(twist_stamped(), ('data[2]', 'twist.linear.y', 'data[0]'))
    np.testing.assert_array_equal(values, [3.0, -1.0, 1.0])
    assert values.dtype == np.float64


@pytest.mark.parametrize(
    'path', ['twist.angular.z', 'data[3]', 'twist.linear[0]', 'twist.linear', 'data']
)
def test_path_without_a_number_is_named(path):
    """A path that does not lead to a single number is rejected with the message type."""
    with pytest.raises(ConfigError) as caught:
        read_fields(twist_stamped(), (path,))
    assert f"'{path}'" in str(caught.value)
    assert 'SimpleNamespace' in str(caught.value)


def test_written_fields_are_read_back_and_sequences_grow():
    """``write_fields`` fills nested fields and extends sequences; other entries are unchanged."""
    message = twist_stamped()
    message.data = [7.0]
    paths = ('twist.linear.x', 'data[2]')
    write_fields(message, paths, np.array([0.25, 9.0]))
    np.testing.assert_array_equal(read_fields(message, paths), [0.25, 9.0])
    assert message.data == [7.0, 0.0, 9.0]
    assert message.twist.linear.y == -1.0


@pytest.mark.parametrize(
    ('kind', 'low', 'says'),
    [
        ('position', [-1.0, -2.5], 'drive to position zero instead of stopping'),
        ('effort', [0.1, -2.5], 'exclude zero: the robot could not be stopped'),
    ],
)
def test_a_stop_that_would_move_the_robot_is_refused(kind, low, says):
    """Zeros that would move a position robot, or lie outside the limits, are rejected as a stop."""
    data = copy.deepcopy(ARM)
    data['stop'] = {'mode': 'zero'}
    data['action'].update(kind=kind, low=low)
    with pytest.raises(ConfigError, match=says):
        Contract.parse(data)
