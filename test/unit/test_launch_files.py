# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The launch files, with recording stand-ins, because `launch` comes only with ROS 2."""

from __future__ import annotations

from pathlib import Path
import re
import runpy
import sys
import types

import pytest

from lewm_ros.bringup.groups import ARGUMENTS, GROUPS, NODES
from lewm_ros.bringup.supervisor import GRACE_SECONDS, ends_all
from lewm_ros.errors import ConfigError, LewmError, ModelError

ROOT = Path(__file__).resolve().parents[2]


class Recorded:
    """Stands in for any class of launch: keeps its arguments."""

    def __init__(self, *args, **kwargs) -> None:
        self.args, self.kwargs = args, kwargs


class Context(dict):
    """Stands in for LaunchContext."""

    @property
    def launch_configurations(self):
        """Return the launch configurations: the arguments, and what launch itself adds."""
        return self


class Configuration(Recorded):
    """Stands in for LaunchConfiguration."""

    def perform(self, context):
        """Return the value that the user gave."""
        return context[self.args[0]]


def put_executable(prefix: Path, package: str, name: str) -> Path:
    """Install an executable as colcon and apt do, and return its path."""
    marker = prefix / 'share' / 'ament_index' / 'resource_index' / 'packages' / package
    marker.parent.mkdir(parents=True, exist_ok=True)
    marker.touch()
    program = prefix / 'lib' / package / name
    program.parent.mkdir(parents=True, exist_ok=True)
    program.touch(mode=0o755)
    return program


@pytest.fixture
def prefix(monkeypatch, tmp_path):
    """Set up a ROS 2 installation that has this package but no rviz2."""
    prefix = tmp_path / 'ros'
    (prefix / 'share' / 'lewm_ros').mkdir(parents=True)
    for name in NODES:
        put_executable(prefix, 'lewm_ros', name)
    monkeypatch.setenv('AMENT_PREFIX_PATH', str(prefix))
    monkeypatch.setenv('ROS_DISTRO', 'jazzy')
    return prefix


@pytest.fixture
def stand_ins(monkeypatch, prefix):
    """Replace launch and launch_ros with recording stand-ins, even if they are installed."""
    names = {
        'launch': {'LaunchContext': Context, 'LaunchDescription': Recorded},
        'launch.action': {'Action': object},
        'launch.actions': {
            n: type(n, (Recorded,), {})
            for n in (
                'DeclareLaunchArgument',
                'EmitEvent',
                'LogInfo',
                'OpaqueFunction',
                'RegisterEventHandler',
                'Shutdown',
            )
        },
        'launch.event': {'Event': type('Event', (Recorded,), {})},
        'launch.event_handler': {'EventHandler': type('EventHandler', (Recorded,), {})},
        'launch.substitutions': {'LaunchConfiguration': Configuration},
        'launch_ros': {},
        'launch_ros.actions': {'Node': type('Node', (Recorded,), {})},
    }
    for name, attributes in names.items():
        module = types.ModuleType(name)
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, 'lewm_ros.bringup.launching', raising=False)
    yield
    sys.modules.pop('lewm_ros.bringup.launching', None)


def start(group: str, **given: str) -> list[Recorded]:
    """Return the actions of a launch file for these arguments, with defaults for the others."""
    script = runpy.run_path(str(ROOT / 'launch' / f'{group}.launch.py'))
    *declared, started = script['generate_launch_description']().args[0]
    context = Context({d.args[0]: d.kwargs['default_value'] for d in declared} | given)
    return started.kwargs['function'](context, *started.kwargs['args'])


def kinds(actions: list[Recorded]) -> list[str]:
    """Return the names of the actions."""
    return [type(action).__name__ for action in actions]


def raised(actions: list[Recorded]) -> Exception:
    """Return the error with which the actions end a launch, before anything is started.

    The first action ends every process. The others raise the error in a custom event while the
    processes shut down, so that launch returns 1.
    """
    assert kinds(actions) == ['Shutdown', 'RegisterEventHandler', 'EmitEvent']
    shutdown, registered, emitted = actions
    (handler,) = registered.args
    event = emitted.kwargs['event']
    assert handler.kwargs['matcher'](event)
    assert not handler.kwargs['matcher'](type(event)())
    (failing,) = handler.kwargs['entities']
    with pytest.raises((LewmError, OSError)) as info:
        failing.kwargs['function']({})
    assert shutdown.kwargs['reason'] == str(info.value)
    return info.value


