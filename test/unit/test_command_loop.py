# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The command loop, tick by tick; test_fuzz.py and the fault tests drive it as a whole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lewm_ros.control.loop import CommandLoop, Reaction
from lewm_ros.errors import ConfigError, ObservationError
from lewm_ros.planning.receding_horizon import RATED
from lewm_ros.robot.contract import Contract, Stop
from lewm_ros.time import NS_PER_S

TICK = NS_PER_S // 20
GO = np.full((10, 2), 0.5)


class Robot:
    """A command loop whose two clocks advance together, and whose camera works."""

    def __init__(self, contract: Contract, **options: object) -> None:
        self.loop = CommandLoop(contract, Reaction(**options))  # type: ignore[arg-type]
        self.now, self.camera = NS_PER_S, True

    def plan(self, commands: np.ndarray = GO, ahead: int = 0) -> None:
        """Add a plan that starts ``ahead`` ticks from now."""
        start = self.now + ahead * TICK
        self.loop.add_plan(start, TICK, commands, self.now, self.now / NS_PER_S)

    def ticks(self, count: int, anomaly: bool = False) -> list[float]:
        """Return the first value of each of the next ``count`` commands."""
        found = []
        for _ in range(count):
            if self.camera:
                assert self.loop.observe(self.now, self.now, self.now / NS_PER_S) is None
            command = self.loop.tick(self.now, self.now / NS_PER_S, anomaly)
            found.append(float('nan') if command is None else float(command[0]))
            self.now += TICK
        return found


def hold(contract: Contract, **action: object) -> Contract:
    """Return a contract of position commands."""
    made = replace(contract.action, kind='position', **action)  # type: ignore[arg-type]
    return replace(contract, action=made, stop=Stop('hold'))


def test_a_plan_is_played_and_its_end_is_noted(reacher_contract: Contract) -> None:
    """A plan is played between zero commands, and its end is recorded."""
    robot = Robot(reacher_contract)
    robot.plan(ahead=2)
    assert robot.ticks(14) == [0.0] * 2 + [0.5] * 10 + [0.0] * 2
    assert (robot.loop.state, robot.loop.ended, robot.loop.plan_ends) == ('idle', True, 1)
    robot.plan()
    robot.ticks(1)
    assert (robot.loop.state, robot.loop.ended) == ('playing', False)


def test_a_silent_camera_drops_the_plan(reacher_contract: Contract) -> None:
    """A camera silent beyond the timeout drops the plan; new frames alone do not resume it."""
    robot = Robot(reacher_contract)
    robot.plan(np.full((100, 2), 0.5))
    assert robot.ticks(3) == [0.5] * 3
    robot.camera = False
    ticks = round(reacher_contract.stop.observation_timeout * 20)
    assert robot.ticks(ticks + 3)[-3:] == [0.0] * 3
    before = robot.loop.warnings['stale']
    assert before.startswith('no latent for')
    robot.ticks(20)
    assert robot.loop.warnings['stale'] != before  # the time goes on
    robot.camera = True
    assert robot.ticks(3) == [0.0] * 3
    assert (robot.loop.state, robot.loop.warnings) == ('idle', {})
    assert robot.loop.stops == {'stale': 1}


@pytest.mark.parametrize(
    ('reaction', 'left', 'state'),
    [('ignore', 0.5, 'playing'), ('slow', 0.125, 'anomaly'), ('stop', 0.0, 'anomaly')],
)
def test_an_open_anomaly(
    reacher_contract: Contract, reaction: str, left: float, state: str
) -> None:
    """While an anomaly is open, commands are sent as planned, slowed or stopped, as configured."""
    robot = Robot(reacher_contract, on_anomaly=reaction, slow_factor=0.25)
    robot.plan()
    assert robot.ticks(2, anomaly=True) == [left] * 2
    assert robot.loop.state == state
    assert robot.ticks(2) == [0.5] * 2
    assert robot.loop.anomaly_ticks == 2


def test_commands_leave_early_by_the_delay(reacher_contract: Contract) -> None:
    """Commands are sent early by the action delay, so that they take effect as planned."""
    action = replace(reacher_contract.action, delay=0.1)
    robot = Robot(replace(reacher_contract, action=action))
    robot.plan(ahead=3)
    assert robot.ticks(3) == [0.0, 0.5, 0.5]


def test_a_holding_robot_is_sent_nothing_before_its_first_plan(reacher_contract: Contract) -> None:
    """A position robot gets no command before its first plan, then holds its last position."""
    robot = Robot(hold(reacher_contract))
    assert np.isnan(robot.ticks(2)).all()
    assert robot.loop.stop() is None
    robot.plan(GO[:3])
    assert robot.ticks(5) == [0.5] * 5
    stop = robot.loop.stop()
    assert stop is not None and stop[0] == 0.5


