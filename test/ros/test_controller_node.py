# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""controller_node in a process of its own, driven by real plans."""

from __future__ import annotations

import re
import signal
import time

from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import SetParameters
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, UInt32
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.anomalies import EVENTS, edge_message, not_watching, nothing_open
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, plan_message
from lewm_ros.robot.contract import Contract
from lewm_ros.surprise.events import Event
from lewm_ros.time import NS_PER_S

PERIOD = NS_PER_S // 20


@pytest.fixture
def robot(bench: Bench, reacher_contract):
    """Return a running controller with everything that talks to it."""
    with bench.nodes('controller_node', contract='reacher') as process:
        bench.active('controller_node')
        yield Robot(bench, process, reacher_contract.action)


class Robot:
    """Stands in for the planner, the encoder and the motors around a controller."""

    def __init__(self, bench, process, action):
        self.bench, self.process, self.action = bench, process, action
        self.commands = bench.listen(Float64MultiArray, 'action')
        self.plan = bench.publisher(JointTrajectory, 'plan')
        self.latent = bench.publisher(Image, 'latent')
        self.episode = bench.publisher(UInt32, 'episode', LATCHED)
        bench.until(lambda: self.commands, 'no command')

    def send(self, value, ticks, delay=0.0, names=None):
        """Publish a plan of equal commands that starts ``delay`` [s] from now."""
        start = self.bench.now() + round(delay * NS_PER_S)
        actions = np.full((ticks, 2), value)
        message = plan_message(start, PERIOD, actions, self.action)
        if names:
            message.joint_names = names
        self.plan.publish(message)

    def see(self, seconds, ahead=0.0):
        """Publish a latent every 50 ms, and return the commands received meanwhile.

        Stamps are ``ahead`` [s] of the controller's clock.
        """
        before = len(self.commands)
        for _ in range(round(seconds / 0.05)):
            stamp = self.bench.now() + round(ahead * NS_PER_S)
            self.latent.publish(Image(header=header(stamp)))
            self.bench.spin(0.05)
        return [list(m.data) for _, m in self.commands[before:]]

    def figure(self, key):
        """Return a diagnostics value from a report that is newer than the call."""
        return self.bench.report('controller_node')[key]


def test_a_plan_is_played_in_its_time_and_then_the_robot_stops(robot):
    """Zeros before the plan's start, its commands for its duration, zeros after its end."""
    robot.see(0.2)
    robot.send(0.5, ticks=10, delay=0.3)
    heard = robot.see(1.5)
    playing = [i for i, c in enumerate(heard) if c == [0.5, 0.5]]
    assert 9 <= len(playing) <= 11  # one more, where the tick before the start is late
    assert playing == list(range(playing[0], playing[-1] + 1))
    assert 4 <= playing[0] <= 8
    assert heard[-1] == [0.0, 0.0]
    assert robot.figure('plan_ends') == '1'


def test_a_newer_plan_takes_over_at_its_start(robot):
    """The active plan continues until the next one begins."""
    robot.see(0.2)
    robot.send(0.5, ticks=40)
    robot.see(0.2)
    robot.send(-0.5, ticks=40, delay=0.4)
    heard = [c[0] for c in robot.see(0.8)]
    assert heard[1] == 0.5
    assert heard[-1] == -0.5
    assert all(a >= b for a, b in zip(heard[1:-1], heard[2:]))


def test_commands_stop_when_the_camera_goes_stale_and_stay_stopped(robot):
    """Half a second without a latent stops the robot; frames alone do not start it again."""
    robot.see(0.2)
    robot.send(0.5, ticks=100)
    assert robot.see(0.3)[-1] == [0.5, 0.5]
    robot.bench.spin(0.8)
    assert list(robot.commands[-1][1].data) == [0.0, 0.0]
    robot.bench.says('controller_node', 'no latent for')
    assert robot.figure('state') == 'stale'
    assert all(c == [0.0, 0.0] for c in robot.see(0.5))
    assert robot.figure('stale_stops') == '1'
    assert robot.figure('state') == 'idle'