@pytest.mark.parametrize('group', GROUPS)
def test_a_launch_file_starts_what_lewm_up_starts(stand_ins, prefix, tiny_bundle, group):
    """A launch file starts the nodes, parameters and remappings of `lewm up`.

    Every argument has a default and a description.
    """
    put_executable(prefix, 'rviz2', 'rviz2')
    script = runpy.run_path(str(ROOT / 'launch' / f'{group}.launch.py'))
    *declared, _ = script['generate_launch_description']().args[0]
    assert [d.args[0] for d in declared] == [a.name for a in ARGUMENTS if group in a.groups]
    assert all(d.kwargs['description'] for d in declared)
    assert all(isinstance(d.kwargs['default_value'], str) for d in declared)
    # launch would raise for a wrong choice and leave running what it has started before.
    assert not any('choices' in d.kwargs for d in declared)
    choices = {a.name: a.choices for a in ARGUMENTS}
    assert all(c in d.kwargs['description'] for d in declared for c in choices[d.args[0]])

    # rviz2 comes first: if launch does not find it after all, nothing else has been started.
    given = {'bundle': str(tiny_bundle.path), 'autostart': 'false'}
    if 'view_node' in GROUPS[group]:
        rviz, *nodes = start(group, **given, rviz='true')
        assert rviz.kwargs['package'] == rviz.kwargs['executable'] == 'rviz2'
    else:
        rviz, nodes = None, start(group, **given)
        assert 'rviz' not in [d.args[0] for d in declared]
    assert [n.kwargs['executable'] for n in nodes] == list(GROUPS[group])
    for node in nodes:
        assert node.kwargs['name'] == node.kwargs['executable']
        assert node.kwargs['package'] == 'lewm_ros'
        assert node.kwargs['namespace'] == '/lewm'
        given, params_file = node.kwargs['parameters']
        assert Path(params_file).is_file()
        assert given['autostart'] is False
        assert given['bundle'] == str(tiny_bundle.path)
        told = group == 'demo' and node.kwargs['name'] in ('sim_node', 'trial_node')
        assert given.get('task') == ('reacher' if told else None)
    encoder = [n for n in nodes if n.kwargs['name'] == 'encoder_node']
    assert len(encoder) == (group != 'record')
    assert all(n.kwargs['remappings'] == [('image', 'camera/image')] for n in encoder)
    if rviz is not None:
        flag, config = rviz.kwargs['arguments']
        assert flag == '-d' and Path(config).is_file()
    assert all(n.kwargs['respawn'] is False for n in nodes)


@pytest.mark.parametrize('group', GROUPS)
def test_launch_starts_a_node_again_where_lewm_up_does(stand_ins, tiny_bundle, group):
    """With `respawn:=true`, launch restarts a node where `lewm up` does, and ends where it ends."""
    for node in start(group, bundle=str(tiny_bundle.path), respawn='true'):
        assert node.kwargs['respawn'] is True
        assert node.kwargs['respawn_delay'] > 0
        assert float(node.kwargs['sigterm_timeout']) == GRACE_SECONDS
        for status in (-9, 0, 1, 2):
            event = types.SimpleNamespace(returncode=status)
            actions = node.kwargs['on_exit'](event, {})
            assert (actions is not None) is ends_all(node.kwargs['name'], status)
            if actions and status == 0:
                assert kinds(actions) == ['Shutdown']
            elif actions:  # then `ros2 launch` fails too
                assert str(raised(actions)) == f'{node.kwargs["name"]} ended with status {status}'


def test_record_launch_takes_the_folder_of_the_bag(stand_ins, monkeypatch, tmp_path):
    """`out:=5` is text, a folder in the working directory; by default the node chooses a name."""
    monkeypatch.chdir(tmp_path)
    for given, expected in (('5', str(tmp_path / '5')), ('', None)):
        (node,) = start('record', contract='reacher', out=given)
        assert node.kwargs['parameters'][0].get('out') == expected


def test_switches_may_be_spelt_as_in_python(stand_ins, tiny_bundle):
    """Booleans may be spelt as in Python (`use_sim_time:=True`), as in ROS 2 tutorials."""
    for given, expected in (('True', True), ('true', True), ('False', False)):
        node, *_ = start('plan', bundle=str(tiny_bundle.path), use_sim_time=given)
        assert node.kwargs['parameters'][0]['use_sim_time'] is expected


def test_a_pushed_namespace_holds_for_everything_that_is_named(stand_ins, prefix, tiny_bundle):
    """A pushed namespace applies to enclaves, loggers and what RViz shows.

    They once kept the names of /lewm.
    """
    put_executable(prefix, 'rviz2', 'rviz2')
    given = {'bundle': str(tiny_bundle.path), 'rviz': 'true', 'log_level': 'debug'}
    rviz, *nodes = start('surprise', **given, ros_namespace='/robot1')
    for node in nodes:
        name = node.kwargs['name']
        assert node.kwargs['namespace'] == '/robot1/lewm'
        assert node.kwargs['arguments'] == [
            *('--ros-args', '--log-level', f'robot1.lewm.{name}:=debug'),
            *('--enclave', f'/robot1/lewm/{name}'),
        ]
    shown = dict(rviz.kwargs['remappings'])
    assert shown['/lewm/view/image'] == '/robot1/lewm/view/image'
    assert shown['/lewm/goal_image/accepted'] == '/robot1/lewm/goal_image/accepted'
    text = Path(rviz.kwargs['arguments'][1]).read_text()
    assert text.count('/lewm/') == len(shown)
    rviz, *nodes = start('surprise', **given, namespace='/', ros_namespace='/robot1')
    assert {n.kwargs['namespace'] for n in nodes} == {'/'}
    assert nodes[0].kwargs['arguments'][2] == f'{nodes[0].kwargs["name"]}:=debug'
    assert dict(rviz.kwargs['remappings'])['/lewm/view/image'] == '/view/image'


