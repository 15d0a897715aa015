# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Conversion of recorded MuJoCo trajectories into bags."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import pickle
import re

import numpy as np
import pytest
import yaml

from lewm_ros import cli
from lewm_ros.bags.episodes import ReadReport, read_episodes, recording_command
from lewm_ros.robot.contract import Channel, Contract, Executed
import lewm_ros.sim.reacher
from lewm_ros.sim.reacher import Reacher
from lewm_ros.sim.rendering import load_mujoco
from lewm_ros.time import NS_PER_S

MODEL = Path(lewm_ros.sim.reacher.__file__).parent / 'reacher.xml'
SECONDS = 2.0
SIZE = 48


def run(out, *files, contract='reacher', **changes):
    """Run `lewm collect --mjcf` on files; return the exit status."""
    options = {'mjcf': MODEL, 'camera': 'top', 'image-size': SIZE, 'contract': contract} | changes
    words = ['collect', '--out', out]
    for name, value in options.items():
        words += [] if value is None else [f'--{name}', value]
    words += ['--trajectory', *files] if files else []
    return cli.main([str(word) for word in words])


@pytest.fixture(scope='module')
def rows() -> dict[str, np.ndarray]:
    """Return 2 s of the arm under random torques; each row holds a state and its control."""
    mujoco = load_mujoco()
    model = mujoco.MjModel.from_xml_path(str(MODEL))
    data = mujoco.MjData(model)
    data.qpos[:] = 0.4, -0.8
    rng = np.random.default_rng(5)
    names = {'qpos': 'qpos', 'qvel': 'qvel', 'ctrl': 'ctrl', 'time': 'time'}
    kept: dict[str, list[np.ndarray]] = {name: [] for name in names}
    while data.time < SECONDS + 1e-6:
        data.ctrl[:] = rng.uniform(-1, 1, 2)
        for name in names:
            kept[name].append(np.array(getattr(data, name)))
        mujoco.mj_step(model, data)
    return {name: np.array(values) for name, values in kept.items()}


@pytest.fixture
def save(tmp_path, rows):
    """Return a function that writes .npz files of the rows with changes; None omits an array."""

    def save(name='a.npz', **changes) -> Path:
        arrays = {k: v for k, v in (rows | changes).items() if v is not None}
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return save


def write_contract(path: Path, contract: Contract) -> Path:
    """Save a contract."""
    path.write_text(yaml.safe_dump(contract.to_dict()))
    return path


def test_a_trajectory_comes_back_as_it_was(tmp_path, save, rows, reacher_contract):
    """Commands and states are exact; frames equal the task's own renderings of those states."""
    assert run(tmp_path / 'bag', save()) == 0
    report = ReadReport()
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, SIZE, report)
    assert not report.refused and not report.late
    period = NS_PER_S // 20
    np.testing.assert_array_equal(episode.stamps, NS_PER_S + period * np.arange(41))
    np.testing.assert_array_equal(episode.actions, rows['ctrl'])
    passed = np.round(rows['time'] * NS_PER_S).astype(int)
    np.testing.assert_array_equal(episode.action_stamps, NS_PER_S + passed)
    at = slice(0, None, 10)  # rows come at 200 Hz, frames at 20 Hz
    states = np.concatenate([rows['qpos'][at], rows['qvel'][at]], axis=1)
    np.testing.assert_array_equal(episode.states, states)
    arm = Reacher(image_size=SIZE)
    try:
        for image, state in zip(episode.images, states):
            arm.data.qpos[:], arm.data.qvel[:] = state[:2], state[2:]
            arm._mujoco.mj_forward(arm.model, arm.data)
            np.testing.assert_array_equal(image, arm.render())
    finally:
        arm.close()
    assert len(np.unique(episode.images, axis=0)) == 41
    assert recording_command(tmp_path / 'bag').startswith('lewm ')


