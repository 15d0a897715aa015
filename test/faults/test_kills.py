# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Nodes killed, stopped and slowed down while the simulated arm moves, one process for each."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
import os
from pathlib import Path
import re
import signal
import time
from typing import Any
from unittest import mock

from harness import ROOT, Bench, Process
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.bringup.groups import GROUPS, PROFILES, profile_variable
from lewm_ros.control.playback import Playback
from lewm_ros.nodes.messages import read_plan
from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S

CONTRACT = Contract.load(ROOT / 'config' / 'robots' / 'reacher.yaml')
PERIOD = round(CONTRACT.period * NS_PER_S)
#: Delivery of a message, or time from a tick to its command, on a busy machine [s].
DELIVERY = 0.05
#: Pause in every 100 ms that makes a planner five times slower [s].
PAUSED = 0.08
#: The robot stops within this time after the last latent [s].
TIMEOUT = CONTRACT.stop.observation_timeout + CONTRACT.period + DELIVERY
#: Longest delivery of a plan: its planner may have been paused meanwhile [s].
ARRIVAL = 0.4
#: Loopback without shared memory, in which a killed process can block others (docs/safety.md):
#: this module tests the nodes.
LOOPBACK = {
    'ROS_AUTOMATIC_DISCOVERY_RANGE': 'SYSTEM_DEFAULT',
    **dict.fromkeys(PROFILES, str(Path(__file__).with_name('loopback.xml'))),
}
NODES = ('sim_node', 'encoder_node', 'planner_node', 'surprise_node', 'controller_node')


class Robot:
    """The nodes of the arm, each in a process that can be killed, and what they say."""

    def __init__(self, bench: Bench, stack: ExitStack) -> None:
        self.bench = bench
        self._stack = stack
        self.processes: dict[str, Process] = {}
        self.commands = self._listen(Float64MultiArray, 'action')
        self.plans = self._listen(JointTrajectory, 'plan')
        self.latents = self._listen(Image, 'latent')

    def _listen(self, kind: type, topic: str) -> list[tuple[float, Any]]:
        """Record messages with their source timestamps [s], however late they are received."""
        heard: list[tuple[float, Any]] = []

        def note(message: Any, info: Any) -> None:
            heard.append((info['source_timestamp'] / NS_PER_S, message))

        self.bench.node.create_subscription(kind, topic, note, 10)
        return heard

    def start(self, *names: str, **parameters: object) -> None:
        """Start nodes, each in a process of its own, and wait for them."""
        for name in names:
            self.bench.diagnostics.pop(f'lewm/{name}', None)
            started = self.bench.nodes(name, bundle='reacher', **parameters)
            self.processes[name] = self._stack.enter_context(started)
        self.bench.active(*names)

    def kill(self, name: str) -> float:
        """Kill a node; return when [s]."""
        self.processes[name].send(signal.SIGKILL)
        self.processes[name].wait()
        return time.time()

    def set_goal(self) -> None:
        """Set a goal pose."""
        goal = self.bench.publisher(Float64MultiArray, 'sim/goal')
        goal.publish(Float64MultiArray(data=[1.0, -1.0]))

    def moves(self) -> None:
        """Wait until the last five commands are all non-zero."""
        began = time.time()
        self.bench.until(
            lambda: (
                len(heard := since(self.commands, began)) >= 5
                and all(any(m.data) for m in heard[-5:])
            ),
            lambda: f'it does not move: {self.bench.text("controller_node")}',
            20.0,
        )

    def stopped(self) -> float:
        """Wait for a second of stop commands; return when they began [s]."""
        self.bench.until(lambda: not self._newest(1.0), 'it does not stop')
        moved = [t for t, m in self.commands if any(m.data)]
        return next(t for t, _ in self.commands if t > moved[-1])

    def _newest(self, seconds: float) -> list[Float64MultiArray]:
        """Commands of the last ``seconds`` that are no stop; all of them if there are too few."""
        newest = since(self.commands, time.time() - seconds)
        enough = len(newest) > 0.8 * seconds / CONTRACT.period
        return [m for m in newest if any(m.data) or not enough] if newest else [None]

    def rate(self, began: float) -> float:
        """Return the mean rate of the commands since then [Hz]."""
        times = [t for t, _ in self.commands if t >= began]
        return (len(times) - 1) / (times[-1] - times[0])

    def stale(self, began: float) -> list[str]:
        """Return the moving commands since ``began`` that no plan asks for at their time.

        Plans before the last six have ended. The delivery time of plans, in which the planner may
        have been paused, makes it uncertain which had arrived at a tick. The time until the command
        is published makes it uncertain when the tick was.
        """
        plans = [(t, read_plan(m, CONTRACT.action, PERIOD)) for t, m in self.plans]
        found = []
        before = None
        for t, message in self.commands:
            command, previous = np.array(message.data), before
            before = command
            if t < began or not command.any():
                continue
            published = [sum(at <= when for at, _ in plans) for when in (t - ARRIVAL, t)]
            lines = [plans[max(n - 6, 0) : n] for n in range(published[0], published[1] + 1)]
            if previous is None or not previous.any():  # a robot that stops drops its plans
                lines += [line[n:] for line in lines for n in range(1, len(line))]
            if not any(asks_for(command, previous, [p for _, p in line], t) for line in lines):
                found.append(f'{command} at {t:.3f}')
        return found


