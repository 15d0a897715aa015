# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The whole loop over real topics: simulator, encoder, planner, surprise and controller."""

from __future__ import annotations

import signal

from harness import Bench
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.bringup.groups import GROUPS

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
        bench.until(lambda: goals and plans, 'no plan')
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

        assert grown('ticks_on_time') >= 0.95 * grown('ticks')
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
    """A horizon that the bundle cannot do is refused by number, and everything ends, status 2."""
    arguments = ('--bundle', str(tiny_bundle.path), '-p', 'planner_node.horizon:=77')
    with bench.lewm('up', 'plan', *arguments, *layout) as process:
        assert process.wait() == 2
        assert 'horizon is 77 blocks' in process.output
        assert 'Traceback' not in process.output
