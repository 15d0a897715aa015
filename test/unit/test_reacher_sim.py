# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The simulated arm: physics, images, goals and perturbations, with the real MuJoCo."""

from __future__ import annotations

from collections.abc import Iterator
import os

import numpy as np
import pytest

from lewm_ros.errors import ConfigError
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import TASKS, make_task
from lewm_ros.sim.reacher import Reacher
from lewm_ros.sim.rendering import load_mujoco

BLOCK_STEPS = 50  #: physics steps in a block of 0.25 s


@pytest.fixture(scope='module')
def shared_arm() -> Iterator[Reacher]:
    """Return one arm for this module: a process may have only one open camera."""
    arm = make_task('reacher', image_size=64, seed=7)
    yield arm
    arm.close()


@pytest.fixture
def arm(shared_arm: Reacher) -> Reacher:
    """The arm, freshly reset with the same seed and without a goal."""
    shared_arm.rng = np.random.default_rng(7)
    shared_arm.goal = None
    shared_arm.reset()
    return shared_arm


def put(arm: Reacher, shoulder: float, elbow: float) -> None:
    """Put the arm at rest in a pose [rad]; the next mj_step updates all derived quantities."""
    arm.data.qpos[:] = shoulder, elbow
    arm.data.qvel[:] = 0


def test_reset_is_at_rest_in_a_random_pose(arm):
    """Every reset stops the arm in a new random pose, with the elbow within its limit."""
    poses = []
    for _ in range(50):
        arm.step(np.array([1.0, -1.0]), 10)
        arm.reset()
        poses.append(arm.state()[:2])
        assert (arm.state()[2:] == 0).all()
        assert arm.time == 0
    poses = np.array(poses)
    assert np.abs(poses[:, 1]).max() <= Reacher.ELBOW
    assert np.ptp(poses, axis=0).min() > 3.0
    assert len(np.unique(poses[:, 0])) == 50


def test_time_is_what_the_physics_advanced(arm):
    """A block of 50 steps of 5 ms is 0.25 s."""
    arm.step(np.zeros(2), BLOCK_STEPS)
    assert arm.timestep * BLOCK_STEPS == pytest.approx(0.25)
    assert arm.time == pytest.approx(0.25)


@pytest.mark.parametrize('torque', [(1, 1), (1, -1), (-1, 1), (-1, -1), (1, 0), (0, 1)])
def test_full_torque_block_turns_a_joint_by_about_half_a_radian(arm, torque):
    """One block turns no joint by more than 0.55 rad, and each driven joint by over 0.15 rad."""
    for pose in ((0.0, 0.0), (1.0, 1.2), (-2.0, -1.2)):
        put(arm, *pose)
        turned = []
        for _ in range(3):
            before = arm.state()[:2]
            arm.step(np.array(torque, dtype=float), BLOCK_STEPS)
            turned.append(np.abs(arm.state()[:2] - before))
        pushed = np.array(torque) != 0
        assert np.max(turned) < 0.55
        assert np.max(turned, axis=0)[pushed].min() > 0.15


def test_torque_beyond_the_contract_has_no_more_effect(arm):
    """The motors saturate at ±1, as the contract's limits say."""
    put(arm, 0, 0)
    arm.step(np.array([1.0, -1.0]), 20)
    limited = arm.state()
    arm.reset()
    put(arm, 0, 0)
    arm.step(np.array([50.0, -50.0]), 20)
    np.testing.assert_allclose(arm.state(), limited, atol=1e-9)


def test_task_and_contract_agree(arm, reacher_contract: Contract):
    """The task's contract names the actuators and has their range."""
    assert f'{reacher_contract.name}.yaml' == arm.contract
    low, high = reacher_contract.action.bounds
    np.testing.assert_array_equal(arm.model.actuator_ctrlrange, np.stack([low, high], axis=1))
    names = [arm.model.actuator(i).name for i in range(arm.model.nu)]
    assert names == list(reacher_contract.action.names)


