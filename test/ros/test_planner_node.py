# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""planner_node in a process of its own, fed with latents, actions and goals."""

from __future__ import annotations

from dataclasses import replace
import re

from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String, UInt32
from trajectory_msgs.msg import JointTrajectory
import yaml

from lewm_ros.bundle import write_bundle
from lewm_ros.bundle.manifest import FILES
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, read_plan, vector_message
from lewm_ros.robot.contract import Channel, Stop
from lewm_ros.time import NS_PER_S

TICK = NS_PER_S // 20
BLOCK = 5 * TICK
SIZE = 8


class Robot:
    """Stands in for the encoder and the controller around a planner."""

    def __init__(
        self, bench: Bench, bundle, model: str = '', command: type = Float64MultiArray
    ) -> None:
        self.bench, self.bundle = bench, bundle
        bench.active('planner_node')
        self.rng = np.random.default_rng(0)
        self.plans = bench.listen(JointTrajectory, 'plan')
        self.latent = bench.publisher(Image, 'latent')
        self.action = bench.publisher(command, 'action')
        self.goal = bench.publisher(Image, 'goal_latent', LATCHED)
        self.episode = bench.publisher(UInt32, 'episode', LATCHED)
        self.model = bench.publisher(String, 'model', LATCHED)
        self.model.publish(String(data=model or bundle.hash))
        self.stamps: list[int] = []

    def set_goal(self, latent: np.ndarray | None = None, stamp: int = 0) -> None:
        """Publish a goal latent, random if none is given, stamped now if no stamp is given."""
        latent = self.rng.normal(size=SIZE) if latent is None else latent
        self.goal.publish(vector_message(latent, header(stamp or self.bench.now())))

    def live(self, seconds: float, command: bool = True, latent: np.ndarray | None = None) -> list:
        """Send a frame, random or given, and a command every 50 ms; return the plans heard."""
        before = len(self.plans)
        for _ in range(round(seconds / 0.05)):
            if command:
                self.action.publish(Float64MultiArray(data=[0.1, -0.2]))
            self.stamps.append(self.bench.now())
            seen = self.rng.normal(size=SIZE) if latent is None else latent
            self.latent.publish(vector_message(seen, header(self.stamps[-1])))
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
    """One plan per block, each based on a frame, with the contract's names, within its limits."""
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
        assert actions.shape == (25, 2)
        assert np.abs(actions).max() <= 1.0
        starts.append(begin)
    assert np.median(np.diff(starts)) == pytest.approx(BLOCK, abs=TICK)
    robot.bench.spin(0.3)  # for the last plan
    figures = robot.bench.report('planner_node')
    assert figures['plans'] == str(len(robot.plans))
    assert float(figures['plan_ms_p95']) < 250
    assert figures['late_plans'] == '0'


def test_a_clock_of_commands_that_jumps_back_is_followed(bench: Bench, tmp_path, tiny_bundle):
    """After one stamp an hour ahead, later commands count again, and plans go on."""
    action = {'type': 'sensor_msgs/msg/JointState', 'fields': ['effort[0]', 'effort[1]']}
    stamped = tiny_bundle.contract.to_dict()
    stamped['action'] |= action
    path = tmp_path / 'stamped.yaml'
    path.write_text(yaml.safe_dump(stamped))
    with bench.nodes('planner_node', bundle=tiny_bundle.path, contract=path, threads=1) as node:
        robot = Robot(bench, tiny_bundle, command=JointState)

        def send(ahead: int = 0) -> None:
            stamp = header(bench.now() + ahead)
            robot.action.publish(JointState(header=stamp, effort=[0.1, -0.2]))

        def live(seconds: float) -> list:
            heard = []
            for _ in range(round(seconds / 0.05)):
                send()
                heard += robot.live(0.05, command=False)
            return heard

        robot.set_goal()
        assert live(2.0)
        send(3600 * NS_PER_S)
        live(1.5)
        assert node.output.count('time of commands jumped back by 36') == 1
        assert live(2.0)