def test_rviz_gets_the_frame_of_the_camera(stand_ins, prefix, tiny_bundle):
    """`rviz_frame` is the fixed frame of rviz2: a camera with another one is not shown."""
    put_executable(prefix, 'rviz2', 'rviz2')
    rviz, *_ = start('plan', bundle=str(tiny_bundle.path), rviz='true', rviz_frame='wrist_optical')
    assert rviz.kwargs['arguments'][2:] == ['-f', 'wrist_optical']


def test_a_misspelt_argument_is_named_and_those_of_other_launch_files_are_not(
    stand_ins, tiny_bundle
):
    """A misspelt launch argument is named, but not one of another launch file.

    launch ignores both: `bundel:=...` once started the reacher bundle silently.
    """
    given = {'bundle': str(tiny_bundle.path), 'robot_namespace': 'r', 'ros_namespace': '/a'}
    logged, also, *nodes = start('plan', **given, bundel='mine', task='push')
    assert kinds([logged, also]) == ['LogInfo'] * 2 and set(kinds(nodes)) == {'Node'}
    text = "lewm: launch argument 'bundel' is ignored: did you mean bundle?"
    assert logged.kwargs['msg'] == text
    assert also.kwargs['msg'].startswith("lewm: launch argument 'task' is ignored: expected some")


def test_rviz_that_is_not_installed_starts_nothing(stand_ins, prefix):
    """If rviz2 is not installed, nothing starts.

    launch once noticed only after it had started the nodes, and left them running: two controllers.
    """
    error = raised(start('plan', rviz='true'))
    assert isinstance(error, ConfigError)
    assert 'ros-jazzy-rviz2' in str(error) and '\n' not in str(error)
    program = put_executable(prefix, 'rviz2', 'rviz2')
    assert kinds(start('plan', rviz='true')) == ['Node'] * 6
    program.unlink()
    assert str(program) in str(raised(start('plan', rviz='true')))
    assert kinds(start('plan')) == ['Node'] * 5


@pytest.mark.parametrize(
    ('group', 'given', 'kind', 'text'),
    [
        ('plan', {'bundle': 'nosuch'}, ModelError, "bundle 'nosuch': no such path"),
        ('plan', {'contract': 'base_twist'}, ConfigError, ''),
        ('surprise', {'params_file': 'nosuch'}, ConfigError, "preset 'nosuch': no such path"),
        ('record', {'contract': 'nosuch'}, ConfigError, "contract 'nosuch': no such path"),
        ('demo', {'use_sim_time': 'true'}, ConfigError, 'the demo has no /clock'),
        (
            'plan',
            {'use_sim_time': 'yes'},
            ConfigError,
            r"use_sim_time is 'yes': .*'true', 'false'",
        ),
        ('demo', {'task': 'walk'}, ConfigError, "task 'walk' is unknown: expected .*push"),
        ('plan', {'log_level': 'fatal'}, ConfigError, "log_level is 'fatal': .*'debug'"),
    ],
)
def test_a_mistake_ends_what_a_launch_has_started_before(stand_ins, group, given, kind, text):
    """A wrong argument shuts down the launch, including what was started before.

    An exception would leave the processes of an including launch file running for ever.
    """
    error = raised(start(group, **given))
    assert isinstance(error, kind) and re.search(text, str(error))


def test_an_installation_with_a_node_missing_starts_none(stand_ins, prefix, monkeypatch):
    """An installation that lacks one node starts none.

    launch would notice it only node by node.
    """
    program = prefix / 'lib' / 'lewm_ros' / 'controller_node'
    program.chmod(0o644)
    assert f"package 'lewm_ros' lacks {program}" in str(raised(start('plan')))
    for path in (str(prefix / 'share'), ''):
        monkeypatch.setenv('AMENT_PREFIX_PATH', path)
        assert "package 'lewm_ros' is not installed" in str(raised(start('plan')))


def test_an_error_that_nobody_expected_ends_a_launch_too(stand_ins, monkeypatch):
    """An unexpected error, such as a disk failure, also ends a launch."""
    failure = OSError(5, 'Input/output error')

    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr('lewm_ros.bringup.groups.load_bundle', fail)
    assert raised(start('plan')) is failure