def test_a_bad_plan_is_refused_by_name_and_never_played(robot):
    """NaN, other names or another time: nothing moves, and the reason is on /diagnostics."""
    robot.see(0.2)
    for message, reason in (
        ({'value': np.nan, 'ticks': 10}, 'not finite'),
        ({'value': 0.5, 'ticks': 10, 'names': ['elbow', 'shoulder']}, "['shoulder', 'elbow']"),
        ({'value': 0.5, 'ticks': 10, 'delay': -1.0}, 'in the past'),
        ({'value': 0.5, 'ticks': 10, 'delay': 3600.0}, 'ahead: clocks differ'),
    ):
        robot.send(**message)
        assert all(c == [0.0, 0.0] for c in robot.see(0.3))
        robot.bench.says('controller_node', reason)
    assert robot.figure('refused_plans') == '4'


def test_latents_of_a_clock_that_is_ahead_do_not_count(robot):
    """Latents ahead by more than observation_timeout stop the robot; less is tolerated."""
    robot.see(0.2)
    robot.send(0.5, ticks=100)
    assert robot.see(0.5, ahead=0.4)[-1] == [0.5, 0.5]
    robot.see(1.0, ahead=3.0)
    assert robot.see(0.2, ahead=3.0)[-1] == [0.0, 0.0]
    robot.bench.until(
        lambda: re.search(
            r'latents on /lewm/latent are stamped [23].\d\d s ahead of this clock',
            robot.bench.text('controller_node'),
        ),
        'not named',
    )
    assert robot.see(0.3)[-1] == [0.0, 0.0]
    assert robot.figure('state') == 'idle'


def test_a_message_that_rclpy_cannot_take_ends_nothing(robot):
    """A parameter of an unknown type logs an error, and the commands go on."""
    client = robot.bench.node.create_client(SetParameters, 'controller_node/set_parameters')
    robot.bench.until(client.service_is_ready, 'no service')
    bad = ParameterMessage(name='slow_factor', value=ParameterValue(type=99))
    client.call_async(SetParameters.Request(parameters=[bad]))
    robot.bench.until(lambda: 'Traceback' in robot.process.output, 'no error')
    assert len(robot.see(0.5)) >= 8
    assert robot.process.running


def test_a_reaction_is_blind_while_surprise_node_does_not_watch(bench, reacher_contract):
    """surprise_node then publishes without watching; open anomalies stay open."""
    with bench.nodes('controller_node', contract='reacher', on_anomaly='stop') as process:
        bench.active('controller_node')
        robot = Robot(bench, process, reacher_contract.action)
        surprise = bench.publisher(DiagnosticArray, 'anomaly', EVENTS)
        blind = "surprise_node is not active, or not calibrated: on_anomaly 'stop' cannot react"

        def says(wanted):
            bench.until(lambda: (blind in bench.text('controller_node')) == wanted, str(wanted))

        says(True)
        surprise.publish(nothing_open(1))
        says(False)
        event = Event(1, 'surprise', 1, 1, peak_score=9.0, threshold=1.0, alpha=0.01)
        surprise.publish(edge_message(event, 1, 9.0, 'surprise_node', 'reacher'))
        surprise.publish(not_watching(2))
        says(True)
        robot.see(0.2)
        robot.send(0.5, ticks=100)
        assert robot.see(0.5)[-1] == [0.0, 0.0]
        surprise.publish(nothing_open(3))
        assert robot.see(0.5)[-1] == [0.5, 0.5]


def test_commands_never_leave_the_limits(robot):
    """A plan of 5 is played as 1, the limit of the contract, and counted."""
    robot.see(0.2)
    robot.send(5.0, ticks=10)
    assert max(map(max, robot.see(0.4))) == 1.0
    assert int(robot.figure('clipped')) > 0
    assert 5 <= int(robot.figure('exceeded')) <= 11