def test_arm_without_torque_comes_to_rest(arm):
    """Damping stops the arm within two seconds."""
    arm.step(np.array([1.0, 1.0]), BLOCK_STEPS)
    arm.step(np.zeros(2), 400)
    assert np.abs(arm.state()[2:]).max() < 1e-3


def test_image_depends_on_the_state_only(arm):
    """Two images of one state are equal, byte for byte, whatever was drawn in between."""
    first = arm.render()
    assert (first.shape, first.dtype) == ((64, 64, 3), np.uint8)
    second = arm.render()
    np.testing.assert_array_equal(first, second)
    assert first is not second
    arm.set_goal(np.array([2.0, 1.0]))
    np.testing.assert_array_equal(arm.render(), first)


def test_image_shows_the_pose(arm):
    """A change of 0.05 rad in either joint changes some pixels, but fewer than 800."""
    put(arm, 0.3, 0.8)
    arm.step(np.zeros(2))
    image = arm.render().astype(int)
    for shoulder, elbow in ((0.35, 0.8), (0.3, 0.85)):
        put(arm, shoulder, elbow)
        arm.step(np.zeros(2))
        difference = np.abs(arm.render() - image).max(axis=2)
        assert 5 < (difference > 20).sum() < 800


def test_upper_arm_is_where_the_pose_says(arm):
    """At shoulder 0 the red upper arm lies right of the middle, at +90° above it."""

    def red_centre():
        arm.step(np.zeros(2))
        image = arm.render().astype(int)
        red = (image[..., 0] > 120) & (image[..., 1] < 90) & (image[..., 2] < 90)
        assert red.sum() > 20
        return np.argwhere(red).mean(axis=0)

    put(arm, 0.0, 2.0)
    row, column = red_centre()
    assert column > 36 and abs(row - 32) < 6
    put(arm, np.pi / 2, 2.0)
    row, column = red_centre()
    assert row < 28 and abs(column - 32) < 6


def test_goal_image_is_the_image_at_the_goal(arm):
    """set_goal returns what the camera sees at the goal and does not move the arm."""
    before = arm.state()
    goal = np.array([-1.0, 0.7])
    image = arm.set_goal(goal)
    np.testing.assert_array_equal(arm.state(), before)
    assert not np.array_equal(image, arm.render())
    arm.data.qpos[:] = goal
    arm._mujoco.mj_forward(arm.model, arm.data)
    np.testing.assert_array_equal(arm.render(), image)


def test_success_needs_both_joints_within_the_tolerance(arm):
    """Just inside 0.1 rad in both joints is success; one joint outside is not."""
    assert not arm.reached()
    arm.set_goal(np.array([0.5, -0.5]))
    put(arm, 0.5 + 0.099, -0.5 - 0.099)
    assert arm.reached()
    put(arm, 0.5 + 0.101, -0.5)
    assert not arm.reached()
    put(arm, 0.5, -0.5 - 0.101)
    assert not arm.reached()


def test_angles_wrap_around(arm):
    """Poses a full turn apart are equal; the largest distance is half a turn."""
    arm.set_goal(np.array([3.1, 0.0]))
    put(arm, -3.1, 0.0)
    assert arm.errors(arm.goal)[0] == pytest.approx(2 * np.pi - 6.2)
    assert arm.reached()
    put(arm, 3.1 + 4 * np.pi, 0.0)
    assert arm.reached()
    errors = Reacher.pose_errors(np.array([[0.0, 0.1], [np.pi, 0.0]]), np.zeros(2))
    np.testing.assert_allclose(errors, [[0.0, 0.1], [np.pi, 0.0]])


def test_goals_are_away_from_the_arm_and_within_a_plan_s_reach(arm):
    """500 goals: none reached yet, none too far, in both directions, elbow within its limit."""
    pose = arm.state()[:2]
    goals = np.array([arm.sample_goal() for _ in range(500)])
    errors = Reacher.pose_errors(goals, pose)
    assert Reacher.NEAR <= errors.max(axis=1).min() < Reacher.NEAR + 0.1
    assert Reacher.FAR - 0.1 < errors.max() <= Reacher.FAR
    assert np.abs(goals[:, 1]).max() <= Reacher.ELBOW
    assert (goals > pose).any(axis=0).all()
    assert (goals < pose).any(axis=0).all()


