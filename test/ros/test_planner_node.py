# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""planner_node in a process of its own, fed with latents, actions and goals."""

from __future__ import annotations

import re

from harness import Bench
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray, String, UInt32
from trajectory_msgs.msg import JointTrajectory
import yaml

from lewm_ros.history import NANOSECOND
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, read_plan, vector_message

TICK = NANOSECOND // 20
BLOCK = 5 * TICK
SIZE = 8


class Robot:
    """The encoder's and the controller's side of a planner."""

    def __init__(self, bench: Bench, bundle, model: str = '') -> None:
        self.bench, self.bundle = bench, bundle
        bench.active('planner_node')
        self.rng = np.random.default_rng(0)
        self.plans = bench.listen(JointTrajectory, 'plan')
        self.latent = bench.publisher(Image, 'latent')
        self.action = bench.publisher(Float64MultiArray, 'action')
        self.goal = bench.publisher(Image, 'goal_latent', LATCHED)
        self.episode = bench.publisher(UInt32, 'episode', LATCHED)
        self.model = bench.publisher(String, 'model', LATCHED)
        self.model.publish(String(data=model or bundle.hash))
        self.stamps: list[int] = []

    def set_goal(self) -> None:
        """Ask for a random goal."""
        self.goal.publish(vector_message(self.rng.normal(size=SIZE), header(self.bench.now())))

    def live(self, seconds: float, command: bool = True) -> list:
        """Send a frame and a command every 50 ms; return the plans heard meanwhile."""
        before = len(self.plans)
        for _ in range(round(seconds / 0.05)):
            if command:
                self.action.publish(Float64MultiArray(data=[0.1, -0.2]))
            self.stamps.append(self.bench.now())
            self.latent.publish(vector_message(self.rng.normal(size=SIZE), header(self.stamps[-1])))
            self.bench.spin(0.05)
        return [m for _, m in self.plans[before:]]


@pytest.fixture
def start(bench: Bench, tiny_bundle):
    """Return a function that starts a planner and returns its robot and process."""
    opened = []

    def start_one(model: str = '', **parameters):
        parameters = {'bundle': tiny_bundle.path, 'threads': 1} | parameters
        process = bench.nodes('planner_node', **parameters)
        opened.append(process)
        return Robot(bench, tiny_bundle, model), process

    yield start_one
    for process in opened:
        process.__exit__(None, None, None)


def test_plans_start_one_block_after_their_frame_and_follow_each_other(start, tiny_bundle):
    """A plan a block, each standing on a frame, with the contract's names, within its limits."""
    robot, _ = start()
    assert robot.live(1.0) == []  # no goal, no plan
    robot.set_goal()
    plans = robot.live(2.0)
    assert 7 <= len(plans) <= 10
    starts = []
    for message in plans:
        begin, period, actions = read_plan(message, tiny_bundle.contract.action, TICK)
        assert begin - BLOCK in robot.stamps
        assert period == TICK
        assert actions.shape == (20, 2)
        assert np.abs(actions).max() <= 1.0
        starts.append(begin)
    assert np.median(np.diff(starts)) == pytest.approx(BLOCK, abs=TICK)
    robot.bench.spin(1.2)
    figures = robot.bench.figures('planner_node')
    assert figures['plans'] == str(len(robot.plans))
    assert float(figures['plan_ms_p95']) < 250
    assert figures['late_plans'] == '0'


def test_a_new_goal_is_planned_for_at_once(start):
    """The plan for it does not wait for the block of the last one to end."""
    robot, _ = start(execute=4)
    robot.live(0.8)
    robot.set_goal()
    assert len(robot.live(0.5)) == 1
    robot.set_goal()
    assert len(robot.live(0.3)) == 1


def test_latents_of_another_model_are_not_planned_on(start, tiny_bundle):
    """Both hashes are named, nothing is planned; with the right model it goes on."""
    robot, _ = start(model='f' * 64)
    robot.set_goal()
    assert robot.live(1.5) == []
    text = robot.bench.text('planner_node')
    assert 'f' * 12 in text
    assert tiny_bundle.hash[:12] in text
    robot.model.publish(String(data=tiny_bundle.hash))
    assert robot.live(1.2) == []  # the goal was a latent of the other model
    robot.set_goal()
    assert robot.live(1.0)