def test_a_frame_shows_the_newest_row_at_or_before_it(tmp_path, save, rows, reacher_contract):
    """With rows off the frame grid, a frame shows no future row and no interpolated one."""
    off = slice(3, None, 7)  # 35 ms apart
    part = {name: values[off] for name, values in rows.items()}
    assert run(tmp_path / 'bag', save(**part)) == 0
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, SIZE)
    passed = (episode.stamps - NS_PER_S) / NS_PER_S
    time = part['time'] - part['time'][0]
    newest = [max(np.flatnonzero(time <= t + 1e-6)) for t in passed]
    np.testing.assert_array_equal(episode.states[:, :2], part['qpos'][newest])
    assert len(passed) == int(time[-1] * 20 + 1e-6) + 1


def test_coarse_times_do_not_make_frames_late(tmp_path, save, rows, reacher_contract):
    """With float32 times at the camera rate, each frame shows its own row, not the previous one."""
    part = {name: values[::10] for name, values in rows.items()}
    part['time'] = (part['time'] + 300).astype(np.float32)
    assert run(tmp_path / 'bag', save(**part)) == 0
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, SIZE)
    count = len(episode.stamps)
    assert count in (40, 41)
    np.testing.assert_array_equal(episode.states[:, :2], part['qpos'][:count])


def test_episodes_within_and_across_files(tmp_path, save, rows, reacher_contract):
    """Episodes are split by number, by a time jump back and by file; none runs into another."""
    short = {name: values[:101] for name, values in rows.items()}
    twice = {name: np.concatenate([v, v]) for name, v in short.items()}
    jumps = save('jumps.npz', **twice)
    numbers = np.repeat([7, 3], 101)
    going_on = np.concatenate([short['time'], short['time'] + 0.51])
    numbered = save('numbers.npz', **(twice | {'time': going_on, 'episode': numbers}))
    single = save('single.npz', **short)
    assert run(tmp_path / 'bag', jumps, numbered, single, '--trajectory', single) == 0
    episodes = list(read_episodes([tmp_path / 'bag'], reacher_contract, SIZE))
    assert [len(e.stamps) for e in episodes] == [11] * 6
    for episode in episodes:
        np.testing.assert_array_equal(episode.actions, short['ctrl'])
        np.testing.assert_array_equal(episode.images, episodes[0].images)
    assert (np.diff([e.stamps[0] for e in episodes]) > NS_PER_S).all()


JOINTS = ('position[0]', 'velocity[1]')


@pytest.mark.parametrize(
    ('kind', 'fields'),
    [
        ('std_msgs/msg/Float64MultiArray', ('data[1]', 'data[0]')),
        ('geometry_msgs/msg/Twist', ('linear.x', 'angular.z')),
        ('geometry_msgs/msg/TwistStamped', ('twist.linear.x', 'twist.angular.z')),
        ('sensor_msgs/msg/JointState', ('effort[0]', 'effort[1]')),
        (
            'trajectory_msgs/msg/JointTrajectory',
            ('points[0].effort[0]', 'points[0].effort[1]'),
        ),
    ],
)
def test_every_type_of_command(tmp_path, save, rows, reacher_contract, kind, fields):
    """For every command type, the command takes effect at its row's time, whatever the delay."""
    contract = replace(
        reacher_contract,
        camera=replace(
            reacher_contract.camera,
            topic='/eye/compressed',
            type='sensor_msgs/msg/CompressedImage',
            crop=(0, 0, SIZE, 40),
        ),
        action=replace(reacher_contract.action, topic='cmd', type=kind, fields=fields, delay=0.03),
        state=Channel('/arm/states', 'sensor_msgs/msg/JointState', JOINTS),
    )
    short = save(**{name: values[:51] for name, values in rows.items()})
    path = write_contract(tmp_path / 'c.yaml', contract)
    assert run(tmp_path / 'bag', short, contract=path) == 0
    report = ReadReport()
    (episode,) = read_episodes([tmp_path / 'bag'], contract, SIZE, report)
    assert not report.refused and not report.late
    np.testing.assert_array_equal(episode.actions, rows['ctrl'][:51])
    since = np.round(rows['time'][:51] * NS_PER_S).astype(int)
    np.testing.assert_array_equal(episode.action_stamps - episode.stamps[0], since)
    expected = np.stack([rows['qpos'][:51:10, 0], rows['qvel'][:51:10, 1]], axis=1)
    np.testing.assert_array_equal(episode.states, expected)