@pytest.mark.parametrize('offset', [-3.0, 3.0])
def test_reports_of_another_clock_are_named_with_the_remedy(
    bench: Bench, tmp_path, tiny_bundle, offset
):
    """Topic, offset and remedy are named while such reports come.

    Reports 3 s behind once gave contexts of a single old command, and no warning.
    """
    data = tiny_bundle.contract.to_dict()
    data['action']['executed'] = {
        'topic': 'applied',
        'type': 'sensor_msgs/msg/JointState',
        'fields': ['effort[0]', 'effort[1]'],
    }
    path = tmp_path / 'reporting.yaml'
    path.write_text(yaml.safe_dump(data))
    with bench.nodes('planner_node', bundle=tiny_bundle.path, contract=path, threads=1) as node:
        bench.active('planner_node')
        applied = bench.publisher(JointState, 'applied')

        def said(seconds: float, expected: bool) -> bool:
            stamp = bench.now() + round(seconds * NS_PER_S)
            applied.publish(JointState(header=header(stamp), effort=[0.1, -0.2]))
            bench.spin(0.05)
            return (text in bench.text('planner_node')) is expected

        text = 'commands on /lewm/applied are stamped '
        bench.until(lambda: said(offset, True), 'not said', 8.0)
        way = 'ahead of' if offset > 0 else 'behind'
        found = re.search(rf"{text}(\d\.\d\d) s {way} this node's clock: (.*)", node.output)
        assert float(found[1]) == pytest.approx(3.0, abs=0.1)
        assert 'set action.executed.stamp: log in the contract' in found[2]
        bench.until(lambda: said(-0.1, False), 'still said', 8.0)


def test_a_new_goal_is_planned_for_at_once(start):
    """Its plan does not wait for the end of the blocks that are being executed."""
    robot, _ = start(execute=4)
    robot.live(0.8)
    robot.set_goal()
    assert len(robot.live(0.5)) == 1
    robot.set_goal()
    assert len(robot.live(0.3)) == 1


def test_a_goal_is_active_reached_left_and_reached_again(start):
    """Each change is one message with stamps, distance and time; late joiners get the last."""
    robot, _ = start(goal_tolerance=0.1, goal_dwell=0.5)
    bench, target = robot.bench, np.linspace(-1, 1, SIZE)
    told = bench.listen(DiagnosticArray, 'goal_status', LATCHED)
    bench.until(lambda: told, 'no status')
    robot.live(0.2)
    robot.set_goal(target, stamp=77)
    far = robot.live(0.5, latent=target + 1)
    assert robot.live(1.0, latent=target + 0.2)  # planned for while it is reached too
    robot.live(1.0, latent=target + 0.4)  # 0.16: beyond the tolerance, not beyond twice of it
    robot.live(1.0, latent=target + 0.5)
    robot.live(1.0, latent=target)
    assert far
    states = [m.status[0].message for _, m in told]
    assert states == ['none', 'active', 'reached', 'active', 'reached']
    for (_, message), distance in zip(told[2:], (0.04, 0.25, 0.0)):
        (status,) = message.status
        values = {v.key: v.value for v in status.values}
        assert (status.name, status.level, values['goal_stamp']) == ('goal', b'\0', '77')
        assert int(values['frame_stamp']) in robot.stamps
        assert float(values['distance']) == pytest.approx(distance, abs=1e-4)
    seconds = [float({v.key: v.value for v in m.status[0].values}['seconds']) for _, m in told]
    assert seconds[1] < 0.1 and 1.0 < seconds[2] < seconds[3] < seconds[4]
    late = bench.listen(DiagnosticArray, 'goal_status', LATCHED)
    bench.until(lambda: late, 'not latched')
    assert [m.status[0].message for _, m in late] == ['reached']