def test_a_planner_that_does_not_know_the_limits_is_named(robot):
    """It is named only while its plans exceed the limits."""
    text = rf'commands of {robot.bench.node.get_name()} were beyond the limits of the contract'
    said = lambda: re.search(text, robot.bench.text('controller_node'))  # noqa: E731
    robot.see(0.2)
    robot.send(1.0, ticks=20)
    robot.see(1.2)
    assert not said()
    robot.send(5.0, ticks=60)
    robot.see(1.5)
    robot.bench.until(said, lambda: f'not named: {robot.bench.text("controller_node")}')
    robot.bench.until(lambda: not said(), 'still named')


def test_a_new_episode_drops_the_plan(robot):
    """After a reset nothing of the old episode is played."""
    robot.episode.publish(UInt32(data=1))
    robot.see(0.2)
    robot.send(0.5, ticks=100)
    assert robot.see(0.3)[-1] == [0.5, 0.5]
    robot.episode.publish(UInt32(data=2))
    assert robot.see(0.3)[-1] == [0.0, 0.0]


@pytest.mark.parametrize(
    'signals', [(signal.SIGINT,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM,)]
)
def test_the_last_command_is_zero_and_the_exit_clean(robot, signals):
    """In mid-plan, one or two SIGINTs or SIGTERM give a zero command, then status 0."""
    robot.see(0.2)
    robot.send(0.5, ticks=100)
    assert robot.see(0.3)[-1] == [0.5, 0.5]
    assert robot.process.end(*signals) == 0
    robot.bench.spin(0.3)
    assert list(robot.commands[-1][1].data) == [0.0, 0.0]


def test_a_holding_robot_holds_the_last_position(bench, contract_file):
    """With positions nothing is sent before the first plan, and its last command after it."""
    fields = ['position[1]', 'position[0]']
    action = {'type': 'sensor_msgs/msg/JointState', 'fields': fields, 'kind': 'position'}
    contract = contract_file(action=action | {'max_step': [0.2, 0.2]})
    with bench.nodes('controller_node', contract=contract) as process:
        bench.active('controller_node')
        commands = bench.listen(JointState, 'action')
        plan = bench.publisher(JointTrajectory, 'plan')
        latent = bench.publisher(Image, 'latent')
        bench.spin(0.5)
        assert not commands
        latent.publish(Image())
        bench.spin(0.1)
        action = Contract.load(contract).action
        plan.publish(plan_message(bench.now(), PERIOD, np.tile([[0.4, -0.8]], (5, 1)), action))
        bench.spin(1.0)
        last = commands[-1][1]
        assert list(last.name) == ['elbow', 'shoulder']
        assert list(last.position) == pytest.approx([-0.8, 0.4])
        assert last.header.stamp.sec > 0
        sent = len(commands)
        bench.spin(0.5)
        assert len(commands) >= sent + 8
        assert list(commands[-1][1].position) == pytest.approx([-0.8, 0.4])
        assert process.end() == 0
        bench.spin(0.3)
        assert list(commands[-1][1].position) == pytest.approx([-0.8, 0.4])


def test_the_first_position_starts_from_the_measured_one(bench, contract_file):
    """The state has the position of every joint: the first command is within a step of it."""
    fields = ['position[elbow]', 'position[shoulder]']
    kind = 'sensor_msgs/msg/JointState'
    changed = {'type': kind, 'fields': fields, 'kind': 'position', 'max_step': [0.1, 0.1]}
    state = {'topic': 'joint_states', 'type': kind, 'fields': [*fields]}
    contract = contract_file(action=changed, state=state)
    with bench.nodes('controller_node', contract=contract):
        bench.active('controller_node')
        commands = bench.listen(JointState, 'action')
        plan = bench.publisher(JointTrajectory, 'plan')
        latent = bench.publisher(Image, 'latent')
        states = bench.publisher(JointState, 'joint_states')
        latent.publish(Image())
        states.publish(JointState(name=['gripper'], position=[3.0]))
        states.publish(JointState(name=['elbow', 'shoulder'], position=[0.5, -0.5]))
        bench.spin(0.1)
        action = Contract.load(contract).action
        plan.publish(plan_message(bench.now(), PERIOD, np.tile([[-0.9, 0.9]], (5, 1)), action))
        bench.until(lambda: len(commands) > 1, 'no command')
        assert list(commands[0][1].position) == pytest.approx([0.4, -0.4])
        assert list(commands[1][1].position) == pytest.approx([0.3, -0.3])


