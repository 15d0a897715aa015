# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The simulated pusher and puck: physics, images, goals, with the real MuJoCo."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lewm_ros.errors import ConfigError
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import Push, make_task
from lewm_ros.sim.collect import START, UniformPolicy, simulate
from lewm_ros.sim.push_policy import PushPolicy

BLOCK_STEPS = 50  #: physics steps in a block of 0.25 s
RIGHT = np.array([0.3, 0.0])


@pytest.fixture(scope='module')
def contract() -> Contract:
    """Return the contract that the task names."""
    return Contract.load(find('contract', Push.contract))


@pytest.fixture(scope='module')
def shared_table() -> Iterator[Push]:
    """Return one table for this module: a process may have only one open camera."""
    table = make_task('push', image_size=64, seed=7)
    assert isinstance(table, Push)
    yield table
    table.close()


@pytest.fixture
def table(shared_table: Push) -> Push:
    """The table, freshly reset with the same seed and without a goal."""
    shared_table.rng = np.random.default_rng(7)
    shared_table.goal = None
    shared_table.reset()
    return shared_table


def put(table: Push, *pose: float) -> None:
    """Put pusher and puck at rest [m]."""
    table.data.qpos[:], table.data.qvel[:] = pose, 0
    table._mujoco.mj_forward(table.model, table.data)


def seen(image: np.ndarray, red: bool) -> np.ndarray:
    """Centre (2,) [m] of the red pixels (the puck), or the blue ones (the pusher), in an image."""
    high, low = (0, 2) if red else (2, 0)
    mask = (image[..., high] > 110) & (image[..., low] < 90)
    assert mask.sum() > 20
    row, column = np.argwhere(mask).mean(axis=0)
    size = image.shape[0]
    metre = size / (2 * 1.55 * np.tan(np.radians(12.5)))  # discs lie 5 cm above the table
    return np.array([column - (size - 1) / 2, (size - 1) / 2 - row]) / metre


def test_task_and_contract_agree(table, contract):
    """The action is two velocities with the actuators' range; the state covers all joints."""
    low, high = contract.action.bounds
    np.testing.assert_array_equal(table.model.actuator_ctrlrange, np.stack([low, high], axis=1))
    assert contract.action.kind == 'velocity'
    assert len(contract.state.fields) == len(table.state()) == 2 * len(table.joints)
    assert [table.model.joint(i).name for i in range(4)] == list(table.joints)


def test_the_pusher_follows_the_commanded_velocity(table):
    """It reaches the commanded velocity within 0.1 s on both axes, and stops as quickly."""
    put(table, -0.2, -0.25, 0.1, 0.1)
    table.step(np.array([0.2, 0.1]), 20)
    np.testing.assert_allclose(table.state()[4:6], [0.2, 0.1], atol=0.01)
    table.step(np.zeros(2), 20)
    np.testing.assert_allclose(table.state()[4:6], 0, atol=0.01)


def test_the_puck_moves_only_when_it_is_pushed(table):
    """It stays when the pusher passes by, and moves ahead of a pusher that hits it."""
    put(table, -0.2, 0.2, 0.0, 0.0)
    table.step(RIGHT, 4 * BLOCK_STEPS)
    np.testing.assert_array_equal(table.state()[2:4], [0.0, 0.0])
    put(table, -0.2, 0.0, 0.0, 0.0)
    table.step(RIGHT, 3 * BLOCK_STEPS)
    pusher, puck = table.state()[:2], table.state()[2:4]
    assert puck[0] > 0.08 and abs(puck[1]) < 0.005
    assert puck[0] - pusher[0] == pytest.approx(Push.CONTACT, abs=0.005)


def test_a_puck_that_is_let_go_stops(table):
    """It slides on by less than 2 cm."""
    put(table, -0.15, 0.0, 0.0, 0.0)
    table.step(RIGHT, 2 * BLOCK_STEPS)
    pushed = table.state()[2]
    table.step(-RIGHT, 2 * BLOCK_STEPS)
    assert pushed < table.state()[2] < pushed + 0.02
    assert abs(table.state()[6]) < 1e-3