def test_the_same_goal_asked_for_again_is_acknowledged(start):
    """It is acknowledged at once with its new stamp; the plan and the elapsed time go on."""
    robot, _ = start()
    told = robot.bench.listen(DiagnosticArray, 'goal_status', LATCHED)
    robot.live(0.8)
    target = np.full(SIZE, 3.0)
    for stamp in (77, 78):
        robot.set_goal(target, stamp)
        robot.live(0.2)
    said = [{v.key: v.value for v in m.status[0].values} for _, m in told[1:]]
    assert [values['goal_stamp'] for values in said] == ['77', '78']
    assert float(said[1]['seconds']) > 0.15
    assert robot.live(0.5)


@pytest.fixture
def pursuing(start):
    """Return a robot with a short goal timeout, a far goal latent, and the goal status heard."""
    robot, _ = start(goal_timeout=1.5)
    heard = robot.bench.listen(DiagnosticArray, 'goal_status', LATCHED)
    robot.bench.until(lambda: heard, 'no status')
    robot.live(0.8)
    return robot, np.full(SIZE, 3.0), heard


def test_after_a_timeout_nothing_is_planned_until_a_goal_is_set_again(pursuing):
    """Even the same goal has to be set again."""
    robot, target, told = pursuing
    bench = robot.bench
    robot.set_goal(target, stamp=77)
    assert robot.live(1.6)
    bench.spin(0.3)  # a plan that was on its way
    assert robot.live(1.0) == []
    bench.says('planner_node', 'goal not reached in time (distance ')
    assert [m.status[0].message for _, m in told][-1] == 'timeout'
    assert told[-1][1].status[0].level == b'\1'
    robot.set_goal(target)
    assert robot.live(0.7)
    bench.content('planner_node')
    assert [m.status[0].message for _, m in told] == ['none', 'active', 'timeout', 'active']


def test_an_empty_goal_latent_ends_the_goal(pursuing):
    """Planning stops until a goal is set; the answer to a timeout leaves its state."""
    robot, target, told = pursuing
    bench = robot.bench
    robot.set_goal(target, stamp=77)
    assert robot.live(0.7)
    robot.set_goal(np.empty(0))
    bench.spin(0.3)  # a plan that was on its way
    assert robot.live(1.0) == []
    robot.set_goal(np.empty(0))  # there is none
    robot.set_goal(target, stamp=78)
    assert robot.live(1.6)
    for stamp in (78, 79):
        bench.until(lambda: told[-1][1].status[0].message == 'timeout', 'no timeout')
        robot.set_goal(np.empty(0), stamp)
        bench.spin(0.3)
    states = [m.status[0].message for _, m in told]
    assert states == ['none', 'active', 'none', 'active', 'timeout', 'none']


def test_a_missing_goal_is_said_and_is_no_fault(start):
    """A robot without a goal stands still on purpose, so the level stays OK."""
    robot, _ = start()
    robot.live(2.5)
    bench = robot.bench
    bench.says('planner_node', 'no goal on /lewm/goal_latent')
    assert bench.diagnostics['lewm/planner_node'][0] == 0
    robot.set_goal()
    robot.live(0.3)
    bench.content('planner_node')


def test_tolerance_and_timeout_can_be_set_while_it_plans(start):
    """The active goal is judged by the new values."""
    robot, _ = start()
    bench, target = robot.bench, np.zeros(SIZE)
    told = bench.listen(DiagnosticArray, 'goal_status', LATCHED)
    robot.set_goal(target)
    robot.live(1.0, latent=target + 2)
    given = [
        Parameter('goal_tolerance', value=5.0).to_parameter_msg(),
        Parameter('goal_dwell', value=0.1).to_parameter_msg(),
    ]
    (*results,) = bench.call(SetParameters, 'planner_node/set_parameters', parameters=given).results
    assert all(r.successful for r in results), results
    robot.live(0.4, latent=target + 2)
    bench.until(lambda: told[-1][1].status[0].message == 'reached', 'not reached')


