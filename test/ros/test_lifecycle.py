# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What all nodes inherit from their base class, tested mostly on the controller."""

from __future__ import annotations

import gc
from pathlib import Path
import shutil
import sys
import threading
import weakref

from diagnostic_msgs.msg import DiagnosticArray
from harness import ROOT, Bench, Process
from lifecycle_msgs.msg import Transition
import pytest
from rclpy.parameter import Parameter
from std_msgs.msg import Float64MultiArray

from lewm_ros.errors import ConfigError
from lewm_ros.nodes.base import FAILURE, SUCCESS, LewmNode
from lewm_ros.nodes.encoder import EncoderNode
from lewm_ros.nodes.planner import PlannerNode
from lewm_ros.nodes.surprise import SurpriseNode
from lewm_ros.nodes.view import ViewNode
from lewm_ros.robot.contract import Contract

#: Attributes of a node that hold large objects.
HELD = ('bundle', 'engine', 'history', 'planner', 'playback')

CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, SHUTDOWN = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
)


def test_a_lifecycle_manager_can_take_it_round_and_round(bench: Bench):
    """Without autostart nothing runs; every transition works twice; SIGINT still gives 0."""
    arguments = ('-p', 'contract:=reacher', '-p', 'autostart:=false')
    with bench.program('controller', *arguments) as process:
        commands = bench.listen(Float64MultiArray, 'action')
        bench.spin(1.5)
        assert not commands
        for _ in range(2):
            bench.change('controller_node', CONFIGURE, ACTIVATE)
            bench.until(lambda: len(commands) > 3, 'no command while active')
            bench.change('controller_node', DEACTIVATE)
            bench.spin(0.2)
            commands.clear()
            bench.spin(0.4)
            assert not commands
            bench.change('controller_node', CLEANUP)
        bench.change('controller_node', CONFIGURE, ACTIVATE, SHUTDOWN)
        assert process.end() == 0
        assert 'Traceback' not in process.output


def test_a_failed_start_leaves_the_node_there_to_be_tried_again(bench: Bench, tmp_path):
    """The error is one line and on /diagnostics; once the file exists, configuring works."""
    contract = tmp_path / 'late.yaml'
    with bench.program('controller', '-p', f'contract:={contract}') as process:
        bench.says('controller_node', 'no such path')
        assert bench.diagnostics['lewm/controller_node'][0] == 2
        assert process.output.count('\n') == 1
        assert str(contract) in process.output
        shutil.copy(ROOT / 'config' / 'robots' / 'reacher.yaml', contract)
        bench.change('controller_node', CONFIGURE, ACTIVATE)
        bench.active('controller_node')
        bench.content('controller_node')
        assert process.end() == 0


class Unready(ViewNode):
    """A real node whose activation fails after everything has started."""

    ready = False

    def activate(self) -> None:
        """Start all, then fail."""
        super().activate()
        self._frames = self.subscribe_to_camera(self._contract.camera, self._on_image, depth=1)
        if not self.ready:
            raise ConfigError('the robot is not ready')


def running(node: LewmNode) -> tuple[list[str], int, list[str]]:
    """Return what a node has: subscribed topics, number of timers, names of worker threads."""
    threads = [t.name for t in threading.enumerate() if t.name.startswith(node.get_name())]
    return [s.topic_name for s in node.subscriptions], len(list(node.timers)), threads


def test_a_failed_activation_leaves_nothing_running(bench: Bench):
    """Subscriptions, timers, workers and publishers are as before; the reason is reported."""
    given = [Parameter('contract', value='reacher'), Parameter('autostart', value=False)]
    node = bench.run(Unready, 'unready', parameter_overrides=given)
    assert node.trigger_configure() == SUCCESS
    before = running(node)
    assert node.trigger_activate() == FAILURE
    assert running(node) == before
    assert node.failure == 'the robot is not ready'
    assert not any(p.is_activated for p in node._publishers_made)
    bench.says('unready', 'the robot is not ready', timeout=3.0)
    assert bench.diagnostics['lewm/unready'][0] == 2
    node.ready = True
    assert node.trigger_activate() == SUCCESS
    assert len(running(node)[0]) > len(before[0])
    bench.until(lambda: bench.text('unready') != 'the robot is not ready', 'still reported', 3.0)
    assert node.trigger_deactivate() == node.trigger_cleanup() == SUCCESS
    assert running(node) == before


def test_a_loaded_model_is_let_go_at_cleanup(bench: Bench, tiny_bundle):
    """Nothing keeps engine, bundle or history after cleanup: no node, no thread, no callback."""
    given = [Parameter('bundle', value=str(tiny_bundle.path)), Parameter('autostart', value=False)]
    for kind in (EncoderNode, PlannerNode, SurpriseNode):
        node = bench.run(kind, 'loaded', parameter_overrides=given)
        assert node.trigger_configure() == node.trigger_activate() == SUCCESS
        held = [weakref.ref(v) for k, v in vars(node).items() if k.lstrip('_') in HELD]
        assert len(held) >= 2
        assert node.trigger_deactivate() == node.trigger_cleanup() == SUCCESS
        gc.collect()
        assert [r() for r in held] == [None] * len(held)
        node.close()