@pytest.mark.parametrize('kind', ['sensor_msgs/msg/JointState', 'nav_msgs/msg/Odometry'])
def test_the_command_as_applied_beside_the_state(tmp_path, save, rows, reacher_contract, kind):
    """The topic of the executed command is filled too, even if the state shares it."""
    fields = ('effort[0]', 'effort[1]')
    if kind == 'nav_msgs/msg/Odometry':
        fields = ('twist.twist.linear.x', 'twist.twist.angular.z')
    executed = Executed('joint_states' if 'Joint' in kind else 'odom', kind, fields)
    contract = replace(reacher_contract, action=replace(reacher_contract.action, executed=executed))
    short = save(**{name: values[:51] for name, values in rows.items()})
    path = write_contract(tmp_path / 'c.yaml', contract)
    assert run(tmp_path / 'bag', short, contract=path) == 0
    report = ReadReport()
    (episode,) = read_episodes([tmp_path / 'bag'], contract, SIZE, report)
    assert not report.refused
    np.testing.assert_array_equal(episode.actions, rows['ctrl'][:51])
    np.testing.assert_array_equal(episode.states[:, :2], rows['qpos'][:51:10])


@pytest.mark.parametrize(
    ('kind', 'fields', 'says'),
    [
        ('sensor_msgs/msg/JointState', ('position[2]',), r'position\[2\] is none of position'),
        ('sensor_msgs/msg/JointState', ('effort[0]',), r'effort\[0\] is none of position'),
        ('nav_msgs/msg/Odometry', ('twist.twist.linear.x',), 'only JointState can be'),
    ],
)
def test_a_state_that_does_not_fit_is_left_out(
    tmp_path, save, rows, reacher_contract, caplog, kind, fields, says
):
    """A warning is logged and the bag has no states, which training does not need."""
    contract = replace(reacher_contract, state=Channel('other', kind, fields))
    short = save(**{name: values[:11] for name, values in rows.items()})
    path = write_contract(tmp_path / 'c.yaml', contract)
    assert run(tmp_path / 'bag', short, contract=path) == 0
    text = ' '.join(record.getMessage() for record in caplog.records)
    assert re.search(says, text)
    (episode,) = read_episodes([tmp_path / 'bag'], contract, SIZE)
    assert episode.states is None and len(episode.stamps) == 2


def test_commands_beyond_the_limits_are_said_and_kept(
    tmp_path, save, rows, reacher_contract, caplog
):
    """One warning per dimension covers all files; a value at the limit is within it."""
    short = {name: values[:11].copy() for name, values in rows.items()}
    short['ctrl'][:5, 0] = 1.0, -1.0, 1.5, -1.25, 2.0
    assert run(tmp_path / 'bag', save(**short), save('b.npz', **short)) == 0
    (text,) = (r.getMessage() for r in caplog.records if 'limits' in r.getMessage())
    assert text == (
        'command of shoulder reaches from -1.25 to 2, in 6 of 22 rows beyond the limits of the '
        'contract, -1 to 1 N*m; the bag holds it as it is'
    )
    for episode in read_episodes([tmp_path / 'bag'], reacher_contract, SIZE):
        np.testing.assert_array_equal(episode.actions, short['ctrl'])