def test_steps_between_commands_are_limited(bench, contract_file):
    """With max_step 0.2 a plan of 1.0 is reached, and left, in steps of at most 0.2."""
    contract = contract_file(action={'max_step': [0.2, 0.2]})
    with bench.nodes('controller_node', contract=contract) as process:
        bench.active('controller_node')
        robot = Robot(bench, process, Contract.load(contract).action)
        robot.see(0.2)
        robot.send(1.0, ticks=10)
        heard = [c[0] for c in robot.see(1.5)]
        assert max(heard) == 1.0
        assert np.abs(np.diff(heard)).max() < 0.2 + 1e-9
        assert heard[-1] == 0.0


def test_the_first_command_after_activation_is_a_step_from_zero(bench, contract_file):
    """This holds even if plan and latents arrive within the first period."""
    contract = contract_file(action={'max_step': [0.2, 0.2]})
    with bench.nodes('controller_node', contract=contract) as process:
        bench.active('controller_node')
        robot = Robot(bench, process, Contract.load(contract).action)
        for _ in range(5):
            bench.change('controller_node', Transition.TRANSITION_DEACTIVATE)
            bench.spin(0.1)
            robot.commands.clear()
            bench.change('controller_node', Transition.TRANSITION_ACTIVATE)
            for _ in range(40):
                robot.send(1.0, ticks=10)
                robot.latent.publish(Image())
                bench.spin(0.01)
            heard = [m.data[0] for _, m in robot.commands]
            assert 0 <= heard[0] <= 0.2 and heard[-1] > 0.5


def test_the_stream_keeps_its_rate(robot):
    """Without a plan, 20 commands per second are sent, nearly all on time."""
    first = len(robot.commands)
    robot.bench.spin(3.0)
    times = [t for t, _ in robot.commands[first:]]
    assert 57 <= len(times) <= 63
    figures = robot.bench.figures('controller_node')
    assert int(figures['ticks_on_time']) >= 0.9 * int(figures['ticks'])


def test_commands_leave_early_by_the_delay_of_the_robot(bench, contract_file):
    """With action.delay 0.2 s a plan that starts in 0.5 s is sent from 0.3 s on."""
    contract = contract_file(action={'delay': 0.2})
    with bench.nodes('controller_node', contract=contract) as process:
        bench.active('controller_node')
        robot = Robot(bench, process, Contract.load(contract).action)
        robot.see(0.2)
        began = time.monotonic()
        robot.send(0.5, ticks=10, delay=0.5)
        robot.see(1.5)
        moving = [t - began for t, m in robot.commands if t > began and m.data[0] > 0.25]
        assert moving[0] == pytest.approx(0.3, abs=0.09)
        assert moving[-1] - moving[0] == pytest.approx(0.45, abs=0.09)


def test_fields_that_the_message_lacks_are_refused_at_the_start(bench, contract_file):
    """The contract is refused at startup; at the first tick it would be too late to stop."""
    action = {'type': 'geometry_msgs/msg/Twist', 'fields': ['linear.x', 'linear.q']}
    contract = contract_file(action=action)
    with bench.nodes('controller_node', contract=contract) as process:
        assert process.wait() == 2
        assert 'linear.q' in process.output and 'Traceback' not in process.output
