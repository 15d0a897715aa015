# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Whatever the inputs, all commands are finite and within limits.

A real controller_node: its callbacks get real messages as from the executor, and the test controls
its clocks, so that 100,000 control ticks take seconds.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from harness import Bench
import numpy as np
from odd import number
import pytest
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from std_msgs.msg import UInt32
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lewm_ros.nodes.controller import ControllerNode
from lewm_ros.nodes.messages import (
    POINT_FIELD,
    action_message,
    header,
    message_class,
    plan_message,
    to_time,
)
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.fields import read_fields
from lewm_ros.time import NS_PER_S

CYCLES = 100_000
#: Changes to the contract of the arm; together they have every limit and both stop modes.
ROBOTS: dict[str, dict[str, Any]] = {
    'effort': {},
    'limited': {'max_step': [0.3, 0.2], 'max_rate': [4.0, 8.0]},
    'position': {
        'type': 'trajectory_msgs/msg/JointTrajectory',
        'fields': ['points[0].positions[1]', 'points[0].positions[0]'],
        'kind': 'position',
        'low': [0.5, -2.0],
        'high': [0.7, -1.0],
        'max_rate': [0.5, 3.0],
        'executed': {
            'topic': 'applied',
            'type': 'trajectory_msgs/msg/JointTrajectory',
            'fields': ['points[0].positions[1]', 'points[0].positions[0]'],
        },
    },
}


class Controller:
    """A controller_node and the world as it sees it."""

    def __init__(
        self, bench: Bench, contract: Contract, file: Path, patch: pytest.MonkeyPatch
    ) -> None:
        self.contract = contract
        self.steady, self.clock = 1000.0, 10**18  # [s], [ns]
        self.camera_works, self.seen, self.went_back = True, 0.0, 0.0
        self.cycle = self.planned = 0  # the last one with a plan
        patch.setattr('lewm_ros.nodes.controller.monotonic', lambda: self.steady)
        settings = {'contract': str(file), 'autostart': False, 'use_sim_time': True}
        self.node: ControllerNode = bench.run(
            ControllerNode,
            'controller_node',
            parameter_overrides=[Parameter(k, value=v) for k, v in settings.items()],
        )
        self.node.get_logger().set_level(LoggingSeverity.FATAL)  # thousands of lines
        self.node.trigger_configure()
        self.node.trigger_activate()
        assert self.node.failure is None
        period = round(contract.period * NS_PER_S)
        (self._tick,) = (t.callback for t in self.node.timers if t.timer_period_ns == period)
        self._topics = {s.topic_name: s.callback for s in self.node.subscriptions}
        self.sent: list[tuple[float, np.ndarray]] = []
        command = self.node._command
        publish = command.publish

        def record(message: Any) -> None:
            self.sent.append((self.steady, read_fields(message, contract.action.fields)))
            publish(message)

        command.publish = record

    def take(self, topic: str, message: Any) -> None:
        """Hand a message over as the executor does."""
        self._topics[f'/lewm/{topic}'](message, {'received_timestamp': 0})

    def tick(self) -> None:
        """Pass the clock to the node and run a control tick."""
        self.node._time_source.clock_callback(Clock(clock=to_time(self.clock)))
        self._tick()


