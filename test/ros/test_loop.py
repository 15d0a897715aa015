# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The whole loop over real topics: simulator, encoder, planner, surprise and controller."""

from __future__ import annotations

import signal

from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.bringup.groups import GROUPS
from lewm_ros.nodes.anomalies import EVENTS
from lewm_ros.nodes.messages import stamp_of

NODES = tuple(n for n in GROUPS['demo'] if n != 'trial_node')


def test_a_goal_sets_the_robot_in_motion(bench: Bench, tiny_bundle):
    """All nodes in one process: frames become plans, plans commands, at their rates."""
    with bench.nodes(*NODES, bundle=tiny_bundle.path, threads=1) as process:
        bench.active(*NODES)
        plans = bench.listen(JointTrajectory, 'plan')
        commands = bench.listen(Float64MultiArray, 'action')
        scores = bench.listen(Float32, 'surprise')
        goals = bench.listen(Image, 'goal_latent')
        bench.publisher(Float64MultiArray, 'sim/goal').publish(Float64MultiArray(data=[1.0, 1.0]))
        bench.until(lambda: goals and plans and scores, 'no plan, or no score')
        before = {n: bench.figures(n) for n in NODES}
        counts = [len(x) for x in (plans, commands, scores)]
        bench.spin(5.0)
        plans_made, commands_sent, scored = (
            len(x) - n for x, n in zip((plans, commands, scores), counts)
        )
        assert 17 <= plans_made <= 22
        assert 97 <= commands_sent <= 103
        assert scored >= 95
        assert any(abs(v) > 0.01 for _, m in commands[-100:] for v in m.data)
        after = {n: bench.figures(n) for n in NODES}
        assert int(after['planner_node']['late_plans']) == 0

        def grown(key):
            return int(after['controller_node'][key]) - int(before['controller_node'][key])

        assert grown('ticks_on_time') >= 0.9 * grown('ticks')  # beside other tests
        assert all(f['callback_errors'] == '0' for f in after.values())
        assert process.end() == 0
        bench.spin(0.3)
        assert list(commands[-1][1].data) == [0.0, 0.0]


@pytest.mark.parametrize('layout', [(), ('--processes',)])
def test_lewm_up_ends_cleanly(bench: Bench, tiny_bundle, layout):
    """One process or one for each node: all active, and two SIGINTs give status 0."""
    with bench.lewm('up', 'plan', '--bundle', str(tiny_bundle.path), *layout) as process:
        bench.active(*GROUPS['plan'])
        assert process.end(signal.SIGINT, signal.SIGINT) == 0
        assert 'Traceback' not in process.output
        assert 'killing' not in process.output


@pytest.mark.parametrize('layout', [(), ('--processes',)])
def test_a_parameter_set_by_hand_beats_the_preset(bench: Bench, tiny_bundle, layout):
    """A horizon beyond the bundle's is refused by value, and everything ends with status 2."""
    arguments = ('--bundle', str(tiny_bundle.path), '-p', 'planner_node.horizon:=77')
    with bench.lewm('up', 'plan', *arguments, *layout) as process:
        assert process.wait() == 2
        assert 'horizon is 77 blocks' in process.output
        assert 'Traceback' not in process.output


def test_a_teleport_stops_the_arm_until_the_model_understands_again(bench: Bench):
    """The commands are zero from the start of the event to its end.

    Then the planner's commands move the arm again, with nothing restarted.
    """
    nodes = ('sim_node', 'encoder_node', 'planner_node', 'surprise_node', 'controller_node')
    options = {'bundle': 'reacher', 'on_anomaly': 'stop', 'threads': 1, 'gap_seconds': 5.0}
    with bench.nodes(*nodes, **options):
        bench.active(*nodes)
        commands = bench.listen(Float64MultiArray, 'action')
        anomalies = bench.listen(DiagnosticArray, 'anomaly', EVENTS)
        goals = bench.publisher(Float64MultiArray, 'sim/goal')
        perturb = bench.publisher(String, 'sim/perturb')

        def edges():
            found = [(t, m) for t, m in anomalies if m.status]
            return [(t, {v.key: v.value for v in m.status[0].values}) for t, m in found]

        def opened():
            return {v['id'] for _, v in edges()} - {v['id'] for _, v in edges() if v['end']}

        def moving():
            return commands and any(abs(v) > 0.01 for v in commands[-1][1].data)

        goals.publish(Float64MultiArray(data=[2.5, 2.0]))
        bench.until(moving, 'the planner does not move the arm', 30.0)
        bench.until(lambda: not opened(), 'an event does not end', 30.0)
        before = len(edges())
        perturb.publish(String(data='teleport'))
        bench.until(lambda: len(edges()) > before, 'no event')
        heard = len(commands)
        bench.until(lambda: not opened(), 'the event does not end', 30.0)
        # Two commands may have been in transit when the event was received here.
        while_open = [list(m.data) for _, m in commands[heard + 2 :]]
        stopped = [c for c in while_open if c == [0.0, 0.0]]
        assert len(stopped) >= 5 and len(while_open) - len(stopped) <= 2
        goals.publish(Float64MultiArray(data=[-2.5, -2.0]))
        bench.until(moving, 'the arm stays stopped', 30.0)
        assert stamp_of(anomalies[-1][1]) > 0
