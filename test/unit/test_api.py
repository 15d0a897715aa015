# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The public API: what it reads and rejects. Parity with the nodes: test_loop_parity.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml

import lewm_ros
from lewm_ros.api import planner_config, read_preset
from lewm_ros.bundle import Bundle, rewrite_manifest
from lewm_ros.errors import CalibrationError, ConfigError, ObservationError
from lewm_ros.planning.config import GoalConfig, PlannerConfig
from lewm_ros.planning.goal import GoalState
from lewm_ros.sim import make_task
from lewm_ros.time import NS_PER_S

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def preset(tmp_path: Path):
    """Return a function that writes a preset and returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / 'preset.yaml'
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize(
    'node',
    ['lewm/planner_node', '/lewm/planner_node', '/**/planner_node', '/*/planner_node', '/**'],
)
def test_a_preset_may_name_the_planner_as_ros_does(preset, node: str) -> None:
    """A preset may name planner_node by any pattern that matches the node."""
    path = preset(f'{node}:\n  ros__parameters: {{samples: 32, horizon: 4}}\n')
    config = planner_config(path, seed=3)
    assert (config.samples, config.horizon, config.seed) == (32, 4, 3)


def test_later_sections_win_and_other_nodes_do_not_count(preset) -> None:
    """Later sections override earlier ones, and other nodes' sections are ignored, as in ROS 2."""
    path = preset(
        '/**: {ros__parameters: {samples: 8, elites: 6, alpha: 0.05}}\n'
        '/*/planner_node: {ros__parameters: {samples: 32, goal_tolerance: 0.2}}\n'
        '/other/planner_node: {ros__parameters: {samples: 128}}\n'
        '/lewm/planner_node: {ros__parameters: {qos_overrides: {}}}\n'
        'surprise_node: {ros__parameters: {alpha: 0.05}}\n'
    )
    expected = PlannerConfig(samples=32, elites=6, seed=3), GoalConfig(goal_tolerance=0.2)
    assert read_preset(path, 3) == expected


@pytest.mark.parametrize(
    ('text', 'says'),
    [
        (
            '/**/planner_node: {ros__parameters: {smaples: 32}}',
            "'smaples'.*expected some of.*'samples'",
        ),
        ('/**/planner_node: {ros__parameters: {horizon: 1}}', 'horizon is 1'),
        ('planner_node: {ros__parameters: {samples: 32}}', r'write /\*\*/planner_node'),
        ('planner_node: {samples: 32}', 'ros__parameters'),
        ('surprise_node: {ros__parameters: {alpha: 0.05}}', 'no parameters of planner_node'),
        ('- 3', 'preset'),
    ],
)
def test_a_wrong_preset_is_refused_by_name(preset, text: str, says: str) -> None:
    """A misspelt key, an invalid value or a missing node name is rejected by name."""
    with pytest.raises(ConfigError, match=says):
        planner_config(preset(text))


