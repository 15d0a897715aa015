# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm goal` as a user runs it, beside stand-ins for the nodes and beside the real ones."""

from __future__ import annotations

from pathlib import Path
import signal

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image

from lewm_ros.files import find
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.goals import goal_message
from lewm_ros.nodes.messages import stamp_of
from lewm_ros.planning.config import GoalConfig
from lewm_ros.planning.goal import Goal, GoalState
from lewm_ros.planning.receding_horizon import Outlook

NODES = ('sim_node', 'encoder_node', 'planner_node', 'controller_node')


@pytest.fixture
def png(tmp_path: Path) -> Path:
    """Return a file with an image."""
    path = tmp_path / 'a goal.png'
    cv2.imwrite(str(path), np.full((64, 64, 3), 99, np.uint8))
    return path


class Planner:
    """Stands in for encoder_node and planner_node."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.images = bench.listen(CompressedImage, 'goal_image/compressed')
        self._status = bench.node.create_publisher(DiagnosticArray, 'goal_status', LATCHED)

    def tell(
        self, state: GoalState, stamp: int | None = None, outlook: Outlook | None = None
    ) -> None:
        """Publish a state of the goal that was received, or of another one."""
        goal = Goal(GoalConfig(), 0.05)
        if state is not GoalState.NONE:
            stamp = stamp_of(self.images[0][1]) if stamp is None else stamp
            goal.set(np.zeros(3), stamp, 0.0)
            goal.state = state
        self._status.publish(goal_message(goal, outlook, 'arm', 1))
        self.bench.spin(0.3)


def test_a_goal_is_published_once_and_the_planner_awaited(bench: Bench, png):
    """A status of another goal is no answer; the file is published as it is."""
    planner = Planner(bench)
    planner.tell(GoalState.ACTIVE, 5)
    with bench.lewm('goal', str(png)) as process:
        bench.until(lambda: planner.images, 'no goal')
        planner.tell(GoalState.ACTIVE, 6)
        bench.spin(1.0)
        assert process.running
        planner.tell(GoalState.ACTIVE)
        assert process.wait() == 0
        assert process.output.startswith('active after ')
        ((_, image),) = planner.images
        assert bytes(image.data) == png.read_bytes()
        assert abs(stamp_of(image) - bench.now()) < 30e9


@pytest.mark.parametrize(
    ('states', 'status', 'said'),
    [
        ([GoalState.ACTIVE, GoalState.ACTIVE, GoalState.REACHED], 0, ['active', 'reached']),
        ([GoalState.ACTIVE, GoalState.TIMEOUT], 1, ['active', 'timeout']),
        ([GoalState.ACTIVE, GoalState.NONE], 1, ['active', 'lewm: error: the goal was cleared']),
    ],
)
def test_waiting_ends_with_the_goal(bench: Bench, png, states, status, said):
    """Each change of state is one line; the exit status is 0 only if the goal was reached."""
    planner = Planner(bench)
    with bench.lewm('goal', str(png), '--wait') as process:
        bench.until(lambda: planner.images, 'no goal')
        for state in states:
            assert process.running
            planner.tell(state)
        assert process.wait() == status
        lines = process.output.splitlines()
        assert len(lines) == len(said)
        assert all(line.startswith(text) for line, text in zip(lines, said))


def test_waiting_says_whether_the_goal_is_reachable(bench: Bench, png):
    """A goal without a timeout may be waited for without end: why is one line, not one a plan."""
    planner = Planner(bench)
    with bench.lewm('goal', str(png), '--wait') as process:
        bench.until(lambda: planner.images, 'no goal')
        planner.tell(GoalState.ACTIVE)
        for gap in (3.0, 3.1):  # in every message another reason
            planner.tell(GoalState.ACTIVE, outlook=Outlook(1.0, gap, 0.0, 1.0, 1.0, True))
        planner.tell(GoalState.REACHED, outlook=Outlook(1.0, 0.0, 0.0, 1.0, 1.0, True))
        assert process.wait() == 0
    active, unlike, reached, reachable = process.output.splitlines()
    assert unlike.startswith('reachable: false, ') and '3' in unlike
    assert (active[:6], reached[:7], reachable) == ('active', 'reached', 'reachable: true')


def test_waiting_for_an_unreachable_goal_ends_with_its_timeout(bench: Bench, png):
    """After the timeout the status says no more about the way."""
    planner = Planner(bench)
    with bench.lewm('goal', str(png), '--wait') as process:
        bench.until(lambda: planner.images, 'no goal')
        planner.tell(GoalState.ACTIVE, outlook=Outlook(1.0, 3.0, 0.0, 1.0, 1.0, True))
        planner.tell(GoalState.TIMEOUT)
        assert process.wait() == 1
    assert [line.split()[0] for line in process.output.splitlines()] == [
        'active',
        'reachable:',
        'timeout',
    ]


def test_waiting_ends_with_another_goal_and_with_a_signal(bench: Bench, png):
    """Both give status 1."""
    planner = Planner(bench)
    for interrupted in (False, True):
        planner.images.clear()
        with bench.lewm('goal', str(png), '--wait') as process:
            bench.until(lambda: planner.images, 'no goal')
            planner.tell(GoalState.ACTIVE)
            if interrupted:
                assert process.end(signal.SIGINT) == 1
                continue
            planner.tell(GoalState.ACTIVE, 7)
            assert process.wait() == 1
            assert 'another goal was set' in process.output


def test_nobody_there_is_one_line_and_status_1(bench: Bench, png):
    """No subscription is reported by topic, and no answer of a planner with encoder_node's text."""
    with bench.lewm('goal', str(png), '--namespace', 'arm/left') as process:
        assert process.wait() == 1
        assert 'nobody subscribes to /arm/left/goal_image/compressed' in process.output
        assert process.output.count('\n') == 1
    with bench.nodes('encoder_node', bundle=find('bundle', 'reacher')):
        bench.active('encoder_node')
        with bench.lewm('goal', str(png)) as process:
            assert process.wait() == 1
            said = 'no /lewm/goal_status of this goal after 10 s; encoder_node reports: no frames'
            assert said in process.output


@pytest.mark.parametrize(
    ('content', 'reason'),
    [(None, 'No such file or directory'), (b'text', 'cannot be decoded: expected JPEG or PNG')],
)
def test_what_is_no_image_is_one_line_and_status_2(bench: Bench, tmp_path, content, reason):
    """The error names the file."""
    path = tmp_path / 'goal.png'
    if content is not None:
        path.write_bytes(content)
    with bench.lewm('goal', str(path)) as process:
        assert process.wait() == 2
        assert process.output.startswith(f"lewm: error: goal image '{path}': ")
        assert reason in process.output
        assert process.output.count('\n') == 1


def test_the_simulated_arm_reaches_an_image_of_where_it_is(bench: Bench, tmp_path):
    """With the real nodes and a frame of the camera: active, then reached, status 0."""
    with bench.nodes(*NODES, bundle=find('bundle', 'reacher'), threads=1):
        bench.active(*NODES)
        frames = bench.listen(Image, 'camera/image')
        bench.until(lambda: frames, 'no frames')
        pixels = np.frombuffer(frames[0][1].data, np.uint8).reshape(64, 64, 3)
        path = tmp_path / 'goal.jpg'
        cv2.imwrite(str(path), pixels[..., ::-1])
        with bench.lewm('goal', str(path), '--wait') as process:
            bench.until(lambda: not process.running, 'it does not end')
            assert process.wait() == 0
            states = [line.split()[0] for line in process.output.splitlines()]
            assert states == ['active', 'reached']
