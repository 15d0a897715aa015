# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Goals changed while the arm moves, through every interface that sets a goal."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger
import yaml

from lewm_ros.bundle import Bundle
from lewm_ros.files import find
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.diagnostics import values_of
from lewm_ros.nodes.messages import header, image_message

NODES = ('sim_node', 'encoder_node', 'planner_node', 'controller_node')
#: Limits [1], [1/s] at 20 Hz: the second is the tighter one.
MAX_STEP, MAX_RATE = 0.1, 1.5


def test_new_goals_in_mid_run_never_make_a_command_jump(bench: Bench, tmp_path):
    """Twenty changes at random moments: every step is within the limits, which plans respect."""
    bundle = Bundle.load(find('bundle', 'reacher'))
    data = bundle.contract.to_dict()
    data['action'] |= {'max_step': [MAX_STEP] * 2, 'max_rate': [MAX_RATE] * 2}
    contract = tmp_path / 'robot.yaml'
    contract.write_text(yaml.safe_dump(data))
    rng = np.random.default_rng(0)
    with bench.nodes(*NODES, bundle=bundle.path, contract=contract, threads=1) as process:
        bench.active(*NODES)
        commands = bench.listen(Float64MultiArray, 'action')
        frames = bench.listen(Image, 'camera/image')
        told = bench.listen(DiagnosticArray, 'goal_status', LATCHED)
        pose = bench.publisher(Float64MultiArray, 'sim/goal')
        image = bench.publisher(Image, 'goal_image', LATCHED)
        bench.until(lambda: len(frames) > 20, 'no frames')
        pose.publish(Float64MultiArray(data=[1.0, 1.0]))
        bench.until(lambda: commands and any(commands[-1][1].data), 'it does not move')
        for number in range(20):
            if number % 3 == 0:
                pose.publish(Float64MultiArray(data=rng.uniform(-2, 2, 2).tolist()))
            elif number % 3 == 1:
                assert bench.call(Trigger, 'encoder_node/set_goal').success
            else:
                image.publish(frames[rng.integers(len(frames))][1])
            bench.spin(rng.uniform(0.05, 0.7))
        states = [m.status[0].message for _, m in told]
        assert states.count('active') >= 15  # one for each goal that differs
        values = np.array([m.data for _, m in commands])
        largest = np.abs(np.diff(values, axis=0)).max()
        assert 0.8 * MAX_RATE / 20 <= largest <= MAX_RATE / 20 + 1e-9
        assert np.abs(values).max() <= 1.0
        assert np.abs(values).max() > 3 * MAX_STEP  # it drove
        figures = bench.report('controller_node')
        # On a busy machine, a late plan begins from another command than it expects.
        late = int(bench.report('planner_node')['late_plans'])
        assert int(figures['exceeded']) <= 0.1 * int(figures['ticks']) + 5 * late
        assert process.end() == 0


@pytest.mark.parametrize('ending', ['clear_goal', 'timeout'])
def test_a_goal_that_has_ended_does_not_come_back(bench: Bench, ending):
    """The arm stops, and a planner that is activated again has no goal.

    It once took up the latched goal again, after a timeout too, and no goal could be cancelled.
    """
    own = {'goal_timeout': 2.0, 'roadmap': False} if ending == 'timeout' else {}
    with bench.nodes(*NODES, bundle=find('bundle', 'reacher'), threads=1, **own) as process:
        bench.active(*NODES)
        commands = bench.listen(Float64MultiArray, 'action')
        told = bench.listen(DiagnosticArray, 'goal_status', LATCHED)
        frames = bench.listen(Image, 'camera/image')
        image = bench.publisher(Image, 'goal_image')
        bench.until(lambda: len(frames) > 20, 'no frames')
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        image.publish(image_message(noise, header(bench.now())))
        bench.until(lambda: any(commands[-1][1].data), 'it does not move')
        if ending == 'clear_goal':
            assert bench.call(Trigger, 'encoder_node/clear_goal').success
        state = {'clear_goal': 'none', 'timeout': 'timeout'}[ending]
        bench.until(lambda: told[-1][1].status[0].message == state, 'the goal has not ended')
        bench.spin(2.0)  # to the end of its plan
        assert told[-1][1].status[0].message == state
        assert not any(commands[-1][1].data)
        bench.change('planner_node', Transition.TRANSITION_DEACTIVATE)
        bench.change('planner_node', Transition.TRANSITION_ACTIVATE)
        bench.spin(1.5)
        assert told[-1][1].status[0].message == 'none'
        assert not any(commands[-1][1].data)
        assert process.end() == 0


def test_the_status_counts_down_and_answers_a_goal_like_nothing_recorded(bench: Bench):
    """time_to_goal counts down for a far pose; noise is unreachable, with the gap as reason."""
    with bench.nodes(*NODES, bundle=find('bundle', 'reacher'), threads=1) as process:
        bench.active(*NODES)
        told = bench.listen(DiagnosticArray, 'goal_status', LATCHED)
        frames = bench.listen(Image, 'camera/image')
        pose = bench.publisher(Float64MultiArray, 'sim/goal')
        image = bench.publisher(Image, 'goal_image', LATCHED)
        bench.until(lambda: len(frames) > 20, 'no frames')
        pose.publish(Float64MultiArray(data=[2.8, -1.5]))

        def newest(key: str) -> str:
            return values_of(told[-1][1].status[0]).get(key, '') if told else ''

        bench.until(lambda: newest('reachable') == 'true', 'nothing said of the way')
        first = float(newest('time_to_goal'))
        assert newest('reason') == ''
        assert 0.5 < first < 5.0
        bench.until(lambda: float(newest('time_to_goal')) < 0.3, 'it does not arrive', 15.0)
        assert float(bench.figures('planner_node')['time_to_goal']) < first
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        image.publish(image_message(noise, header(bench.now())))
        bench.until(lambda: newest('reachable') == 'false', 'the noise is taken for a goal')
        assert newest('reason').startswith('the goal is unlike anything recorded (gap ')
        bench.says('planner_node', 'unlike anything recorded')
        pose.publish(Float64MultiArray(data=[0.0, 0.5]))
        bench.until(lambda: newest('reachable') == 'true', 'the map is not used again')
        bench.until(lambda: 'anything recorded' not in bench.text('planner_node'), 'still reported')
        assert process.end() == 0
