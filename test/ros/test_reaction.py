# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the controller does about an anomaly: nothing, slower commands, or none."""

from __future__ import annotations

from dataclasses import replace
import random
import re

from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.nodes.anomalies import (
    EVENTS,
    EdgePublisher,
    OpenAnomalies,
    edge_message,
    nothing_open,
)
from lewm_ros.nodes.messages import plan_message
from lewm_ros.robot.contract import Contract
from lewm_ros.surprise.events import Event
from lewm_ros.time import NS_PER_S

PERIOD = NS_PER_S // 20


class Robot:
    """Stands in for the nodes around a controller, with a constant plan of 0.8."""

    def __init__(self, bench: Bench, contract: Contract) -> None:
        self.bench, self.action = bench, contract.action
        bench.active('controller_node')
        self.commands = bench.listen(Float64MultiArray, 'action')
        self.plan = bench.publisher(JointTrajectory, 'plan')
        self.latent = bench.publisher(Image, 'latent')
        self.anomaly = bench.node.create_publisher(DiagnosticArray, 'anomaly', EVENTS)
        for _ in range(5):  # a plan received before the first latent is dropped
            self.latent.publish(Image())
            bench.spin(0.05)

    def heard(self, seconds: float) -> set[float]:
        """Publish the plan again; return the values of dimension 0 in the last two thirds."""
        self.plan.publish(
            plan_message(self.bench.now(), PERIOD, np.full((200, 2), 0.8), self.action)
        )
        for part in range(3):
            if part == 1:
                before = len(self.commands)
            for _ in range(round(seconds / 3 / 0.05)):
                self.latent.publish(Image())
                self.bench.spin(0.05)
        return {round(m.data[0], 9) for _, m in self.commands[before:]}

    def say(self, number: int, kind: str, end: int | None = None) -> None:
        """Publish an edge as surprise_node does."""
        event = Event(number, kind, NS_PER_S, NS_PER_S, 9.0, 5.0, 0.05, end)
        self.anomaly.publish(edge_message(event, NS_PER_S, 9.0, '/lewm/surprise_node', 'arm'))


@pytest.mark.parametrize(('reaction', 'left'), [('ignore', 0.8), ('slow', 0.2), ('stop', 0.0)])
def test_commands_while_an_anomaly_is_open(bench: Bench, reacher_contract, reaction, left):
    """Commands are unchanged, a quarter or zero, until the last open anomaly has ended."""
    options = {'contract': 'reacher', 'on_anomaly': reaction, 'slow_factor': 0.25}
    with bench.nodes('controller_node', **options):
        robot = Robot(bench, reacher_contract)
        assert robot.heard(0.6) == {0.8}
        robot.say(1, 'surprise')
        robot.say(2, 'drift')
        assert robot.heard(0.6) == {left}
        robot.say(1, 'surprise', end=2 * NS_PER_S)
        assert robot.heard(0.6) == {left}
        robot.say(2, 'drift', end=2 * NS_PER_S)
        assert robot.heard(0.6) == {0.8}


def test_the_reaction_may_change_while_an_anomaly_is_open(bench: Bench, reacher_contract):
    """A new reaction takes effect at once; an invalid value changes nothing."""
    with bench.nodes('controller_node', contract='reacher'):
        robot = Robot(bench, reacher_contract)
        robot.say(1, 'surprise')
        assert robot.heard(0.6) == {0.8}
        for name, value, good, left in (
            ('on_anomaly', 'stop', True, 0.0),
            ('on_anomaly', 'slow', True, 0.4),
            ('slow_factor', 0.25, True, 0.2),
            ('slow_factor', float('nan'), False, 0.2),
            ('slow_factor', 2.0, False, 0.2),
            ('on_anomaly', 'ignore', True, 0.8),
        ):
            given = [Parameter(name, value=value).to_parameter_msg()]
            answer = bench.call(SetParameters, 'controller_node/set_parameters', parameters=given)
            assert answer.results[0].successful == good
            assert robot.heard(0.6) == {left}