def test_nothing_leaves_the_image(table, contract):
    """However the pusher is driven, both keep their limits, and the pusher stays visible."""
    policy = UniformPolicy(contract, np.random.default_rng(1))
    sizes = []
    for way in ([0.3, 0.3], [-0.3, 0.3], [-0.3, -0.3], [0.3, -0.3]):
        table.step(np.array(way), 400)
        for _ in range(20):
            table.step(policy.act(0), 10)
        pose = np.abs(table.state()[:4])
        assert pose[:2].max() < 0.295 and pose[2:].max() < 0.175
        image = table.render()
        sizes.append(((image[..., 2] > 110) & (image[..., 0] < 90)).sum())
    put(table, 0.0, 0.0, 0.16, 0.16)
    image = table.render()
    assert min(sizes) > 0.8 * ((image[..., 2] > 110) & (image[..., 0] < 90)).sum()


def test_an_image_shows_where_both_are(table):
    """At 64 px, the centres of red and blue give the pose to within one pixel, 1.1 cm."""
    for pose in ((-0.2, 0.1, 0.05, -0.1), (0.25, -0.25, 0.0, 0.15), (0.0, 0.0, -0.16, -0.16)):
        put(table, *pose)
        image = table.render()
        assert (image.shape, image.dtype) == ((64, 64, 3), np.uint8)
        np.testing.assert_allclose(seen(image, red=True), pose[2:], atol=0.011)
        np.testing.assert_allclose(seen(image, red=False), pose[:2], atol=0.011)


def test_resets_do_not_overlap(table):
    """Pusher and puck start apart and at rest, all over the table."""
    poses = []
    for _ in range(200):
        table.reset()
        assert (table.state()[4:] == 0).all()
        poses.append(table.state()[:4])
    poses = np.array(poses)
    assert np.linalg.norm(poses[:, :2] - poses[:, 2:], axis=1).min() > Push.CONTACT
    assert np.ptp(poses, axis=0) == pytest.approx([0.56, 0.56, 0.32, 0.32], abs=0.03)


def test_a_goal_is_the_end_of_a_straight_push(table):
    """Goals are unreached, in range, on the table; the pusher touches the puck from behind."""
    pose = np.array([-0.15, 0.0, 0.0, 0.05])
    put(table, *pose)
    goals = np.array([table.sample_goal() for _ in range(300)])
    errors = Push.pose_errors(goals, pose)[:, 0]
    assert Push.NEAR <= errors.min() < Push.NEAR + 0.01
    assert Push.FAR - 0.01 < errors.max() <= Push.FAR
    assert np.abs(goals[:, 2:]).max() <= Push.PUCK and np.abs(goals[:, :2]).max() <= Push.PUSHER
    ways = (goals[:, 2:] - pose[2:]) / errors[:, None]
    np.testing.assert_allclose(goals[:, 2:] - goals[:, :2], Push.CONTACT * ways, atol=1e-9)
    with pytest.raises(ConfigError, match=r'far is 0\.05 m: expected more'):
        table.sample_goal(0.05)


def test_goals_are_within_the_pusher_s_reach(table):
    """Goals need no push towards the pusher; from far away only nearly straight pushes remain."""
    rng = np.random.default_rng(0)
    for pusher in ((-0.15, 0.0), (0.0, 0.12), (0.28, 0.28)):
        pose = np.array([*pusher, 0.0, 0.0])
        goals = np.array([Push.goal_near(pose, rng) for _ in range(200)])
        ways = goals[:, 2:] / np.linalg.norm(goals[:, 2:], axis=1, keepdims=True)
        towards = ways @ pusher / np.linalg.norm(pusher)
        assert towards.min() < -0.9 and towards.max() < 0.9
        if pusher[0] > 0.2:  # 0.396 m away: only an almost straight push comes near
            assert towards.max() < -0.3
            assert np.linalg.norm(goals[:, 2:], axis=1).mean() < 0.1