def asks_for(
    command: np.ndarray, previous: np.ndarray | None, plans: list[tuple], t: float
) -> bool:
    """Whether plans, on one timeline, ask for a command (A,) that was published at ``t`` [s].

    The command before, ``previous``, counts in the tick in which the first plan begins.
    """
    line = Playback(CONTRACT.action.size)
    for plan in plans:
        line.add(*plan)
    ticks = np.arange(t - DELIVERY, t + 0.001, 0.001)
    asked = [line.command(round(tick * NS_PER_S), PERIOD, previous) for tick in ticks]
    asked = [values for values in asked if values is not None]
    # Between two of these moments the command can change by as much.
    return bool(asked) and bool(
        (command >= np.min(asked, 0) - 0.02).all() and (command <= np.max(asked, 0) + 0.02).all()
    )


def since(heard: list, began: float) -> list:
    return [m for t, m in heard if t >= began]


@pytest.fixture(scope='module')
def robot(shared_bench: Bench) -> Iterator[Robot]:
    """Return the arm on its way to a goal; tests leave it as they found it."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.dict(os.environ, LOOPBACK))
        made = Robot(shared_bench, stack)
        made.start(*NODES, threads=1)
        made.set_goal()
        yield made


@pytest.fixture(autouse=True)
def moving(request: pytest.FixtureRequest) -> None:
    """Begin each test of the arm with a moving one."""
    if 'robot' in request.fixturenames:
        request.getfixturevalue('robot').moves()


def abandoned() -> set[Path]:
    """Segments of shared memory that no running process has mapped."""
    mapped = set()
    for maps in Path('/proc').glob('[0-9]*/maps'):
        with suppress(OSError):
            mapped |= set(re.findall(r'/dev/shm/\S+', maps.read_text()))
    found = [p for name in ('dds', 'rtps') for p in Path('/dev/shm').glob(f'fast{name}_{16 * "?"}')]
    return {p for p in found if str(p) not in mapped}


def environment(pid: int) -> str:
    return Path(f'/proc/{pid}/environ').read_text()


def within_five_percent(rate: float) -> bool:
    return abs(rate * CONTRACT.period - 1) <= 0.05


def test_a_paused_simulator_stops_the_robot(robot: Robot):
    """Without frames it stops after observation_timeout; it moves again when they come."""
    began = time.time()
    robot.processes['sim_node'].send(signal.SIGSTOP)
    try:
        stopped = robot.stopped()
    finally:
        robot.processes['sim_node'].send(signal.SIGCONT)
    silent = max(t for t, _ in robot.latents if t < stopped)
    assert stopped - silent <= TIMEOUT
    assert within_five_percent(robot.rate(began))
    robot.moves()
    assert not robot.stale(began)


def test_a_planner_five_times_slower_costs_no_command(robot: Robot):
    """It runs for 20 ms of every 100: commands keep their rate, and each follows a plan."""
    began = time.time()
    planner = robot.processes['planner_node']
    try:
        while time.time() < began + 4.0:
            planner.send(signal.SIGSTOP)
            robot.bench.spin(PAUSED)
            planner.send(signal.SIGCONT)
            robot.bench.spin(PAUSED / 4)
    finally:
        planner.send(signal.SIGCONT)
    assert within_five_percent(robot.rate(began))
    assert not robot.stale(began)
    assert since(robot.plans, began)


def test_a_killed_surprise_node_changes_nothing(robot: Robot):
    """With on_anomaly 'ignore' the commands go on."""
    began = robot.kill('surprise_node')
    robot.bench.spin(2.0)
    assert within_five_percent(robot.rate(began))
    assert all(any(m.data) for m in since(robot.commands, began))
    assert not robot.stale(began)


def test_a_killed_surprise_node_is_named_where_it_could_stop_the_robot(robot: Robot):
    """With on_anomaly 'stop' the controller reports the missing node until it is back."""
    robot.processes['controller_node'].end()
    robot.start('controller_node', on_anomaly='stop')
    blind = "nobody publishes /lewm/anomaly: on_anomaly 'stop' cannot react"
    robot.bench.says('controller_node', blind)
    robot.start('surprise_node')
    robot.bench.until(lambda: blind not in robot.bench.text('controller_node'), 'still named')
    robot.processes['controller_node'].end()
    robot.start('controller_node')


def test_a_killed_encoder_stops_the_robot(robot: Robot):
    """It stops after observation_timeout and stays stopped; afterwards the goal is still known."""
    began = time.time()
    robot.kill('encoder_node')
    stopped = robot.stopped()
    assert stopped - robot.latents[-1][0] <= TIMEOUT
    robot.bench.says('controller_node', 'nobody publishes /lewm/latent')
    resting = since(robot.commands, stopped)
    assert resting and not any(any(m.data) for m in resting)
    assert within_five_percent(robot.rate(began))
    robot.start('encoder_node')
    robot.moves()
    assert not robot.stale(began)


def test_a_killed_planner_stops_the_robot_at_the_end_of_its_plan(robot: Robot):
    """The plan is played to its end, and the controller names the missing publisher."""
    began = time.time()
    robot.kill('planner_node')
    robot.bench.spin(DELIVERY)
    start, period, actions = read_plan(robot.plans[-1][1], CONTRACT.action, PERIOD)
    ends = (start + period * len(actions)) / NS_PER_S
    assert abs(robot.stopped() - ends) <= CONTRACT.period + DELIVERY
    robot.bench.says('controller_node', 'nobody publishes /lewm/plan')
    assert within_five_percent(robot.rate(began))
    assert not robot.stale(began)  # the controller may hear the next planner before we do
    robot.start('planner_node', threads=1)
    robot.moves()


def test_killed_nodes_come_back_with_respawn(robot: Robot, monkeypatch: pytest.MonkeyPatch):
    """Encoder, planner and controller are killed at once: the robot moves again, others stay."""
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    for name in PROFILES:  # with shared memory
        monkeypatch.delenv(name)
    for name in NODES[1:]:
        robot.processes[name].end()
    bench, left = robot.bench, abandoned()
    arguments = ('--processes', '--respawn', '--bundle', 'reacher')
    with bench.lewm('up', 'plan', *arguments, '-p', 'planner_node.threads:=1') as bringup:
        robot.moves()
        before = bringup.nodes()
        assert set(before) == set(GROUPS['plan'])
        killed = {'encoder_node', 'planner_node', 'controller_node'}
        for name in killed:
            os.kill(before[name], signal.SIGKILL)
        robot.commands.clear()
        robot.moves()
        after = bringup.nodes()
        assert {n for n in before if after[n] != before[n]} == killed
        assert len({environment(pid) for pid in after.values()}) == 1
        assert f'{profile_variable()}=' in environment(after['planner_node'])
        said = re.findall(r'lewm: (\w+) ended with status -9: restarting it', bringup.output)
        assert sorted(said) == sorted(killed)
        assert bringup.end() == 0
        bench.spin(0.3)
        assert not any(Path(f'/proc/{pid}').exists() for pid in after.values())
        assert not any(robot.commands[-1][1].data)
    assert abandoned() <= left  # what the killed ones held is gone
