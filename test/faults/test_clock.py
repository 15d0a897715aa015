# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A clock that stalls or jumps stops the robot; only a new plan moves it again."""

from __future__ import annotations

from collections.abc import Iterator
import time

from driven import DELIVERY, Robot, driven
from harness import Bench
import numpy as np
import pytest

from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S

GO = np.array([0.5, -0.5])


@pytest.fixture(scope='module')
def shared(
    shared_bench: Bench, reacher_contract: Contract, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Robot]:
    """Return a controller under simulated time."""
    folder = tmp_path_factory.mktemp('arm')
    with driven(shared_bench, reacher_contract, folder, simulated=True) as robot:
        yield robot


@pytest.fixture
def robot(shared: Robot) -> Robot:
    """Return the robot in motion, in the first second of a 10 s plan."""
    shared.runs, shared.target = True, GO
    for _ in range(5):  # a busy machine may stop the clock, too
        shared.until(GO[0], 'no motion')
        shared.send(seconds=10.0)
        if all(np.array_equal(c, GO) for c in shared.live(0.5, plans=False)):
            return shared
    pytest.fail('no steady motion')


def test_a_paused_simulation_stops_the_robot(robot: Robot) -> None:
    """It stops within observation_timeout and a period despite frames; a new plan restarts it."""
    robot.runs, paused = False, time.monotonic()
    robot.live(1.2, plans=False)
    assert robot.timeout - 0.1 < robot.moved_after(paused) < robot.deadline
    robot.live(0.5)  # plans do not move it either while the clock stands still
    robot.runs = True
    robot.live(1.5, plans=False)
    assert robot.moved_after(paused) < robot.deadline
    assert robot.said('the clock has stood still for') == (1, 1)
    robot.until(GO[0], 'no motion by a new plan')


@pytest.mark.parametrize('back', [60.0, 1.0, 0.3])
def test_a_clock_set_back_ends_every_old_plan(robot: Robot, back: float) -> None:
    """The robot stops at once; neither the active plan nor one in transit is played later."""
    before = robot.said('the clock went back by')[0]
    robot.send(seconds=10.0)
    late = robot.now + NS_PER_S // 10
    robot.clock -= round(back * NS_PER_S)
    jumped = time.monotonic()
    robot.live(0.1, plans=False)
    robot.send(ahead=(late - robot.now) / NS_PER_S)  # made before the jump
    robot.live(1.9, plans=False)  # past the time of the old plans where the jump was short
    assert robot.moved_after(jumped) < 0.05 + DELIVERY
    assert robot.said('the clock went back by') == (before + 1, before + 1)
    robot.until(GO[0], 'no motion by a new plan')


def test_a_clock_that_leaps_ahead_drops_the_plan(robot: Robot) -> None:
    """This holds even if the plan covers the new time: the robot is not where it expects."""
    before = robot.said('the clock went ahead by')[0]
    robot.clock += 3 * NS_PER_S
    jumped = time.monotonic()
    robot.live(1.9, plans=False)
    assert robot.moved_after(jumped) < 0.05 + DELIVERY
    assert robot.said('the clock went ahead by') == (before + 1, before + 1)
    robot.until(GO[0], 'no motion by a new plan')
