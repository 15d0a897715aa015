# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Parameters set while nodes run: what takes effect, and that a refusal changes nothing.

The test uses ROS's own parameter services, as `ros2 param set` does.
"""

from __future__ import annotations

from dataclasses import replace
import math
from typing import Any

from harness import Bench
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    SetParameters,
    SetParametersAtomically,
)
from rclpy.parameter import Parameter, parameter_value_to_python
from std_msgs.msg import Float32
from test_planner_node import Robot as PlannerRobot
from test_surprise_node import SIZE
from test_surprise_node import Robot as SurpriseRobot
from test_view_node import Robot as ViewRobot
from visualization_msgs.msg import MarkerArray

from lewm_ros.bringup.compose import node_class
from lewm_ros.bundle import Bundle, rewrite_manifest
from lewm_ros.nodes.anomalies import ENDED
from lewm_ros.nodes.base import LATCHED, SUCCESS, LewmNode
from lewm_ros.nodes.parameters import COMMON
from lewm_ros.nodes.view import ViewNode
from lewm_ros.time import NS_PER_S


def _messages(values: dict[str, Any]) -> list[Any]:
    return [Parameter(name, value=value).to_parameter_msg() for name, value in values.items()]


def set_each(bench: Bench, node: str, **values: Any) -> list[str]:
    """Set each parameter by itself; return the reasons of refusal, empty where accepted."""
    fields = {'parameters': _messages(values)}
    results = bench.call(SetParameters, f'{node}/set_parameters', **fields).results
    assert all(r.successful or r.reason for r in results)
    return ['' if r.successful else r.reason for r in results]


def set_all(bench: Bench, node: str, **values: Any) -> str:
    """Set several parameters atomically; return the reason of refusal."""
    name = f'{node}/set_parameters_atomically'
    result = bench.call(SetParametersAtomically, name, parameters=_messages(values)).result
    assert result.successful or result.reason
    return '' if result.successful else result.reason


def get(bench: Bench, node: str, *names: str) -> list[Any]:
    """Return the values of a node's parameters."""
    response = bench.call(GetParameters, f'{node}/get_parameters', names=list(names))
    return [parameter_value_to_python(v) for v in response.values]


NODES = ('encoder_node', 'planner_node', 'controller_node', 'surprise_node', 'view_node')


def test_every_parameter_says_what_it_is_and_whether_it_can_change(bench: Bench, tiny_bundle):
    """Each has a description; the read-only flag is right, and fixed ones say so."""
    with bench.nodes(*NODES, bundle=tiny_bundle.path):
        bench.active(*NODES)
        changeable = set()
        for name in NODES:
            kind: type[LewmNode] = node_class(name)
            parameters = {p.name: p for p in (*COMMON, *kind.PARAMETERS)}
            found = bench.call(
                DescribeParameters, f'{name}/describe_parameters', names=list(parameters)
            ).descriptors
            for descriptor in found:
                parameter = parameters[descriptor.name]
                assert descriptor.description == parameter.description != ''
                assert descriptor.read_only is not parameter.dynamic
                fixed = 'fixed at start' in descriptor.additional_constraints
                assert fixed is not parameter.dynamic
                for choice in parameter.choices:
                    assert choice in descriptor.additional_constraints
                number = type(parameter.default) in (int, float)
                assert number is bool(descriptor.floating_point_range or descriptor.integer_range)
                if parameter.dynamic:
                    changeable.add(f'{name}.{descriptor.name}')
        assert {'planner_node.samples', 'surprise_node.alpha', 'view_node.rate'} <= changeable
        assert 'read-only' in set_each(bench, 'planner_node', horizon=4)[0]


def test_a_planner_searches_with_new_settings_from_the_next_plan_on(bench: Bench, tiny_bundle):
    """The next search has the new number of rollouts and stays warm, without a restart."""
    with bench.nodes('planner_node', bundle=tiny_bundle.path, threads=1):
        robot = PlannerRobot(bench, tiny_bundle)
        robot.live(1.0)
        robot.set_goal()
        assert robot.live(2.5)
        assert bench.report('planner_node')['rollouts'] == '193'  # 3 x 64 and the last mean
        assert not set_all(
            bench, 'planner_node', samples=16, elites=4, keep_elites=2, iterations=2, execute=2
        )
        before = len(robot.live(0.3))
        assert 3 <= len(robot.live(3.0)) <= 8, before  # every second block of 0.25 s, not every
        figures = bench.figures('planner_node')
        assert figures['rollouts'] == '33'
        assert figures['warm'] == 'True'