@pytest.mark.parametrize(
    ('reports', 'first'),
    [
        ([(0.0, 0.0)], 0.1),  # a ramp from the pose
        ([(0.45, 0.5)], 0.5),
        ([(1.05, 0.5)], 0.95),  # a little beyond the limit
        ([(0.0, 0.0), (0.3, 0.3)], 0.4),  # the newest report counts
        ([(float('nan'), 0.0)], 0.5),  # invalid: as without a report
        ([(0.0, float('inf'))], 0.5),
        ([(0.0, -1e300)], 0.5),
        ([], 0.5),
    ],
)
def test_the_first_command_of_a_holding_robot_starts_from_its_pose(
    reacher_contract: Contract, reports: list[tuple[float, float]], first: float
) -> None:
    """The first command starts from the reported pose, if any; a report alone moves nothing."""
    robot = Robot(hold(reacher_contract, max_step=(0.1, 0.1)))
    for values in reports:
        robot.loop.executed(np.array(values), robot.now / NS_PER_S)
    assert np.isnan(robot.ticks(2)).all()
    assert robot.loop.stop() is None
    robot.plan()
    assert robot.ticks(1) == [pytest.approx(first)]
    robot.loop.executed(np.array([-1.0, -1.0]), robot.now / NS_PER_S)
    assert abs(robot.ticks(1)[0] - first) <= 0.1 + 1e-9  # relative to the command sent


def test_an_old_pose_does_not_count(reacher_contract: Contract) -> None:
    """An outdated pose report is ignored."""
    robot = Robot(hold(reacher_contract, max_step=(0.1, 0.1)))
    robot.loop.executed(np.zeros(2), robot.now / NS_PER_S)
    robot.ticks(20)
    robot.plan()
    assert robot.ticks(1) == [0.5]


@pytest.mark.parametrize(('ahead', 'says'), [(-10, 'in the past'), (30, 'ahead: clocks differ')])
def test_a_plan_for_another_time_is_refused(
    reacher_contract: Contract, ahead: int, says: str
) -> None:
    """A plan that is wholly in the past, or too far ahead, is rejected."""
    robot = Robot(reacher_contract)
    with pytest.raises(ObservationError, match=says):
        robot.plan(ahead=ahead)
    assert np.isnan(robot.loop.planned)


def test_a_frame_of_a_clock_that_is_ahead_does_not_count(reacher_contract: Contract) -> None:
    """A frame stamped in the future is ignored, and the clock difference is returned."""
    loop = CommandLoop(reacher_contract)
    assert loop.observe(4 * NS_PER_S, NS_PER_S, 1.0) == pytest.approx(3.0)
    assert loop.camera.age(1.0) == float('inf')


def test_reactions_that_make_no_sense_are_refused(reacher_contract: Contract) -> None:
    """The reaction 'slow' with position commands, and an unknown reaction, are rejected."""
    with pytest.raises(ConfigError, match='does not slow the robot'):
        CommandLoop(hold(reacher_contract), Reaction('slow'))
    with pytest.raises(ConfigError, match="'ignore', 'slow', 'stop'"):
        CommandLoop(reacher_contract, Reaction('halt'))


def test_commands_beyond_the_limits_are_counted(reacher_contract: Contract) -> None:
    """Planned commands beyond the limits are counted, but not those of a ramp to a stop.

    Ticks that are early or late by a twentieth of a period do not count either.
    """
    action = replace(reacher_contract.action, max_step=(0.1, 0.1), max_rate=(2.0, 2.0))
    robot = Robot(replace(reacher_contract, action=action))
    ramp = np.repeat(np.arange(1, 11)[:, None] * RATED * 0.1, 2, axis=1)
    robot.plan(ramp)
    robot.ticks(10)
    assert (robot.loop.played, robot.loop.exceeded) == (10, 0)
    robot.ticks(15)  # ramps to a stop
    assert (robot.loop.played, robot.loop.exceeded) == (10, 0)
    clipped = robot.loop.limits.clipped
    assert clipped > 0
    robot.plan(ramp)
    for early in (0, 1, -1, 1, -2, 1):
        robot.now -= early * TICK // 20
        robot.ticks(1)
    assert robot.loop.limits.clipped == clipped
    assert (robot.loop.played, robot.loop.exceeded) == (16, 0)
    robot.loop.drop_plans()
    robot.ticks(15)
    robot.plan()  # a step to 0.5
    robot.ticks(10)
    assert (robot.loop.played, robot.loop.exceeded) == (26, 1)  # one step, however long it takes
    robot.loop.drop_plans()
    robot.ticks(15)
    robot.plan(ramp)
    robot.ticks(3)
    robot.now += TICK  # one tick is missed
    robot.ticks(3)
    assert (robot.loop.played, robot.loop.exceeded) == (32, 1)


def test_late_ticks_change_by_no_more_than_punctual_ones(reacher_contract: Contract) -> None:
    """Ticks up to half a period late send the commands of the times when they were due."""
    action = replace(reacher_contract.action, max_step=(0.1, 0.1))
    robot = Robot(replace(reacher_contract, action=action))
    ramp = np.repeat(np.arange(1, 11)[:, None] * 0.1, 2, axis=1)
    robot.plan(ramp, ahead=1)
    sent, began = [], robot.now
    for number, late in enumerate((0.0, 0.3, 0.45, 0.0, 0.2, 0.4, 0.1)):
        robot.now = began + round((number + late) * TICK)
        sent += robot.ticks(1)
    np.testing.assert_allclose(sent, np.arange(7) * 0.1)
    assert robot.loop.limits.clipped == 0