def test_a_watcher_that_is_gone_leaves_the_robot_stopped(bench: Bench, reacher_contract):
    """The anomaly stays open until another surprise_node reports its state."""
    with bench.nodes('controller_node', contract='reacher', on_anomaly='stop'):
        robot = Robot(bench, reacher_contract)
        robot.say(1, 'frozen_camera')
        assert robot.heard(0.6) == {0.0}
        bench.node.destroy_publisher(robot.anomaly)
        assert robot.heard(1.5) == {0.0}
        said = 'open until a surprise_node watches again: anomaly 1 (frozen_camera)'
        bench.says('controller_node', said)
        robot.anomaly = bench.publisher(DiagnosticArray, 'anomaly', EVENTS)
        assert robot.heard(0.3) == {0.0}  # and it sees again: a plan before that is dropped
        robot.anomaly.publish(nothing_open(bench.now()))
        assert robot.heard(0.9) == {0.8}


def test_an_anomaly_that_was_open_before_the_controller_came(bench: Bench, reacher_contract):
    """Edges are latched: a controller that starts later stops too."""
    publisher = bench.node.create_publisher(DiagnosticArray, 'anomaly', EVENTS)
    event = Event(4, 'surprise', NS_PER_S, NS_PER_S, 9.0, 5.0, 0.05)
    publisher.publish(nothing_open(NS_PER_S))
    publisher.publish(edge_message(event, NS_PER_S, 9.0, '/lewm/surprise_node', 'arm'))
    with bench.nodes('controller_node', contract='reacher', on_anomaly='stop'):
        robot = Robot(bench, reacher_contract)
        assert robot.heard(0.6) == {0.0}


def test_an_event_that_many_others_follow_reaches_a_late_joiner():
    """The topic keeps 32 messages; the open event is among them after any number of others."""
    sent: list[DiagnosticArray] = []

    class Topic:
        publish = sent.append

    edges = EdgePublisher(Topic)
    for number in range(1, 100):
        for end in (None, NS_PER_S) if number > 1 else (None,):
            event = Event(number, 'surprise', NS_PER_S, NS_PER_S, 9.0, 5.0, 0.05, end)
            edges.publish(event, edge_message(event, NS_PER_S, 9.0, 'surprise_node', 'arm'))
            late = OpenAnomalies()
            for message in sent[-EVENTS.depth :]:
                late.take(message)
            assert 'anomaly 1 (surprise)' in str(late)
    assert len(sent) < 220


def test_every_open_event_reaches_a_late_joiner():
    """After any edge of any of four kinds the last 32 messages tell which events are open."""
    sent: list[DiagnosticArray] = []

    class Topic:
        publish = sent.append

    edges, rng, number = EdgePublisher(Topic), random.Random(0), 0
    running: dict[str, Event] = {}
    for _ in range(5000):
        kind = rng.choice(('surprise', 'drift', 'frozen_camera', 'frame_gap'))
        if event := running.pop(kind, None):
            event = replace(event, end=NS_PER_S)
        else:
            number += 1
            event = Event(number, kind, NS_PER_S, NS_PER_S, 9.0, 5.0, 0.05, None)
            running[kind] = event
        edges.publish(event, edge_message(event, NS_PER_S, 9.0, 'surprise_node', 'arm'))
        late = OpenAnomalies()
        for message in sent[-EVENTS.depth :]:
            late.take(message)
        told = set(re.findall(r'anomaly (\d+)', str(late)))
        assert told == {str(event.id) for event in running.values()}
    assert len(sent) < 7000


def test_a_slower_position_does_not_exist(bench: Bench, contract_file):
    """The combination is refused at startup, by name."""
    fields = ['position[0]', 'position[1]']
    action = {'type': 'sensor_msgs/msg/JointState', 'fields': fields, 'kind': 'position'}
    contract = contract_file(action=action)
    with bench.nodes('controller_node', contract=contract, on_anomaly='slow') as process:
        assert process.wait() == 2
        assert "on_anomaly is 'slow', but action.kind is 'position'" in process.output
        assert 'Traceback' not in process.output