def test_what_does_not_fit_is_refused_with_a_reason_and_changes_nothing(bench: Bench, tiny_bundle):
    """Values out of range, of a wrong type, not finite or inconsistent, alone and in a set."""
    bad = {
        'samples': (0, 'out of range'),
        'iterations': (2.5, 'Wrong parameter type'),
        'std': (math.nan, ''),
        'warm_std': (math.inf, ''),
        'elites': (65, 'CEM has 65 elites of 64 samples'),
        'execute': (6, 'execute is 6 blocks: expected 1 to 5'),
        'cold_samples': ('many', 'Wrong parameter type'),
        'bundle': ('other', 'read-only'),
    }
    with bench.nodes('planner_node', bundle=tiny_bundle.path) as process:
        bench.active('planner_node')
        names = [*bad, 'keep_elites']
        before = get(bench, 'planner_node', *names)
        reasons = set_each(bench, 'planner_node', **{k: value for k, (value, _) in bad.items()})
        for (name, (value, text)), reason in zip(bad.items(), reasons, strict=True):
            assert reason, f'{name} = {value} was taken'
            assert text in reason
        # The first two are valid alone.
        reason = set_all(bench, 'planner_node', samples=128, keep_elites=6, elites=200)
        assert 'CEM has 200 elites of 128 samples' in reason
        assert get(bench, 'planner_node', *names) == before
        assert not set_all(bench, 'planner_node', samples=256, elites=65, cold_samples=256)
        assert get(bench, 'planner_node', 'elites') == [65]
        assert 'Traceback' not in process.output


def test_an_unconfigured_node_takes_settings_one_after_the_other(bench: Bench, tiny_bundle):
    """Values that do not fit together yet are accepted; configuring checks all of them."""

    def change(number: int) -> bool:
        transition = Transition(id=number)
        return bench.call(ChangeState, 'planner_node/change_state', transition=transition).success

    arguments = ('-p', f'bundle:={tiny_bundle.path}', '-p', 'autostart:=false')
    with bench.program('planner', *arguments):
        bench.until(lambda: bench.figures('planner_node'), 'no diagnostics')
        assert set_each(bench, 'planner_node', std=math.nan)[0]
        assert set_each(bench, 'planner_node', elites=200) == ['']
        assert not change(Transition.TRANSITION_CONFIGURE)
        bench.says('planner_node', '200 elites of')
        assert set_each(bench, 'planner_node', samples=256, cold_samples=256) == ['', '']
        assert change(Transition.TRANSITION_CONFIGURE)
        assert 'CEM has' in set_each(bench, 'planner_node', samples=199)[0]
        assert set_each(bench, 'planner_node', samples=201) == ['']
        assert change(Transition.TRANSITION_ACTIVATE)
        bench.active('planner_node')
        assert 'CEM' not in bench.text('planner_node')


@pytest.fixture
def twice_calibrated(calibrated: Bundle) -> Bundle:
    """Return a bundle with a threshold of 50 for alpha 0.05, and of 200 for 0.01."""
    entry = calibrated.manifest.calibration[0]
    stricter = replace(entry, alpha=0.01, threshold=200.0)
    manifest = replace(calibrated.manifest, calibration=(entry, stricter))
    return rewrite_manifest(calibrated.path, manifest)