def test_nothing_is_planned_across_an_episode_or_a_gap(start):
    """After a reset, and after lost frames, the context has to fill up again."""
    robot, _ = start()
    robot.episode.publish(UInt32(data=1))
    robot.set_goal()
    assert robot.live(1.5)
    robot.episode.publish(UInt32(data=2))
    robot.bench.spin(0.1)
    robot.plans.clear()
    assert robot.live(0.4) == []  # three frames one block apart need half a second
    assert robot.live(1.0)
    robot.bench.spin(0.6)
    assert robot.live(0.4) == []
    assert robot.live(1.0)


def test_without_commands_it_says_what_is_missing(start):
    """The commands since the first frame are unknown: no plan, and the topic is named."""
    robot, _ = start()
    robot.set_goal()
    assert robot.live(3.5, command=False) == []
    assert 'the commands since the first on /lewm/action' in robot.bench.text('planner_node')


def test_a_holding_robot_gets_its_first_plan_without_any_command(start, tiny_bundle, tmp_path):
    """A controller that holds sends nothing before its first plan; waiting would be for ever."""
    data = tiny_bundle.contract.to_dict()
    data['action']['kind'] = 'position'
    data['stop']['mode'] = 'hold'
    contract = tmp_path / 'robot.yaml'
    contract.write_text(yaml.safe_dump(data))
    robot, _ = start(contract=contract)
    robot.set_goal()
    plans = robot.live(1.5, command=False)
    assert plans
    assert len(plans[0].points[0].positions) == 2


def test_it_can_be_deactivated_and_activated_again(start):
    """Inactive it is silent; active again it gets the latched goal and plans on."""
    robot, _ = start()
    robot.set_goal()
    assert robot.live(1.2)
    client = robot.bench.node.create_client(ChangeState, 'planner_node/change_state')
    assert client.wait_for_service(5.0)
    for transition, planned in (
        (Transition.TRANSITION_DEACTIVATE, False),
        (Transition.TRANSITION_ACTIVATE, True),
    ):
        request = ChangeState.Request(transition=Transition(id=transition))
        future = client.call_async(request)
        robot.bench.until(future.done, 'no answer')
        assert future.result().success
        assert bool(robot.live(1.5)) is planned


def test_a_contract_that_disagrees_is_refused_with_both_values(bench, tiny_bundle, tmp_path):
    """Another control rate than the bundle's: the key and both values, status 2."""
    data = tiny_bundle.contract.to_dict()
    data['rates']['control'] = 10.0
    contract = tmp_path / 'robot.yaml'
    contract.write_text(yaml.safe_dump(data))
    with bench.nodes('planner_node', bundle=tiny_bundle.path, contract=contract) as process:
        assert process.wait() == 2
        assert 'rates.control is 10.0 in the contract but 20.0 in the bundle' in process.output
        assert 'Traceback' not in process.output


@pytest.mark.parametrize('engine', ['openvino', 'torch', 'reference'])
def test_every_engine_plans_and_says_what_it_is(start, engine):
    """Engine, what it computes on and its precision are in the diagnostics; plans come."""
    if engine == 'openvino':
        pytest.importorskip('openvino')
    robot, _ = start(engine=engine, precision='auto', min_gain=0.02)
    robot.set_goal()
    assert robot.live(2.0)
    shown = robot.bench.figures('planner_node')['engine']
    assert re.fullmatch(rf'{engine} \((CPU|cpu|cuda), (f32|bf16)\)', shown)


def test_provider_that_is_not_there_is_named(bench: Bench, tiny_bundle):
    """Configuring fails with the providers that there are."""
    with bench.nodes('planner_node', bundle=tiny_bundle.path, provider='QNNExecutionProvider') as p:
        assert p.wait() == 2
        assert "provider is 'QNNExecutionProvider': this onnxruntime has" in p.output