def test_the_front_door_is_imported_when_it_is_used() -> None:
    """Importing the package loads no numpy, torch or rclpy; unknown names are no attributes."""
    code = (
        'import sys, lewm_ros; print("numpy" in sys.modules, hasattr(lewm_ros, "Robot"),'
        'lewm_ros.Policy.__name__, lewm_ros.SurpriseMonitor.__name__, "torch" in sys.modules,'
        '"rclpy" in sys.modules)'
    )
    shown = subprocess.run(
        [sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert shown.stdout.split() == ['False', 'False', 'Policy', 'SurpriseMonitor', 'False', 'False']


def act(policy: lewm_ros.Policy, image: np.ndarray, stamp: int) -> np.ndarray | None:
    """Process a frame that is as old as the command after it."""
    policy.observe(image, stamp)
    return policy.command(stamp)


def test_a_camera_with_latency_and_missing_frames_moves_the_robot(calibrated: Bundle) -> None:
    """Frames 60 ms old, one in eight lost: the clock of the commands goes on, and plans run."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (120, 32, 32, 3), np.uint8)
    policy = lewm_ros.Policy.load(calibrated.path)
    policy.set_goal(images[0])
    moving = 0
    for tick, image in enumerate(images):
        now = NS_PER_S + tick * NS_PER_S // 20
        if tick % 8:
            policy.observe(image, now - 60_000_000)
        command = policy.command(now)
        moving += command is not None and command.any()
    assert moving > 60 and not policy.loop.warnings


def test_a_camera_in_another_mode_than_in_training_is_refused(
    calibrated: Bundle, tmp_path: Path
) -> None:
    """The first frame is compared with the training data, if the bundle says what they were."""
    shutil.copytree(calibrated.path, tmp_path / 'wide')
    manifest = replace(calibrated.manifest, camera_size=(640, 480))
    rewrite_manifest(tmp_path / 'wide', manifest)
    policy = lewm_ros.Policy.load(tmp_path / 'wide')
    said = 'image is 64x64 pixels, frames of the training data were 640x480: expected the same asp'
    with pytest.raises(ObservationError, match=said):
        policy.observe(np.zeros((64, 64, 3), np.uint8), NS_PER_S)
    policy.observe(np.zeros((48, 64, 3), np.uint8), NS_PER_S)


def test_a_policy_keeps_its_deadline_with_a_clock(calibrated: Bundle) -> None:
    """With a clock, a plan without time budget runs one iteration; without a clock, more."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), np.uint8)
    found = []
    for options in ({}, {'clock': lambda: 1.0}):
        policy = lewm_ros.Policy.load(calibrated.path, **options)
        if options:
            policy.agent.planner.budget = 0.0
        policy.set_goal(images[0])
        for tick, image in enumerate(images[:20]):
            command = act(policy, image, NS_PER_S + tick * NS_PER_S // 20)
            assert command is not None and (np.abs(command) <= 1.0).all()
        found.append(policy.plan.iterations)
    assert found[0] > 1 and found[1] == 1


def test_the_delay_of_commands_is_part_of_the_time_that_a_plan_has(
    calibrated: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan is stamped by its effect: its first command is due `action.delay` earlier."""
    budgets = []
    for delay in (0.0, 0.1):
        contract = calibrated.contract.to_dict()
        contract['action']['delay'] = delay
        path = tmp_path / f'{delay}.yaml'
        path.write_text(yaml.safe_dump(contract))
        policy = lewm_ros.Policy.load(calibrated.path, path, clock=lambda: 1.0)
        planner, given = policy.agent.planner, []
        search = planner.plan

        def plan(context, committed, goal, budget, *others, search=search, given=given):
            given.append(budget)
            return search(context, committed, goal, budget, *others)

        monkeypatch.setattr(planner, 'plan', plan)
        image = np.zeros((32, 32, 3), np.uint8)
        policy.set_goal(image)
        for tick in range(20):
            act(policy, image, NS_PER_S + tick * NS_PER_S // 20)
        assert len(set(given)) == 1
        budgets.append(given[0])
    assert budgets == pytest.approx([planner.budget, planner.budget - 0.1])


def test_a_goal_set_long_after_the_last_frame_moves_nothing(calibrated: Bundle) -> None:
    """A goal set long after the last frame does not move the robot.

    The plan from that frame lies in the past: it is rejected, and the reason is kept.
    """
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 32, 32, 3), np.uint8)
    policy = lewm_ros.Policy.load(calibrated.path)
    for tick, image in enumerate(images):
        act(policy, image, NS_PER_S + tick * NS_PER_S // 20)
    policy.set_goal(images[0], 10 * NS_PER_S)
    assert policy.refused is not None and 'in the past' in policy.refused
    command = policy.command(10 * NS_PER_S)
    assert command is not None and not command.any()


def test_a_goal_is_given_up_after_its_timeout(calibrated: Bundle) -> None:
    """A goal is given up after its timeout, and no plans follow, as in planner_node."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 32, 32, 3), np.uint8)
    policy = lewm_ros.Policy.load(calibrated.path)
    policy.agent.goal.config = GoalConfig(0.0, 0.5, 1.5)
    policy.set_goal(images[0], NS_PER_S)
    plans = []
    for tick, image in enumerate(images):
        before = policy.plan
        act(policy, image, NS_PER_S + tick * NS_PER_S // 20)
        plans.append(policy.plan is not before)
    assert any(plans[:30]) and not any(plans[30:])
    assert policy.agent.goal.state is GoalState.TIMEOUT


def test_a_goal_set_before_the_first_frame_counts_from_it(calibrated: Bundle) -> None:
    """Without a clock no time is known before the first frame, whose stamp may be of any epoch."""
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    policy = lewm_ros.Policy.load(calibrated.path)
    policy.agent.goal.config = GoalConfig(0.0, 0.5, 1.0)
    policy.set_goal(images[0])
    began = 1_800_000_000 * NS_PER_S
    for tick, image in enumerate(images[:19]):
        act(policy, image, began + tick * NS_PER_S // 20)
    assert policy.agent.goal.state is GoalState.ACTIVE and policy.plan is not None
    for tick, image in enumerate(images[19:], 19):
        act(policy, image, began + tick * NS_PER_S // 20)
    assert policy.agent.goal.state is GoalState.TIMEOUT


def test_a_goal_of_an_episode_before_counts_from_the_next_one(calibrated: Bundle) -> None:
    """Stamps of a new episode may start over, or later: the goal is as if set then."""
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    policy = lewm_ros.Policy.load(calibrated.path)
    policy.agent.goal.config = GoalConfig(0.0, 0.5, 1.0)
    policy.set_goal(images[0])
    for began in (100, 1, 500):
        for tick, image in enumerate(images[:19]):
            act(policy, image, began * NS_PER_S + tick * NS_PER_S // 20)
        assert policy.agent.goal.state is GoalState.ACTIVE
        policy.reset()
    for tick, image in enumerate(images):
        act(policy, image, NS_PER_S + tick * NS_PER_S // 20)
    assert policy.agent.goal.state is GoalState.TIMEOUT


def test_a_frame_that_is_given_again_is_no_sign_of_the_camera(calibrated: Bundle) -> None:
    """A program that passes the newest frame at every tick stops with a camera that hangs."""
    images = np.random.default_rng(0).integers(0, 256, (30, 32, 32, 3), np.uint8)
    policy = lewm_ros.Policy.load(calibrated.path)
    policy.set_goal(images[0])
    for tick in range(60):
        now, seen = NS_PER_S + tick * NS_PER_S // 20, min(tick, 29)
        policy.observe(images[seen], NS_PER_S + seen * NS_PER_S // 20)
        policy.command(now)
        assert ('stale' in policy.loop.warnings) == (tick > 29 + 10)


def test_a_monitor_sees_a_teleport() -> None:
    """A teleport opens an event within three frames, and no event is open before it."""
    monitor = lewm_ros.SurpriseMonitor.load('reacher')
    task = make_task('reacher', 64, seed=2)
    try:
        edges = []
        for frame in range(60):
            stamp = NS_PER_S + frame * NS_PER_S // 20
            if frame == 45:
                assert not monitor.open
                task.perturb('teleport')
            monitor.add_action(stamp, np.zeros(2))
            reading = monitor.see(task.render(), stamp)
            edges += reading.edges
            task.step(np.zeros(2), 10)
    finally:
        task.close()
    assert edges[0].event.kind == 'surprise'
    assert edges[0].stamp - NS_PER_S in range(45 * NS_PER_S // 20, 48 * NS_PER_S // 20)
    assert reading.contributions.sum() == pytest.approx(reading.score)


def test_a_monitor_needs_thresholds(tiny_bundle: Bundle) -> None:
    """A bundle without thresholds is rejected with the command that makes them."""
    with pytest.raises(CalibrationError, match='lewm calibrate'):
        lewm_ros.SurpriseMonitor.load(tiny_bundle.path)