@pytest.mark.parametrize('elbow', [-2.6, 2.6])
def test_goals_exist_even_at_the_elbow_s_stop(elbow):
    """With the elbow at its stop, there are still goals within its limit."""
    rng = np.random.default_rng(0)
    goals = np.array([Reacher.goal_near(np.array([3.0, elbow]), rng) for _ in range(50)])
    assert np.abs(goals[:, 1]).max() <= Reacher.ELBOW


@pytest.mark.parametrize('goal', [[0.0], [0.0, np.nan], [[0.0, 0.0]], [np.inf, 0.0]])
def test_impossible_goal_is_refused(arm, goal):
    """A goal that is not two finite angles is refused and the old one stays."""
    arm.set_goal(np.array([1.0, 1.0]))
    with pytest.raises(ConfigError, match=r'expected 2 numbers \[rad\], of shoulder, elbow'):
        arm.set_goal(np.array(goal))
    np.testing.assert_array_equal(arm.goal, [1.0, 1.0])


def test_teleport_moves_both_joints_at_once(arm):
    """100 teleports: both joints jump by 0.6 to 1.5 rad either way, the elbow within its limit."""
    jumps = []
    for _ in range(100):
        before = arm.state()
        arm.perturb('teleport')
        jumps.append(arm.state()[:2] - before[:2])
        assert abs(arm.state()[1]) < Reacher.ELBOW
        assert arm.time == 0
    jumps = np.array(jumps)
    assert np.abs(jumps).min() >= 0.6 and np.abs(jumps).max() <= 1.5
    assert (jumps > 0).any(axis=0).all() and (jumps < 0).any(axis=0).all()


def test_teleport_is_seen(arm):
    """The next image shows the arm elsewhere."""
    before = arm.render().astype(int)
    arm.perturb('teleport')
    assert (np.abs(arm.render() - before).max(axis=2) > 40).sum() > 100


def test_push_turns_both_joints_without_a_command(arm):
    """Each joint turns on by 0.1 to 1.1 rad, in either direction."""
    turned = []
    for _ in range(30):
        put(arm, 0.0, 0.0)
        arm.perturb('push')
        np.testing.assert_array_equal(arm.state()[:2], [0.0, 0.0])
        arm.step(np.zeros(2), 400)
        turned.append(arm.state()[:2])
    assert np.abs(turned).min() > 0.1 and np.abs(turned).max() < 1.1
    assert (np.array(turned) > 0).any(axis=0).all() and (np.array(turned) < 0).any(axis=0).all()


def test_unknown_names_are_refused_with_the_known_ones(arm):
    """The error names the unknown task or perturbation and the known ones."""
    with pytest.raises(ConfigError, match=r"'fetch' is unknown.*reacher"):
        make_task('fetch')
    with pytest.raises(ConfigError, match=r"'shove' is unknown.*teleport"):
        arm.perturb('shove')
    assert list(TASKS) == ['reacher', 'push', 'two_room']


def test_second_camera_in_a_process_is_refused(arm):
    """A second arm while one is open is refused, and the first still renders correctly."""
    before = arm.render()
    with pytest.raises(ConfigError, match='close it first'):
        make_task('reacher')
    np.testing.assert_array_equal(arm.render(), before)


def test_missing_opengl_names_the_package_to_install(monkeypatch):
    """Without any offscreen library the error says what to install, before mujoco is loaded."""
    monkeypatch.delenv('MUJOCO_GL', raising=False)
    monkeypatch.setattr('ctypes.util.find_library', lambda name: None)
    with pytest.raises(ConfigError, match='libosmesa6'):
        load_mujoco()


def test_chosen_renderer_is_kept(monkeypatch):
    """A MUJOCO_GL set by the user is not replaced."""
    monkeypatch.setenv('MUJOCO_GL', 'egl')
    load_mujoco()
    assert os.environ['MUJOCO_GL'] == 'egl'
