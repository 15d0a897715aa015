# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The simulated base in two rooms: physics, images, goals, data, with the real MuJoCo."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lewm_ros import cli
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.errors import ConfigError
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import TwoRoom, make_task
from lewm_ros.sim.collect import START, UniformPolicy, simulate
from lewm_ros.sim.two_room_policy import TwoRoomPolicy

SECOND = 200  #: physics steps
RADIUS, WALL, ROOM = 0.16, 0.05, 1.0  #: of the base; half the inner wall; half the rooms' side [m]
LOW, HIGH = 0.12, 0.68  #: y of the edges of the door [m]


@pytest.fixture(scope='module')
def contract() -> Contract:
    """Return the contract that the task names."""
    return Contract.load(find('contract', TwoRoom.contract))


@pytest.fixture(scope='module')
def shared_rooms() -> Iterator[TwoRoom]:
    """Return one pair of rooms for this module: a process may have only one open camera."""
    rooms = make_task('two_room', image_size=64, seed=7)
    assert isinstance(rooms, TwoRoom)
    yield rooms
    rooms.close()


@pytest.fixture
def rooms(shared_rooms: TwoRoom) -> TwoRoom:
    """The rooms, freshly reset with the same seed and without a goal."""
    shared_rooms.rng = np.random.default_rng(7)
    shared_rooms.goal = None
    shared_rooms.reset()
    return shared_rooms


def put(rooms: TwoRoom, *pose: float) -> None:
    """Put the base at rest [m]."""
    rooms.data.qpos[:], rooms.data.qvel[:] = pose, 0
    rooms._mujoco.mj_forward(rooms.model, rooms.data)


def seen(image: np.ndarray) -> np.ndarray:
    """Centre (2,) [m] of the blue pixels, the base, in an image."""
    mask = (image[..., 2] > 110) & (image[..., 0] < 90)
    assert mask.sum() > 40
    row, column = np.argwhere(mask).mean(axis=0)
    size = image.shape[0]
    metre = size / (2 * 7.9 * np.tan(np.radians(8)))  # the base is 10 cm high
    return np.array([column - (size - 1) / 2, (size - 1) / 2 - row]) / metre


def test_task_and_contract_agree(rooms, contract):
    """The action is two velocities with the actuators' range; the state covers both joints."""
    low, high = contract.action.bounds
    np.testing.assert_array_equal(rooms.model.actuator_ctrlrange, np.stack([low, high], axis=1))
    assert contract.action.kind == 'velocity'
    assert contract.action.fields == ('linear.x', 'linear.y')
    assert len(contract.state.fields) == len(rooms.state()) == 2 * len(rooms.joints)
    assert [rooms.model.joint(i).name for i in range(2)] == list(rooms.joints)