def test_a_goal_can_be_reached_by_pushing(table):
    """Driving in a straight line to the goal's pusher position reaches the goal and its image."""
    put(table, -0.2, 0.0, 0.0, 0.0)
    goal = np.array([0.1 - Push.CONTACT, 0.0, 0.1, 0.0])
    image = table.set_goal(goal)
    assert not table.reached()
    while table.state()[0] < goal[0] and table.time < 2.0:
        table.step(np.array([0.2, 0.0]), 2)
    table.step(np.zeros(2), 20)
    assert table.reached()
    assert (np.abs(table.render().astype(int) - image).max(axis=2) > 60).sum() < 60


def test_success_is_the_puck_within_3_cm(table):
    """Success does not depend on where the pusher is."""
    assert not table.reached()
    table.set_goal(np.array([0.1, 0.0, 0.0, 0.1]))
    put(table, -0.25, -0.25, 0.02, 0.1 - 0.022)
    assert table.errors(table.goal) == pytest.approx([np.hypot(0.02, 0.022)])
    assert table.reached()
    put(table, 0.1, 0.0, 0.0, 0.1 - 0.031)
    assert not table.reached()


def test_the_goal_s_image_is_the_image_at_the_goal(table):
    """The goal image is exact even under camera perturbations, and setting it moves nothing."""
    goal = np.array([-0.1, -0.1, 0.05, 0.0])
    before = table.state()
    table.perturb('colour')
    table.perturb('light')
    table.perturb('camera_shift')
    image = table.set_goal(goal)
    np.testing.assert_array_equal(table.state(), before)
    table.reset()
    put(table, *goal)
    np.testing.assert_array_equal(table.render(), image)


def test_teleport_and_push_move_the_puck_alone(table):
    """A teleport jumps 8 to 20 cm clear of the pusher; a push slides the puck by 5 to 11 cm."""
    jumps, slides = [], []
    for _ in range(100):
        table.reset()
        before = table.state()
        table.perturb('teleport')
        after = table.state()
        np.testing.assert_array_equal(after[:2], before[:2])
        assert np.linalg.norm(after[2:4] - after[:2]) > Push.CONTACT
        jumps.append(np.linalg.norm(after[2:4] - before[2:4]))
        table.reset()
        table.data.qpos[:2] = 0.28  # out of the way
        before = table.state()
        table.perturb('push')
        np.testing.assert_array_equal(table.state()[:4], before[:4])
        table.step(np.zeros(2), 2 * BLOCK_STEPS)
        slides.append(np.linalg.norm(table.state()[2:4] - before[2:4]))
    assert min(jumps) >= 0.08 and max(jumps) <= 0.20
    assert min(slides) > 0.05 and max(slides) < 0.11


def test_a_cornered_puck_can_be_teleported_and_struck(table):
    """Both also work if the pusher blocks the corner; the puck may then hit the pusher."""
    for _ in range(30):
        put(table, 0.085, 0.085, 0.169, 0.169)
        table.perturb('teleport')
        assert np.linalg.norm(table.state()[2:4] - [0.085, 0.085]) > Push.CONTACT
        put(table, 0.085, 0.085, 0.169, 0.169)
        table.perturb('push')
        table.step(np.zeros(2), BLOCK_STEPS)
        assert np.isfinite(table.state()).all() and np.abs(table.state()[2:4]).max() < 0.175


def test_the_data_is_rich_in_contact(table, contract):
    """The scripted policy moves the puck in over 35 % of blocks, random commands in under 15 %."""

    def moving(policy, episodes):
        shares = []
        for _ in range(episodes):
            table.reset()
            events = simulate(table, contract, policy, 6.0, 20.0, 0.0, START)
            puck = np.array([value[2:4] for kind, _, value in events if kind == 'state'])
            shares.append((np.linalg.norm(puck[5:] - puck[:-5], axis=1) > 0.002).mean())
        return np.mean(shares)

    assert moving(PushPolicy(contract, np.random.default_rng(0), table), 12) > 0.35
    assert moving(UniformPolicy(contract, np.random.default_rng(0)), 12) < 0.15