def test_surprise_takes_thresholds_and_hysteresis_over_while_it_watches(
    bench: Bench, twice_calibrated
):
    """A new alpha switches to its threshold; an alpha without a calibration is refused."""
    with bench.nodes('surprise_node', bundle=twice_calibrated.path, alpha=0.01, hold=60.0):
        robot = SurpriseRobot(bench, twice_calibrated)
        thresholds = bench.listen(Float32, 'surprise/threshold', LATCHED)
        calm, jump = np.zeros(SIZE, np.float32), np.full(SIZE, 3.0, np.float32)

        def highest() -> float:
            return max((m.data for _, m in robot.scores), default=0.0)

        robot.see(calm, 20)
        bench.until(lambda: robot.see(jump, 1) or highest() > 50, 'no jump')
        robot.see(calm, 10)
        assert highest() < 200
        assert not robot.edges()
        refused = set_each(bench, 'surprise_node', alpha=0.02)[0]
        assert 'not for 0.02' in refused
        assert '0.05' in refused
        assert set_each(bench, 'surprise_node', alpha=0.05) == ['']
        robot.see(calm, 20)
        assert [m.data for _, m in thresholds] == [200.0, 50.0]
        bench.until(lambda: robot.see(jump, 1) or robot.edges(), 'no event')
        robot.see(calm, 20)
        assert [bool(e['end']) for e in robot.edges()] == [False]  # held for 60 s
        assert robot.edges()[0]['alpha'] == '0.05'
        assert set_each(bench, 'surprise_node', hold=0.0) == ['']
        bench.until(lambda: robot.see(calm, 1) or len(robot.edges()) > 1, 'no end')
        assert [bool(e['end']) for e in robot.edges()] == [False, True]
        assert bench.report('surprise_node')['events: surprise'] == '1'


def test_surprise_can_begin_to_watch_without_a_restart(bench: Bench, calibrated):
    """An alpha without a calibration gives a warning; a calibrated one ends it."""
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.02):
        robot = SurpriseRobot(bench, calibrated)
        bench.says('surprise_node', 'not calibrated')
        assert set_each(bench, 'surprise_node', alpha=0.05, release=0.9) == ['', '']
        bench.until(lambda: len(robot.anomalies) == 2, 'no word that it watches')
        assert [m.header.frame_id for _, m in robot.anomalies] == [ENDED, '']
        calm = np.zeros(SIZE, np.float32)
        robot.see(calm, 25)
        robot.see(np.full(SIZE, 40, np.float32), 3)
        bench.until(robot.edges, 'no event')
        assert 'not calibrated' not in bench.text('surprise_node')


def test_a_view_draws_at_the_new_rate(bench: Bench):
    """The rate changes from 1 Hz to 20 Hz."""
    with bench.nodes('view_node', contract='reacher', rate=1.0):
        robot = ViewRobot(bench)
        images = bench.listen(MarkerArray, 'view/marker', 1)
        bench.active('view_node')
        robot.wait()
        robot.see(1.0, 40)
        slow = len(images)
        assert 1 <= slow <= 4
        assert set_each(bench, 'view_node', rate=20.0) == ['']
        robot.see(1.0, 40)
        assert len(images) - slow > 20


def test_a_view_shows_the_new_span(bench: Bench):
    """Scores older than the new span are dropped."""
    given = [Parameter('contract', value='reacher'), Parameter('autostart', value=False)]
    node = bench.run(ViewNode, 'view_node', parameter_overrides=given)
    assert node.trigger_configure() == node.trigger_activate() == SUCCESS
    for second in range(1, 21):
        node.trace.add(second * NS_PER_S, 1.0, float(second))
    assert len(node.trace.snapshot(20.0).scores) == 20
    assert set_each(bench, 'view_node', seconds=9.5) == ['']
    assert len(node.trace.snapshot(20.0).scores) == 10


@pytest.mark.parametrize('value', ['.nan', '.inf'])
def test_a_start_value_that_is_no_number_ends_the_node_with_one_line(bench: Bench, value):
    """NaN and infinity are refused by the node itself, with status 2."""
    with bench.program('view', '-p', 'contract:=reacher', '-p', f'rate:={value}') as process:
        assert process.wait() == 2
        assert "parameter 'rate' is" in process.output
        assert process.output.count('\n') == 1


def test_a_value_that_ros_cannot_read_ends_lewm_up_with_one_line(bench: Bench, tiny_bundle):
    """rclpy only raises an exception for it."""
    arguments = ('--bundle', str(tiny_bundle.path), '-p', 'planner_node.samples:=')
    with bench.lewm('up', 'plan', *arguments) as process:
        assert process.wait() == 2
        (line,) = (text for text in process.output.splitlines() if 'error' in text)
        assert "Couldn't parse parameter override rule: '-p samples:='" in line
        assert 'Traceback' not in process.output
