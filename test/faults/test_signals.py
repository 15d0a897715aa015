# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""SIGINT, two SIGINTs, and SIGTERM at any moment: exit status 0, and the robot stops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
import os
from pathlib import Path
import random
import signal

from harness import Bench, Process
import pytest
from std_msgs.msg import Float64MultiArray

from lewm_ros.bringup.groups import GROUPS

SIGNALS = {
    'SIGINT': [signal.SIGINT],
    'SIGINT twice': [signal.SIGINT, signal.SIGINT],
    'SIGTERM': [signal.SIGTERM],
}
LAYOUTS = {'composed': (), 'processes': ('--processes',)}
#: A start takes less than this, even on a busy machine [s].
STARTED = 2.5


@pytest.fixture(scope='module')
def bench(shared_bench: Bench) -> Iterator[Bench]:
    """Return a bench with a simulated arm that has a goal, for a controller to drive."""
    with shared_bench.nodes('sim_node') as simulator:
        shared_bench.active('sim_node')
        goal = shared_bench.publisher(Float64MultiArray, 'sim/goal')
        goal.publish(Float64MultiArray(data=[1.0, -1.0]))
        yield shared_bench
        assert simulator.end() == 0


@pytest.fixture(scope='module')
def commands(bench: Bench) -> list:
    """Everything heard on the command topic."""
    return bench.listen(Float64MultiArray, 'action')


def processes_in(folder: Path) -> set[str]:
    """Ids of the processes whose working directory is this folder."""
    found = set()
    for process in Path('/proc').glob('[0-9]*'):
        try:
            if os.readlink(process / 'cwd') == str(folder):
                found.add(process.name)
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def some_moment() -> float:
    """Draw a moment of the start [s]; early ones are more likely."""
    return STARTED * random.random() ** 2


def check_end(process: Process, signals: list, when: str) -> None:
    """Send the signals; assert status 0, without a traceback or a kill."""
    assert process.end(*signals) == 0, f'{when}: {process.output}'
    assert 'Traceback' not in process.output, f'{when}: {process.output}'
    assert 'killing' not in process.output, f'{when}: {process.output}'


def end(bench: Bench, process: Process, others: set[str], signals: list, when: str) -> None:
    """Check the exit, and that no process is left behind."""
    check_end(process, signals, when)
    assert processes_in(bench.folder) == others, when
    bench.spin(0.2)


@pytest.mark.timeout(900)
@pytest.mark.parametrize('signals', SIGNALS.values(), ids=SIGNALS)
@pytest.mark.parametrize('layout', LAYOUTS.values(), ids=LAYOUTS)
def test_lewm_up_ends_cleanly_at_any_moment(bench: Bench, commands, layout, signals, soak):
    """Signals come at random moments of the start and in motion; the last command is zero."""
    others = processes_in(bench.folder)
    for trial in range(20 if soak else 2):
        commands.clear()
        with bench.lewm('up', 'plan', '--bundle', 'reacher', *layout) as process:
            bench.until(lambda: process.takes_signals, 'no handlers')
            if trial == 0:
                when = 'moving'
                bench.until(lambda: commands and any(commands[-1][1].data), 'it does not move')
            else:
                moment = some_moment()
                when = f'after {moment:.3f} s'
                bench.spin(moment)
            end(bench, process, others, signals, when)
        assert trial or commands
        assert not commands or not any(commands[-1][1].data), when


def test_a_killed_supervisor_leaves_no_node_behind(bench: Bench, commands):
    """Its nodes exit by themselves in order: the last command is zero."""
    others = processes_in(bench.folder)
    commands.clear()
    with bench.lewm('up', 'plan', '--bundle', 'reacher', '--processes', '--respawn') as process:
        bench.until(lambda: commands and any(commands[-1][1].data), 'it does not move')
        nodes = {str(number) for number in process.nodes().values()}
        assert len(nodes) == len(GROUPS['plan'])
        process.end(signal.SIGKILL)
        try:
            bench.until(lambda: not nodes & processes_in(bench.folder), 'nodes are still there')
        finally:
            for number in nodes & processes_in(bench.folder):
                os.kill(int(number), signal.SIGKILL)
        assert processes_in(bench.folder) == others
        assert 'Traceback' not in process.output
    bench.spin(0.2)
    assert not any(commands[-1][1].data)


@pytest.mark.timeout(900)
@pytest.mark.parametrize('signals', SIGNALS.values(), ids=SIGNALS)
def test_nodes_end_cleanly_at_any_moment(bench: Bench, signals, soak):
    """Single nodes run as their console scripts do, four at once."""
    others = processes_in(bench.folder)
    for _ in range(20 if soak else 1):
        moment = some_moment()
        with ExitStack() as stack:
            nodes = []
            for name in ('encoder', 'planner', 'controller', 'surprise'):
                node = stack.enter_context(bench.program(name, '-p', 'bundle:=reacher'))
                bench.until(lambda node=node: node.takes_signals, 'no handlers')
                nodes.append(node)
            bench.spin(moment)
            for node in nodes[:-1]:
                check_end(node, signals, f'after {moment:.3f} s')
            end(bench, nodes[-1], others, signals, f'after {moment:.3f} s')