@pytest.mark.parametrize(('error', 'status'), [('ConfigError', 2), ('RuntimeError', 1)])
def test_only_what_the_user_can_mend_ends_a_process_for_good(bench: Bench, error, status):
    """Status 2 is never restarted; another error may pass, such as a lack of memory."""
    code = (
        'import sys\n'
        'from lewm_ros.bringup import compose\n'
        'from lewm_ros.errors import ConfigError\n'
        'from lewm_ros.nodes.view import ViewNode\n'
        'class Broken(ViewNode):\n'
        f'    def configure(self): raise {error}("for a moment")\n'
        'given = ["--ros-args", "-p", "contract:=reacher"]\n'
        'nodes = [("view_node", Broken)]\n'
        'sys.exit(compose.run(nodes, given, exit_on_failure=True))\n'
    )
    with Process([sys.executable, '-c', code], bench.domain, bench.folder) as process:
        assert process.wait() == status
        assert 'for a moment' in process.output


def test_work_to_be_finished_does_not_hold_up_a_deactivation(bench: Bench):
    """Evidence is written on; the process waits for it at its end, not the lifecycle."""
    done, go = [], threading.Event()

    class Writing(ViewNode):
        """A node with work that takes a while."""

        def activate(self) -> None:
            """Ask for it at once."""
            super().activate()
            work = self.worker('slow', lambda n: (go.wait(), done.append(n)), 4, finish=True)
            for number in range(3):
                work.request(number)

    given = [Parameter('contract', value='reacher')]
    node = bench.run(Writing, 'writing', parameter_overrides=given)
    bench.active('writing')
    assert node.trigger_deactivate() == SUCCESS
    assert done == []
    go.set()
    node.finish_work(20.0)
    assert done == [0, 1, 2]
    assert node.trigger_activate() == node.trigger_deactivate() == SUCCESS
    node.finish_work(20.0)
    assert len(node._finishing) <= 1  # those of before are let go


def test_a_change_is_reported_at_once_and_figures_every_second(bench: Bench):
    """/diagnostics comes at 1 Hz, and sooner when a level or the lifecycle state changes."""
    reports = bench.listen(DiagnosticArray, '/diagnostics')
    given = [Parameter('contract', value='reacher')]
    node = bench.run(ViewNode, 'view_node', parameter_overrides=given)
    bench.active('view_node')
    reports.clear()
    bench.spin(3.5)
    assert 3 <= len(reports) <= 4
    figures = bench.figures('view_node')
    assert float(figures['memory_mb']) > 20
    path = ROOT / 'config' / 'robots' / 'reacher.yaml'
    assert figures['contract'] == Contract.load(path).hash[:12]

    def next_after(change) -> tuple[float, DiagnosticArray]:
        reports.clear()
        bench.until(lambda: reports, 'no report')
        bench.spin(0.3)
        change()
        bench.until(lambda: len(reports) > 1, 'no second report')
        return reports[1][0] - reports[0][0], reports[1][1].status[0]

    pause, status = next_after(lambda: node.conditions.set('a fault', 'something is wrong'))
    assert pause < 0.9
    assert (status.level, status.message) == (b'\x01', 'something is wrong')
    pause, status = next_after(node.trigger_deactivate)
    assert pause < 0.9
    assert (status.level, status.values[0].value) == (b'\x00', 'inactive')


def test_typos_in_parameters_are_named(bench: Bench):
    """ROS ignores undeclared parameters, so they are named; QoS overrides are not."""
    arguments = ('-p', 'contract:=reacher', '-p', 'contrat:=x')
    override = ('-p', 'qos_overrides./lewm/plan.subscription.depth:=2')
    with bench.program('controller', *arguments, *override) as process:
        bench.active('controller_node')
        assert "['contrat'] do not exist and are ignored" in process.output


def test_a_typo_in_a_parameter_file_is_an_error_where_the_file_names_the_node(
    bench: Bench, tmp_path: Path
):
    """In a section for all nodes it is only a warning: it may belong to another node."""
    path = tmp_path / 'params.yaml'
    arguments = ('-p', 'contract:=reacher', '--params-file', str(path))
    override = '/**/controller_node: {ros__parameters: {qos_overrides: {/lewm/plan: {}}}}\n'
    path.write_text(f'/**: {{ros__parameters: {{alpha: 0.05}}}}\n{override}')
    with bench.program('controller', *arguments) as process:
        bench.active('controller_node')
        assert "['alpha'] do not exist and are ignored" in process.output
    path.write_text('controller_node: {ros__parameters: {on_anomaly: stop}}\n')  # ROS ignores it
    with bench.program('controller', *arguments) as process:
        assert process.wait() == 2
        assert 'does not match /lewm/controller_node: write /**/controller_node' in process.output
    path.write_text('/arm/controller_node: {ros__parameters: {on_anomaly: stop}}\n')
    with bench.program('controller', *arguments) as process:
        text = 'for /arm/controller_node and none for /lewm/controller_node'
        bench.until(lambda: text in process.output, 'no warning')
    path.write_text('/**/controller_node: {ros__parameters: {on_anomally: stop}}\n')
    with bench.program('controller', *arguments) as process:
        assert process.wait() == 2
        assert "controller_node has ['on_anomally']: expected some of ['autostart'" in (
            process.output
        )