def change(name, row, value):
    """Return a function that copies an array with one row changed."""

    def changed(rows):
        values = rows[name].copy()
        values[row] = value
        return {name: values}

    return changed


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        (lambda r: {'qvel': None}, "lacks ['qvel']; it has ['ctrl', 'qpos', 'time']"),
        (lambda r: {'qpos': r['qpos'][:-1]}, 'qpos has shape (400, 2): expected (401, 2)'),
        (lambda r: {'qvel': np.zeros((401, 3))}, 'qvel has shape (401, 3): expected (401, 2)'),
        (lambda r: {'ctrl': None}, "lacks ['ctrl']; it has ['qpos', 'qvel', 'time']"),
        (lambda r: {'command': np.zeros((401, 3))}, "action dimensions ['shoulder', 'elbow']"),
        (lambda r: {'ctrl': np.zeros((401, 7))}, 'save command as well'),
        (lambda r: {'time': r['time'][:, None]}, 'time has shape (401, 1): expected (T,)'),
        (lambda r: {'time': np.float64(1)}, 'time has shape (): expected (T,)'),
        (lambda r: {'episode': np.zeros(3)}, 'episode has shape (3,): expected (401,)'),
        (lambda r: {'episode': np.linspace(0, 1, 401)}, 'expected whole numbers'),
        (lambda r: {'episode': np.arange(401) // 100 % 2}, 'rows of an episode are not contiguous'),
        (lambda r: {'episode': np.arange(401) // 400}, 'the episode of row 400 has 1 row'),
        (change('qpos', 17, np.nan), 'qpos in row 17 is not finite'),
        (change('time', 9, np.inf), 'time in row 9 is not finite'),
        (lambda r: {'time': np.zeros(401)}, 'time in row 1 is not after that in row 0'),
        (
            lambda r: {'time': r['time'][::-1], 'episode': np.ones(401)},
            'time in row 1 is not after that in row 0',
        ),
        (
            lambda r: {'time': r['time'] * 20},
            '0.1 s apart, more than a camera period of 0.05 s: expected a --camera-rate of at most',
        ),
        (lambda r: {'ctrl': r['ctrl'].astype(str)}, 'ctrl is of type <U'),
        (lambda r: {'ctrl': r['ctrl'] * 1j}, 'ctrl is of type complex128: expected real numbers'),
        (lambda r: {'ctrl': r['ctrl'].astype(object)}, 'not an .npz of plain arrays'),
    ],
)
def test_wrong_arrays_are_named(tmp_path, save, rows, capsys, changes, says):
    """The last error line names the file and the array; no bag is written."""
    path = save('wrong.npz', **changes(rows))
    assert run(tmp_path / 'bag', path) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert says in line and 'wrong.npz' in line
    assert not (tmp_path / 'bag').exists()


class Bomb:
    """An object that creates a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self._trace = trace

    def __reduce__(self):
        return Path.touch, (self._trace,)


@pytest.mark.parametrize('form', ['pickle', 'object array', 'text', 'npy', 'cut', 'absent'])
def test_what_is_no_npz_of_plain_arrays_is_refused(tmp_path, save, rows, capsys, form):
    """No pickle is ever loaded; any other file is refused by name."""
    path, trace = save(), tmp_path / 'executed'
    if form == 'pickle':
        path.write_bytes(pickle.dumps(Bomb(trace)))
    elif form == 'object array':
        save(qpos=np.array([Bomb(trace)], dtype=object))
    elif form == 'text':
        path.write_text('qpos,qvel\n')
    elif form == 'npy':
        with path.open('wb') as file:
            np.save(file, rows['qpos'])
    elif form == 'cut':
        path.write_bytes(path.read_bytes()[:-100])
    else:
        path.unlink()
    assert run(tmp_path / 'bag', path) == 2
    assert str(path) in capsys.readouterr().err.splitlines()[-1]
    assert not trace.exists() and not (tmp_path / 'bag').exists()


def test_what_does_not_fit_the_model_is_named(tmp_path, save, reacher_contract, capsys):
    """A wrong camera, model, contract or size is named; an existing folder is refused."""
    path = save()

    def refused(says, contract='reacher', **changes):
        given = contract
        if isinstance(contract, Contract):
            given = write_contract(tmp_path / 'c.yaml', contract)
        assert run(tmp_path / 'bag', path, contract=given, **changes) == 2
        assert says in capsys.readouterr().err.splitlines()[-1]
        assert not (tmp_path / 'bag').exists()

    refused("no camera 'side': expected one of ['top']", camera='side')
    refused('model.xml: no such file', mjcf=tmp_path / 'model.xml')
    (tmp_path / 'text.xml').write_text('no model')
    refused('text.xml: cannot be loaded', mjcf=tmp_path / 'text.xml')
    bare = '<mujoco><worldbody><camera/></worldbody></mujoco>'
    (tmp_path / 'bare.xml').write_text(bare)
    refused('no camera with a name', mjcf=tmp_path / 'bare.xml')
    refused('of the contract; where actuators are others', 'torque_arm', **{'image-size': 640})
    refused('image size is 5000x5000 px', **{'image-size': 5000})
    refused('--camera-rate is nan: expected more than 0', **{'camera-rate': 'nan'})
    camera = reacher_contract.camera
    crop = replace(reacher_contract, camera=replace(camera, crop=(0, 8, 48, 56)))
    refused('expected an --image-size of at least 48x64', crop)
    refused('of a depth camera', replace(reacher_contract, camera=replace(camera, scale=1500)))
    both = Executed('joint_states', 'sensor_msgs/msg/JointState', JOINTS)
    action = replace(reacher_contract.action, executed=both)
    refused('position[0] is state and command at once', replace(reacher_contract, action=action))
    (tmp_path / 'taken').mkdir()
    assert run(tmp_path / 'taken', path) == 2
    assert 'exists already' in capsys.readouterr().err
    assert run(tmp_path / 'bag', path) == 0  # and no camera was left open


FLYER = """
<mujoco>
  <worldbody>
    <light pos="0 0 3"/>
    <geom type="plane" size="2 2 .1" rgba=".2 .5 .3 1"/>
    <body pos="0 0 1">
      <freejoint name="free"/>
      <geom size=".1" rgba="1 0 0 1"/>
      <camera name="follow" mode="trackcom" pos="0 -2 0" xyaxes="1 0 0 0 0 1"/>
    </body>
  </worldbody>
  <actuator>
    <motor joint="free" gear="1 0 0 0 0 0"/>
    <motor joint="free" gear="0 0 1 0 0 0"/>
  </actuator>
</mujoco>
"""


def test_commands_that_are_no_actuators(tmp_path, save, rows, reacher_contract):
    """If ``command`` is given it is recorded, whatever ``ctrl`` holds."""
    command = rows['ctrl'] / 2
    path = save(command=command, ctrl=np.ones((401, 3)))
    assert run(tmp_path / 'bag', path) == 0
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, SIZE)
    np.testing.assert_array_equal(episode.actions, command)
    path = save(command=command, ctrl=None)
    assert run(tmp_path / 'bag2', path) == 0


def test_any_model_and_a_camera_that_follows(tmp_path, save, reacher_contract):
    """A free body (nq != nv) works, and a tracking camera keeps it centred."""
    (tmp_path / 'flyer.xml').write_text(FLYER)
    time = np.arange(101) / 100
    pose = np.tile([0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0], (101, 1))
    pose[:, 0] = time
    path = save(qpos=pose, qvel=np.zeros((101, 6)), ctrl=np.ones((101, 2)), time=time)
    assert run(tmp_path / 'bag', path, mjcf=tmp_path / 'flyer.xml', camera='follow') == 0
    (episode,) = read_episodes([tmp_path / 'bag'], reacher_contract, SIZE)
    np.testing.assert_array_equal(episode.states[:, :2], pose[::5, :2])
    for image in episode.images.astype(int):
        red = np.argwhere((image[..., 0] > 60) & (image[..., 1:].max(axis=-1) < 40))
        assert len(red) > 3 and np.abs(red.mean(axis=0) - SIZE / 2).max() < 2
