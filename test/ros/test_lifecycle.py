# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What all nodes have from their base, tried on the controller."""

from __future__ import annotations

import shutil

from harness import ROOT, Bench
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import pytest
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import DescribeParameters, SetParameters
from std_msgs.msg import Float64MultiArray

from lewm_ros.nodes.parameters import COMMON

CONFIGURE, CLEANUP, ACTIVATE, DEACTIVATE, SHUTDOWN = (
    Transition.TRANSITION_CONFIGURE,
    Transition.TRANSITION_CLEANUP,
    Transition.TRANSITION_ACTIVATE,
    Transition.TRANSITION_DEACTIVATE,
    Transition.TRANSITION_ACTIVE_SHUTDOWN,
)


@pytest.fixture
def ask(bench: Bench):
    """Return a function that calls a service of the controller."""

    def call(kind, name, **fields):
        client = bench.node.create_client(kind, f'controller_node/{name}')
        bench.until(client.service_is_ready, f'no service {name}')
        future = client.call_async(kind.Request(**fields))
        bench.until(future.done, f'{name} does not answer')
        return future.result()

    return call


def test_a_lifecycle_manager_can_take_it_round_and_round(bench: Bench, ask):
    """With autostart off nothing runs; every transition works twice; SIGINT still gives 0."""
    arguments = ('-p', 'contract:=reacher', '-p', 'autostart:=false')
    with bench.program('controller', *arguments) as process:
        commands = bench.listen(Float64MultiArray, 'action')
        bench.spin(1.5)
        assert not commands
        for _ in range(2):
            for transition in (CONFIGURE, ACTIVATE):
                assert ask(
                    ChangeState, 'change_state', transition=Transition(id=transition)
                ).success
            bench.until(lambda: len(commands) > 3, 'no command while active')
            assert ask(ChangeState, 'change_state', transition=Transition(id=DEACTIVATE)).success
            bench.spin(0.2)
            commands.clear()
            bench.spin(0.4)
            assert not commands
            assert ask(ChangeState, 'change_state', transition=Transition(id=CLEANUP)).success
        for transition in (CONFIGURE, ACTIVATE, SHUTDOWN):
            assert ask(ChangeState, 'change_state', transition=Transition(id=transition)).success
        assert process.end() == 0
        assert 'Traceback' not in process.output


def test_a_failed_start_leaves_the_node_there_to_be_tried_again(bench: Bench, ask, tmp_path):
    """One line, an error on /diagnostics; once the file is there, configuring works."""
    contract = tmp_path / 'late.yaml'
    with bench.program('controller', '-p', f'contract:={contract}') as process:
        bench.until(lambda: 'no such path' in bench.text('controller_node'), 'no diagnostics')
        assert bench.diagnostics['lewm/controller_node'][0] == 2
        assert process.output.count('\n') == 1
        assert str(contract) in process.output
        shutil.copy(ROOT / 'config' / 'robots' / 'reacher.yaml', contract)
        for transition in (CONFIGURE, ACTIVATE):
            assert ask(ChangeState, 'change_state', transition=Transition(id=transition)).success
        bench.active('controller_node')
        assert bench.text('controller_node') == 'ok'
        assert process.end() == 0


def test_parameters_are_described_read_only_and_typos_are_named(bench: Bench, ask):
    """Every parameter has a text; a change at run time is refused; an unknown name is said."""
    with bench.program('controller', '-p', 'contract:=reacher', '-p', 'contrat:=x') as process:
        bench.active('controller_node')
        names = [p.name for p in COMMON]
        found = ask(DescribeParameters, 'describe_parameters', names=names).descriptors
        assert all(d.description and d.read_only for d in found)
        change = Parameter(name='contract', value=ParameterValue(type=4, string_value='other'))
        result = ask(SetParameters, 'set_parameters', parameters=[change]).results[0]
        assert not result.successful
        assert "['contrat'] do not exist and are ignored" in process.output