@pytest.fixture(params=ROBOTS)
def robot(
    request: pytest.FixtureRequest,
    bench: Bench,
    contract_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> Controller:
    """Return an active controller of each of the robots."""
    file = contract_file(action=ROBOTS[request.param])
    return Controller(bench, Contract.load(file), file, monkeypatch)


def plan(rng: np.random.Generator, robot: Controller) -> JointTrajectory:
    """Return a plan: half of them are valid, the others have a defect."""
    action = robot.contract.action
    low, high = action.bounds
    commands = rng.uniform(low - 0.2, high + 0.2, (int(rng.integers(1, 12)), action.size))
    start = robot.clock + int(rng.normal(scale=0.2) * NS_PER_S)
    period = round(robot.contract.period * NS_PER_S)
    message = plan_message(max(start, 1), period, commands, action)
    odd = rng.integers(0, 20)
    if odd == 0:
        message.points = []
    elif odd == 1:
        message.joint_names = [str(n) for n in rng.permutation([*action.names, ''])]
    elif odd == 2:
        message.header = header(int(rng.integers(0, 2**31 * NS_PER_S)))
    elif odd == 3:
        message.points.append(JointTrajectoryPoint(effort=[0.0], positions=[0.0] * 5))
    elif odd == 4:
        message.points[-1].time_from_start.sec = int(rng.integers(-(2**31), 2**31))
    elif odd == 5:
        rng.shuffle(message.points)
    elif odd == 6:  # averages overflow
        for index, point in enumerate(message.points):
            point.time_from_start.sec = 10 * index
            point.time_from_start.nanosec = 0
            setattr(point, POINT_FIELD[action.kind], [1.7e308] * action.size)
    elif odd < 10:
        point = message.points[int(rng.integers(len(message.points)))]
        wild = [number(rng) for _ in range(action.size)]
        setattr(point, POINT_FIELD[action.kind], wild)
    return message


def anomaly(rng: np.random.Generator) -> DiagnosticArray:
    """Return an event that opens or closes, or something like it."""
    values = {'id': str(rng.integers(3)), 'kind': 'surprise', 'end': str(rng.choice(['', '', '1']))}
    if rng.random() < 0.2:
        values.pop(str(rng.choice(list(values))))
    status = DiagnosticStatus(values=[KeyValue(key=k, value=v) for k, v in values.items()])
    return DiagnosticArray(status=[status] * int(rng.integers(0, 2)))


def happen(rng: np.random.Generator, robot: Controller) -> None:
    """Advance time and deliver random messages."""
    before = robot.clock
    robot.cycle += 1
    passed = rng.choice([1.0, 1.0, 1.0, 0.5, 0.0, 1.5, 3.0]) * robot.contract.period
    robot.steady += passed
    chance = rng.random()
    if chance > 0.01:
        robot.clock += round(passed * NS_PER_S)
    elif chance > 0.005:
        robot.steady += rng.exponential(1.0)  # the clock stands still
    elif chance > 0.001:
        robot.clock += int(rng.normal(scale=3.0) * NS_PER_S)
    else:
        robot.clock = int(rng.integers(0, 2**31 * NS_PER_S))
    robot.clock = min(max(robot.clock, 0), 2**31 * NS_PER_S - 1)
    if robot.clock < before:
        robot.went_back = robot.steady
    if rng.random() < 0.02:
        robot.camera_works = not robot.camera_works
    if robot.camera_works and rng.random() < 0.9:
        robot.seen = robot.steady
        robot.take('latent', Image())
    if rng.random() < 0.25:
        robot.planned = robot.cycle
        robot.take('plan', plan(rng, robot))
    if rng.random() < 0.01:
        robot.take('anomaly', anomaly(rng))
    if rng.random() < 0.005:
        robot.take('episode', UInt32(data=int(rng.integers(3))))
    if rng.random() < 0.003:
        given = [('on_anomaly', rng.choice(['ignore', 'slow', 'stop', 'x']))]
        given += [('slow_factor', number(rng))]
        robot.node.set_parameters([Parameter(k, value=v) for k, v in given])
    executed = robot.contract.action.executed
    if executed is not None and robot.sent:
        values = robot.sent[-1][1].copy()
        if rng.random() < 0.05:
            values[:] = number(rng)
        message = action_message(values, robot.contract.action, robot.clock)
        robot.take('applied', message if rng.random() < 0.99 else message_class(executed.type)())


@pytest.mark.filterwarnings('ignore::RuntimeWarning')  # averages of 1e300 overflow
def test_no_command_leaves_the_limits(robot: Controller) -> None:
    """Every tick sends one command: finite, within bounds, close enough to the last one.

    No plan is played while the camera is silent or just after the clock was set back. Afterwards
    only a newer plan is played.
    """
    rng = np.random.default_rng(0)
    action, stop, stopped = robot.contract.action, robot.contract.stop, 0
    for _ in range(CYCLES // len(ROBOTS)):
        happen(rng, robot)
        before = len(robot.sent)
        robot.tick()
        if stop.mode == 'hold' and not robot.sent:  # nothing before the first plan
            continue
        assert len(robot.sent) == before + 1
        silent, back = robot.steady - np.array([robot.seen, robot.went_back])
        if silent > stop.observation_timeout or back < 0.4:
            stopped = robot.cycle
        if before and robot.planned <= stopped:
            last, now = robot.sent[-2][1], robot.sent[-1][1]
            if stop.mode == 'hold':
                assert (now == last).all()
            elif action.max_step is None:
                assert not now.any()
            else:  # on the way to zero
                assert (np.abs(now) <= np.abs(last)).all()
    times = np.array([t for t, _ in robot.sent])
    commands = np.array([c for _, c in robot.sent])
    changes = np.abs(np.diff(commands, axis=0))
    low, high = action.bounds
    assert np.isfinite(commands).all()
    assert ((low <= commands) & (commands <= high)).all()
    if action.max_step is not None:
        assert (changes <= np.array(action.max_step) + 1e-9).all()
    if action.max_rate is not None:
        passed = np.minimum(np.diff(times), robot.contract.period)
        assert (changes <= np.array(action.max_rate) * passed[:, None] + 1e-9).all()
    # The test is void if the robot stood still or no defect reached it.
    figures = robot.node.report()
    assert changes.any(axis=1).mean() > 0.1
    watchdogs = ['stale', 'clock'] + ['executed'] * (action.executed is not None)
    for key in (
        'clipped',
        'rejected',
        'refused_plans',
        'plan_ends',
        *(f'{w}_stops' for w in watchdogs),
    ):
        assert figures[key] > 10, key