def test_latents_of_another_model_are_not_planned_on(start, tiny_bundle):
    """Both hashes are named, and nothing is planned until the right model has set a goal."""
    robot, _ = start(model='f' * 64)
    robot.set_goal()
    assert robot.live(1.5) == []
    robot.bench.says('planner_node', 'f' * 12, tiny_bundle.hash[:12])
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
    """Without the commands since the first frame there is no plan, and the topic is named."""
    robot, _ = start()
    robot.set_goal()
    assert robot.live(3.5, command=False) == []
    robot.bench.says('planner_node', 'since the first of them, the commands on /lewm/action')


@pytest.mark.parametrize('pose', [None, [0.8, -0.6]])
def test_a_holding_robot_gets_its_first_plan_without_any_command(
    bench: Bench, tiny_bundle, tmp_path, pose
):
    """A controller that holds sends nothing before its first plan, so none can be required.

    The first plan begins at the measured positions, where the state has them.
    """
    action = replace(tiny_bundle.contract.action, kind='position', max_step=(0.1, 0.1))
    fields = ('position[shoulder]', 'position[elbow]')
    state = Channel('joint_states', 'sensor_msgs/msg/JointState', fields)
    contract = replace(tiny_bundle.contract, action=action, state=state, stop=Stop('hold'))
    files = {name: tiny_bundle.path / name for name in FILES}
    manifest = replace(tiny_bundle.manifest, contract=contract)
    bundle = write_bundle(tmp_path / 'holding', manifest, files)
    with bench.nodes('planner_node', bundle=bundle.path, threads=1):
        robot = Robot(bench, bundle)
        if pose is not None:
            states = bench.publisher(JointState, 'joint_states')
            states.publish(JointState(name=['gripper'], position=[3.0]))
            states.publish(JointState(name=['elbow', 'shoulder'], position=pose[::-1]))
            bench.spin(0.2)
        robot.set_goal()
        plans = robot.live(1.5, command=False)
    assert plans
    first = plans[0].points[0].positions
    assert len(first) == 2
    assert pose is None or np.abs(np.array(first) - pose).max() <= 0.1 + 1e-6


def test_it_can_be_deactivated_and_activated_again(start):
    """Inactive it publishes no plan; active again it gets the latched goal and plans."""
    robot, _ = start()
    robot.set_goal()
    assert robot.live(1.2)
    for transition, planned in (
        (Transition.TRANSITION_DEACTIVATE, False),
        (Transition.TRANSITION_ACTIVATE, True),
    ):
        robot.bench.change('planner_node', transition)
        assert bool(robot.live(1.5)) is planned


def test_a_contract_that_disagrees_is_refused_with_both_values(bench, tiny_bundle, contract_file):
    """Another control rate than the bundle's: the key and both values, status 2."""
    contract = contract_file(rates={'control': 10.0})
    with bench.nodes('planner_node', bundle=tiny_bundle.path, contract=contract) as process:
        assert process.wait() == 2
        assert 'rates.control is 10.0 in the contract but 20.0 in the bundle' in process.output
        assert 'Traceback' not in process.output


@pytest.mark.parametrize('engine', ['openvino', 'torch', 'reference'])
def test_every_engine_plans_and_says_what_it_is(start, engine):
    """The diagnostics name engine, device and precision, and plans come."""
    pytest.importorskip({'reference': 'torch'}.get(engine, engine))
    robot, _ = start(engine=engine, precision='auto')
    robot.set_goal()
    assert robot.live(2.0)
    shown = robot.bench.figures('planner_node')['engine']
    assert re.fullmatch(rf'{engine} \((CPU|cpu|cuda), (f32|bf16)\)', shown)


def test_provider_that_is_not_there_is_named(bench: Bench, tiny_bundle):
    """Configuring fails, and the error lists the available providers."""
    with bench.nodes('planner_node', bundle=tiny_bundle.path, provider='QNNExecutionProvider') as p:
        assert p.wait() == 2
        assert "provider is 'QNNExecutionProvider': this onnxruntime has" in p.output