def test_the_base_follows_the_commanded_velocity(rooms):
    """It reaches the velocity within a block on both axes, and stops as quickly."""
    put(rooms, -0.7, -0.5)
    rooms.step(np.array([0.4, 0.3]), SECOND // 4)
    np.testing.assert_allclose(rooms.state()[2:], [0.4, 0.3], atol=0.01)
    rooms.step(np.zeros(2), SECOND // 4)
    np.testing.assert_allclose(rooms.state()[2:], 0, atol=0.01)


@pytest.mark.parametrize(
    ('start', 'command', 'end'),
    [
        ((-0.5, -0.5), (0.8, 0.0), (-WALL - RADIUS, -0.5)),
        ((0.5, 0.8), (-0.8, 0.0), (WALL + RADIUS, 0.8)),
        ((-0.5, -0.5), (-0.8, -0.8), (RADIUS - ROOM, RADIUS - ROOM)),
        ((0.5, 0.5), (0.8, 0.8), (ROOM - RADIUS, ROOM - RADIUS)),
        ((-0.5, 0.4), (0.8, 0.0), (ROOM - RADIUS, 0.4)),
    ],
    ids=['wall', 'beside the door', 'corner', 'other corner', 'door'],
)
def test_walls_stop_the_base_and_the_door_lets_it_through(rooms, start, command, end):
    """It ends at rest against a wall, in the room where the command leads."""
    put(rooms, *start)
    rooms.step(np.array(command), 3 * SECOND)
    np.testing.assert_allclose(rooms.state()[:2], end, atol=0.005)
    np.testing.assert_allclose(rooms.state()[2:], 0, atol=0.01)


def test_the_base_slides_along_a_wall_into_the_door(rooms):
    """Pressed against the wall, it slides without friction until it gets through the door."""
    put(rooms, -0.3, -0.5)
    rooms.step(np.array([0.4, 0.2]), 4 * SECOND)
    assert rooms.state()[0] < 0 and rooms.state()[1] > 0.1
    rooms.step(np.array([0.4, 0.2]), SECOND)
    assert rooms.state()[0] > 0


def test_nothing_gets_through_a_wall(rooms, contract):
    """However it is driven and pushed, the base stays inside and changes rooms only in the door."""
    policy = UniformPolicy(contract, np.random.default_rng(1))
    way = [rooms.state()[:2]]
    for number in range(2000):
        if number % 20 == 0:
            rooms.perturb('push')
        corner = np.array([0.8, 0.8]) * np.where(np.arange(2) == number // 100 % 2, 1, -1)
        rooms.step(corner if number % 3 else policy.act(0), 4)
        way.append(rooms.state()[:2])
    way = np.array(way)
    assert np.abs(way).max() < ROOM - RADIUS + 0.03
    inside = way[np.abs(way[:, 0]) < WALL]
    assert ((inside[:, 1] > LOW) & (inside[:, 1] < HIGH)).all()


def test_an_image_shows_base_walls_and_door(rooms):
    """The base within 2 cm, the wall dark, the door as light as the floor, at 64 px."""
    for pose in ((-0.8, -0.8), (0.5, 0.3), (0.0, 0.4), (0.3, -0.82)):
        put(rooms, *pose)
        image = rooms.render()
        assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
        np.testing.assert_allclose(seen(image), pose, atol=0.02)
    put(rooms, -0.6, -0.5)
    wall = rooms.render()[:, 31:33].max(axis=(1, 2))
    rows = np.arange(64)
    metres = (31.5 - rows) * 2 * 7.9 * np.tan(np.radians(8)) / 64
    door = (metres > LOW + 0.05) & (metres < HIGH - 0.05)
    assert wall[door].min() > 180
    assert wall[(metres < LOW - 0.05) | (metres > HIGH + 0.05)].max() < 110


def test_resets_are_all_over_both_rooms(rooms):
    """The base is at rest, clear of the walls, and equally often in both rooms."""
    poses = []
    for _ in range(300):
        rooms.reset()
        assert (rooms.state()[2:] == 0).all() and rooms.data.ncon == 0
        poses.append(rooms.state()[:2])
    poses = np.array(poses)
    assert 0.4 < (poses[:, 0] < 0).mean() < 0.6
    assert np.ptp(poses, axis=0) == pytest.approx([1.64, 1.64], abs=0.04)


def test_goals_within_reach_and_anywhere(rooms):
    """Distance is measured through the door; ``inf`` allows both rooms, a limit is respected."""
    put(rooms, -0.25, -0.7)
    near = np.array([rooms.sample_goal() for _ in range(200)])
    assert (near[:, 0] < 0).all()  # what is close behind the wall is not within reach
    apart = TwoRoom.pose_errors(near, rooms.state()[:2])[:, 0]
    assert apart.min() >= TwoRoom.NEAR and apart.max() <= TwoRoom.REACH
    far = np.array([rooms.sample_goal(np.inf) for _ in range(300)])
    assert 0.35 < (far[:, 0] > 0).mean() < 0.65
    assert TwoRoom.pose_errors(far, rooms.state()[:2]).max() > 1.5
    limited = np.array([rooms.sample_goal(0.6) for _ in range(200)])
    assert (limited[:, 0] > 0).any()
    assert TwoRoom.pose_errors(limited, rooms.state()[:2]).max() <= 0.6
    with pytest.raises(ConfigError, match=r'far is 0\.2 m: expected more than 0\.25'):
        rooms.sample_goal(0.2)
    put(rooms, -0.25, 0.4)
    assert any(rooms.sample_goal()[0] > 0 for _ in range(200))  # through the door


def test_the_way_between_two_places():
    """It is straight within a room, and through the middle of the door between rooms."""
    assert TwoRoom.way([-0.5, -0.3], [-0.5, 0.3]) == pytest.approx(0.6)
    assert TwoRoom.way([-0.3, 0.0], [0.3, 0.0]) == pytest.approx(1.0)


def test_success_is_the_base_within_10_cm(rooms):
    """Within 10 cm of the goal the base has reached it; 10.5 cm away it has not."""
    assert not rooms.reached()
    rooms.set_goal(np.array([0.5, 0.1]))
    put(rooms, 0.56, 0.02 + 0.005)
    assert rooms.errors(rooms.goal) == pytest.approx([np.hypot(0.06, 0.075)])
    assert rooms.reached()
    put(rooms, 0.5, -0.005)
    assert not rooms.reached()


def test_the_goal_s_image_is_the_image_at_the_goal(rooms):
    """The goal image is exact even under camera perturbations, and setting it moves nothing."""
    goal, before = np.array([0.6, -0.4]), rooms.state()
    for kind in ('colour', 'light', 'camera_shift'):
        rooms.perturb(kind)
    image = rooms.set_goal(goal)
    np.testing.assert_array_equal(rooms.state(), before)
    rooms.reset()
    put(rooms, *goal)
    np.testing.assert_array_equal(rooms.render(), image)


def test_teleport_and_blow(rooms):
    """A teleport jumps 0.4 to 1.2 m to a free place; a push in the open moves by 14 to 26 cm."""
    jumps, slips = [], []
    for _ in range(100):
        rooms.reset()
        before = rooms.state()
        rooms.perturb('teleport')
        assert rooms.data.ncon == 0
        jumps.append(np.linalg.norm(rooms.state()[:2] - before[:2]))
        put(rooms, 0.52, -0.4)
        rooms.perturb('push')
        rooms.step(np.zeros(2), SECOND)
        slips.append(np.linalg.norm(rooms.state()[:2] - [0.52, -0.4]))
    assert min(jumps) >= 0.4 and max(jumps) <= 1.2
    assert min(slips) > 0.14 and max(slips) < 0.26


def test_the_data_goes_through_the_door(rooms, contract):
    """The scripted policy changes rooms and fills both; about one episode in four is pure noise."""
    policy = TwoRoomPolicy(contract, np.random.default_rng(0), rooms)
    crossings, ways, blind = 0, [], 0
    for _ in range(16):
        rooms.reset()
        events = simulate(rooms, contract, policy, 8.0, 20.0, 0.0, START)
        way = np.array([value[:2] for kind, _, value in events if kind == 'state'])
        crossings += int((np.diff(np.sign(way[:, 0])) != 0).sum())
        blind += policy._blind
        ways.append(way)
    assert crossings >= 12 and 1 <= blind <= 8
    way = np.concatenate(ways)
    assert 0.3 < (way[:, 0] < 0).mean() < 0.7
    assert way[:, 1].min() < -0.7 and way[:, 1].max() > 0.7


def test_drives_come_back_from_their_bag(tmp_path, contract, shared_rooms):
    """Commands within the limits and the state of both joints are recorded; a rerun is equal."""
    shared_rooms.close()
    command = ['collect', 'two_room', '--episodes', '2', '--seconds', '3', '--seed', '2', '--out']
    read = []
    for name in ('a', 'b'):
        assert cli.main([*command, str(tmp_path / name)]) == 0
        read.append(list(read_episodes([tmp_path / name], contract, 64)))
    for episode, twin in zip(*read, strict=True):
        assert episode.images.shape == (60, 64, 64, 3) and episode.actions.shape[1] == 2
        assert 0.3 < np.abs(episode.actions).max() <= 0.8
        assert episode.states.shape == (60, 4)
        np.testing.assert_allclose(seen(episode.images[30]), episode.states[30, :2], atol=0.02)
        np.testing.assert_array_equal(episode.actions, twin.actions)
        np.testing.assert_array_equal(episode.images, twin.images)
