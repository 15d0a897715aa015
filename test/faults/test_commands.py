# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What stops a moving robot, how soon, and that it goes on when all is well again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
import time

from driven import Robot, driven
from harness import Bench
import numpy as np
import pytest

from lewm_ros.robot.contract import Contract

REST = np.zeros(2)
GO = np.array([0.5, -0.5])


@pytest.fixture(scope='module')
def arm(
    shared_bench: Bench, reacher_contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Robot]:
    """Return a controller of two torques."""
    with driven(shared_bench, reacher_contract, tmp_path_factory.mktemp('arm')) as robot:
        yield robot


@pytest.fixture
def servo(bench: Bench, reacher_contract: Contract, tmp_path: Path) -> Iterator[Robot]:
    """Return a controller of two positions, for a robot that reports what it executes."""
    kind, fields = 'sensor_msgs/msg/JointState', ['position[0]', 'position[1]']
    executed = {'topic': 'applied', 'type': kind, 'fields': list(fields)}
    changes = {'type': kind, 'fields': fields, 'kind': 'position', 'executed': executed}
    with driven(bench, reacher_contract, tmp_path, **changes) as robot:
        yield robot


def still(commands: list[np.ndarray], command: np.ndarray) -> bool:
    """Whether there are commands, and all of them are this one."""
    return len(commands) > 0 and all(np.array_equal(c, command) for c in commands)


@pytest.mark.timeout(900)
def test_a_silent_camera_stops_a_moving_robot_every_time(arm: Robot, soak: bool) -> None:
    """It stops within observation_timeout and a period, with one warning each time.

    Neither plans alone nor frames alone move it again; both together do.
    """
    rng = np.random.default_rng(0)
    trials = 100 if soak else 5
    for trial in range(1, trials + 1):
        arm.target, arm.camera = GO, True
        arm.until(GO[0], 'no motion with frames and plans')
        arm.live(rng.uniform(0, 0.3))
        assert arm.commands[-1][1].any()
        arm.camera = False
        arm.live(arm.timeout + 0.6, plans=trial % 2 == 0)
        assert arm.timeout - 0.1 <= arm.moved_after(arm.seen) <= arm.deadline
        arm.target, arm.camera = None, True
        assert still(arm.live(1.3), REST)
        assert arm.said('no latent for') == (trial, trial)
    assert int(arm.bench.report('controller_node')['stale_stops']) >= trials - 1
    arm.target = GO
    arm.until(GO[0], 'no motion after the last silence')


def test_a_planner_that_is_gone_is_named(arm: Robot) -> None:
    """The plan is played to its end, then both facts are reported until a planner is back."""
    arm.target, arm.camera = GO, True
    arm.until(GO[0], 'no motion')
    ends = arm.said('the plan ended')
    arm.target = None
    arm.bench.node.destroy_publisher(arm.plan)
    assert still(arm.live(2.3)[-20:], REST)
    arm.bench.says('controller_node', 'nobody publishes /lewm/plan')
    assert arm.said('the plan ended') == (ends[0] + 1, ends[1])
    arm.connect_planner()
    arm.target = GO
    arm.until(GO[0], 'no motion with a new planner')
    arm.live(2.6)
    assert arm.said('nobody publishes /lewm/plan') == (1, 1)
    arm.bench.content('controller_node')


def test_who_takes_over_stops_the_plan_until_they_let_go(servo: Robot) -> None:
    """If the executed commands differ, the robot holds and says so; it resumes by itself."""
    servo.target = GO
    servo.until(GO[0], 'no motion')
    assert servo.said('the robot executes something other') == (0, 0)
    servo.override, taken = np.array([0.9, 0.9]), time.monotonic()
    servo.target = -GO
    servo.until(-GO[0], 'the plan goes on for the timeout')
    assert time.monotonic() - taken < servo.deadline
    servo.target = np.array([0.1, 0.1])  # unlike any command that was sent
    servo.live(servo.deadline - (time.monotonic() - taken))
    held = servo.commands[-1][1]
    servo.target = GO
    assert still(servo.live(0.8), held)
    assert servo.said('the robot executes something other') == (1, 0)
    servo.override = None
    let_go = time.monotonic()
    servo.until(GO[0], 'no motion after they let go')
    assert time.monotonic() - let_go > servo.timeout
    servo.live(1.3)
    assert servo.said('the robot executes something other') == (1, 1)
    # A robot that stops reporting is not under our control either.
    servo.override = 'nothing'
    servo.live(servo.deadline)
    held, servo.target = servo.commands[-1][1], -GO
    assert still(servo.live(0.5), held)
    assert servo.said('the robot does not report what it executes') == (1, 0)
    servo.override = None
    servo.until(-GO[0], 'no motion after reports came again')


def test_positions_are_held_while_the_camera_is_silent(servo: Robot) -> None:
    """The last command is repeated at the same rate, whatever plans arrive."""
    servo.target = GO
    servo.until(GO[0], 'no motion')
    servo.camera = False
    servo.live(servo.deadline)
    servo.target = -GO
    commands = servo.live(1.0)
    assert still(commands, GO)
    assert 18 <= len(commands) <= 22
    servo.camera = True
    servo.until(-GO[0], 'no motion with frames and plans')
    servo.live(1.3)
    assert servo.said('no latent for') == (1, 1)
