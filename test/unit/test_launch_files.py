# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The launch files, with stand-ins that record: `launch` comes with a ROS installation only."""

from __future__ import annotations

from importlib import util
from pathlib import Path
import runpy
import sys
import types

import pytest

from lewm_ros.bringup import ARGUMENTS, GROUPS
from lewm_ros.supervisor import GRACE, ends_all

ROOT = Path(__file__).resolve().parents[2]


class Recorded:
    """Stands for any class of launch: keeps its arguments."""

    def __init__(self, *args, **kwargs) -> None:
        self.args, self.kwargs = args, kwargs


class Configuration(Recorded):
    """Stands for LaunchConfiguration."""

    def perform(self, context):
        """Return what the user gave."""
        return context[self.args[0]]


@pytest.fixture
def stand_ins(monkeypatch):
    """Put recording stand-ins for launch and launch_ros in place."""
    if util.find_spec('launch_ros') is not None:
        pytest.skip('a real launch is installed')
    names = {
        'launch': {'LaunchContext': dict, 'LaunchDescription': Recorded},
        'launch.action': {'Action': object},
        'launch.actions': {
            n: type(n, (Recorded,), {})
            for n in ('DeclareLaunchArgument', 'OpaqueFunction', 'Shutdown')
        },
        'launch.substitutions': {'LaunchConfiguration': Configuration},
        'launch_ros': {},
        'launch_ros.actions': {'Node': type('Node', (Recorded,), {})},
    }
    for name, attributes in names.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, 'lewm_ros.launching', raising=False)
    yield
    sys.modules.pop('lewm_ros.launching', None)


@pytest.mark.parametrize('group', GROUPS)
def test_a_launch_file_starts_what_lewm_up_starts(stand_ins, tiny_bundle, group):
    """Same nodes, names, parameters and remappings; every argument has default and text."""
    script = runpy.run_path(str(ROOT / 'launch' / f'{group}.launch.py'))
    *declared, start = script['generate_launch_description']().args[0]
    assert [d.args[0] for d in declared] == [a.name for a in ARGUMENTS if group in a.groups]
    assert all(d.kwargs['description'] for d in declared)
    assert all(isinstance(d.kwargs['default_value'], str) for d in declared)

    context = {d.args[0]: d.kwargs['default_value'] for d in declared}
    context |= {'bundle': str(tiny_bundle.path), 'rviz': 'true', 'autostart': 'false'}
    *nodes, rviz = start.kwargs['function'](context, *start.kwargs['args'])
    assert [n.kwargs['executable'] for n in nodes] == list(GROUPS[group])
    for node in nodes:
        assert node.kwargs['name'] == node.kwargs['executable']
        assert node.kwargs['package'] == 'lewm_ros'
        assert node.kwargs['namespace'] == 'lewm'
        given, params_file = node.kwargs['parameters']
        assert Path(params_file).is_file()
        assert given['autostart'] is False
        assert given['bundle'] == str(tiny_bundle.path)
        told = group == 'demo' and node.kwargs['name'] in ('sim_node', 'trial_node')
        assert given.get('task') == ('reacher' if told else None)
    encoder = [n for n in nodes if n.kwargs['name'] == 'encoder_node']
    assert len(encoder) == (group != 'record')
    assert all(n.kwargs['remappings'] == [('image', 'camera/image')] for n in encoder)
    assert Path(rviz.kwargs['arguments'][1]).is_file()
    assert all(n.kwargs['respawn'] is False for n in nodes)


@pytest.mark.parametrize('group', GROUPS)
def test_launch_starts_a_node_again_where_lewm_up_does(stand_ins, tiny_bundle, group):
    """`respawn:=true`; the ends that end everything end the launch."""
    script = runpy.run_path(str(ROOT / 'launch' / f'{group}.launch.py'))
    *declared, start = script['generate_launch_description']().args[0]
    context = {d.args[0]: d.kwargs['default_value'] for d in declared}
    context |= {'bundle': str(tiny_bundle.path), 'respawn': 'true'}
    for node in start.kwargs['function'](context, *start.kwargs['args']):
        assert node.kwargs['respawn'] is True
        assert node.kwargs['respawn_delay'] > 0
        assert float(node.kwargs['sigterm_timeout']) == GRACE
        for status in (-9, 0, 1, 2):
            event = types.SimpleNamespace(returncode=status)
            over = node.kwargs['on_exit'](event, context) is not None
            assert over is ends_all(node.kwargs['name'], status)


def test_record_launch_takes_the_folder_of_the_bag(stand_ins, monkeypatch, tmp_path):
    """`out:=run1` is text below the working folder; without it the node chooses a name."""
    monkeypatch.chdir(tmp_path)
    script = runpy.run_path(str(ROOT / 'launch' / 'record.launch.py'))
    *declared, start = script['generate_launch_description']().args[0]
    context = {d.args[0]: d.kwargs['default_value'] for d in declared} | {'contract': 'reacher'}
    for given, expected in (('5', str(tmp_path / '5')), ('', None)):
        (node,) = start.kwargs['function'](context | {'out': given}, *start.kwargs['args'])
        assert node.kwargs['parameters'][0].get('out') == expected
