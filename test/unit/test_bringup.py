# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Node groups, the supervisor and the command line."""

from __future__ import annotations

from importlib import import_module
from itertools import pairwise
import os
from pathlib import Path
import shutil
import subprocess
import sys
import types

import pytest
import yaml

from lewm_ros import cli
from lewm_ros.bringup.groups import (
    GROUPS,
    NODES,
    Bringup,
    Override,
    find_log_folder,
    prepare_environment,
)
from lewm_ros.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]
PRESETS = sorted((ROOT / 'config' / 'presets').glob('*.yaml'))


def node_class(name: str) -> type:
    module, _, attribute = NODES[name].partition(':')
    return getattr(import_module(module), attribute)


def test_every_node_is_where_the_table_says_and_is_a_program():
    """Every node in the table has a class and a console script."""
    from lewm_ros.bringup import programs
    from lewm_ros.nodes.base import LewmNode

    for name in NODES:
        assert issubclass(node_class(name), LewmNode)
        assert getattr(programs, name).args == (name,)


WITHOUT = """
import sys
sys.modules[{module!r}] = None  # Python's own way to make an import fail
from lewm_ros.bringup.programs import {node}
sys.exit({node}())
"""


@pytest.mark.parametrize(
    ('node', 'module', 'words'),
    [
        ('recorder_node', 'mcap.writer', "package 'mcap.writer': "),
        ('sim_node', 'rclpy', "package 'rclpy' is missing"),
    ],
)
def test_a_node_without_its_packages_ends_with_one_line(node, module, words):
    """A node whose packages are missing exits with status 2 and one line, not a traceback."""
    code = WITHOUT.format(node=node, module=module)
    ended = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith(f'{node}: error: ') and ended.stderr.count('\n') == 1
    assert words in ended.stderr and ' -m pip install ' in ended.stderr


def test_bringup_imports_no_node():
    """Importing the command line does not import rclpy."""
    code = 'import sys, lewm_ros.cli; print([m for m in sys.modules if m.startswith("rclpy")])'
    shown = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    assert shown.stdout.strip() == '[]'


@pytest.mark.parametrize('path', PRESETS, ids=lambda p: p.stem)
def test_presets_name_only_parameters_that_exist_within_their_ranges(path):
    """Presets set only declared parameters, within range: ROS 2 ignores undeclared ones."""
    from lewm_ros.api import planner_config

    data = yaml.safe_load(path.read_text())
    assert set(data) <= {f'/**/{n}' for n in NODES}
    for node, body in data.items():
        declared = {p.name: p for p in node_class(node.removeprefix('/**/')).PARAMETERS}
        for key, value in body['ros__parameters'].items():
            parameter = declared[key]
            assert type(value) is type(parameter.default), key
            assert not parameter.choices or value in parameter.choices
            assert parameter.low is None or parameter.low <= value <= parameter.high
    planner_config(str(path), seed=0)


def test_the_published_planner_chooses_a_command_for_each_tick():
    """The paper preset plans one command per tick, without limits, as published: 5 free blocks."""
    from lewm_ros.api import planner_config

    paper = planner_config('paper')
    assert (paper.candidates, paper.horizon, paper.clip) == ('tick', 6, False)


def test_the_library_knows_every_parameter_of_the_planner():
    """The library knows every planner parameter, so it reads the same files without ROS."""
    from lewm_ros.api import PLANNER_PARAMETERS
    from lewm_ros.nodes.parameters import COMMON

    declared = {p.name for p in (*COMMON, *node_class('planner_node').PARAMETERS)}
    assert set(PLANNER_PARAMETERS) == declared | {'use_sim_time'}


def test_the_live_preset_says_what_the_planner_does_by_default():
    """The live preset equals the planner's defaults: a node started by hand plans alike."""
    body = yaml.safe_load((ROOT / 'config/presets/live.yaml').read_text())
    given = body['/**/planner_node']['ros__parameters']
    defaults = {p.name: p.default for p in node_class('planner_node').PARAMETERS}
    assert given == {k: defaults[k] for k in given}


def test_everything_is_looked_up_before_anything_starts(tiny_bundle, contract_file):
    """Paths and remappings are resolved before any node starts."""
    contract = contract_file(camera={'topic': '/wrist/image_raw'})
    bringup = Bringup.of('plan', str(tiny_bundle.path), str(contract))
    assert bringup.parameters['bundle'] == str(tiny_bundle.path)
    assert bringup.params_file == ROOT / 'config/presets/live.yaml'
    arguments = bringup.ros_arguments('/arm/', 'warn')
    assert '__ns:=/arm' in arguments
    assert 'encoder_node:image:=/wrist/image_raw' in arguments
    # Only the nodes' loggers: `debug` for all once gave 1000 lines a second from the middleware.
    levels = [b for a, b in pairwise(arguments) if a == '--log-level']
    assert levels == [f'arm.{node}:=warn' for node in bringup.nodes]


def test_a_compressed_camera_is_remapped_by_its_own_name(tiny_bundle, contract_file):
    """With a compressed camera, the encoder's image/compressed topic is remapped."""
    camera = {'topic': 'cam/compressed', 'type': 'sensor_msgs/msg/CompressedImage'}
    contract = contract_file(camera=camera)
    bringup = Bringup.of('plan', str(tiny_bundle.path), str(contract))
    assert bringup.remappings['encoder_node'] == (('image/compressed', 'cam/compressed'),)


def test_a_contract_that_disagrees_starts_nothing(tiny_bundle, contract_file):
    """A contract that disagrees with the bundle is rejected before any node starts."""
    contract = contract_file(action={'high': [2.0, 1.0]})
    with pytest.raises(ConfigError, match=r'limits of shoulder are \[-1.0, 2.0\]'):
        Bringup.of('plan', str(tiny_bundle.path), str(contract))


def test_a_robot_is_recorded_before_there_is_a_model_of_it(tiny_bundle, contract_file):
    """`record` needs a contract but no bundle, so a robot can be recorded before it has a model."""
    # This contract does not fit any bundle.
    contract = contract_file(action={'high': [2.0, 1.0]})
    bringup = Bringup.of('record', 'nowhere', str(contract))
    assert bringup.nodes == ('recorder_node',)
    assert bringup.parameters['bundle'] == ''
    assert bringup.parameters['contract'] == str(contract)
    assert Bringup.of('record', str(tiny_bundle.path)).parameters['bundle']


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('', 'expected node names'),
        ('planner_node: {samples: 3}', "'planner_node' lacks ros__parameters"),
        ('a: [', 'line 1: not YAML'),
        (
            '/**/planer_node: {ros__parameters: {samples: 3}}',
            r"'/\*\*/planer_node'\] match no node of lewm_ros: expected some of .*'planner_node'",
        ),
    ],
)
def test_a_malformed_parameter_file_is_refused(tiny_bundle, tmp_path, text, reason):
    """A malformed parameter file is rejected: ROS 2 would use the defaults or raise."""
    path = tmp_path / 'params.yaml'
    path.write_text(text)
    with pytest.raises(ConfigError, match=reason):
        Bringup.of('plan', str(tiny_bundle.path), params_file=str(path))


@pytest.mark.parametrize(
    ('text', 'reason'),
    [
        ('samples:=3', 'expected node.parameter:=value'),
        ('planner_node.samples=3', 'expected node.parameter:=value'),
        ('planer_node.samples:=3', "no node planer_node here: expected one of .*'planner_node'"),
    ],
)
def test_a_malformed_override_is_refused(text, reason):
    """A malformed override is rejected with the expected form."""
    with pytest.raises(ConfigError, match=reason):
        Override.parse(text, GROUPS['plan'])


def test_an_override_keeps_its_value_as_it_is():
    """An override keeps its value verbatim: dots, colons and equals signs belong to it."""
    override = Override.parse('trial_node.out:=/tmp/a:=b.c', GROUPS['demo'])
    assert override == Override('trial_node', 'out', '/tmp/a:=b.c')
    assert override.arguments() == ['-p', 'out:=/tmp/a:=b.c']
    text = 'planner_node.qos_overrides./lewm/plan.publisher.depth:=2'
    override = Override.parse(text, GROUPS['plan'])
    assert override == Override('planner_node', 'qos_overrides./lewm/plan.publisher.depth', '2')


def test_supervise_is_what_lewm_up_calls(monkeypatch, tiny_bundle):
    """`lewm up --processes` supervises one command per node, each with its own overrides only."""
    seen: dict[str, list[str]] = {}
    told = []

    def supervise(commands, respawn):
        seen.update(commands)
        told.append(respawn)
        return 0

    monkeypatch.setattr('lewm_ros.cli.up.supervise', supervise)
    arguments = ['up', 'plan', '--processes', '--bundle', str(tiny_bundle.path)]
    assert cli.main([*arguments, '-p', 'planner_node.samples:=9']) == 0
    assert list(seen) == list(GROUPS['plan'])
    assert 'planner_node.samples:=9' in seen['planner_node']
    assert 'planner_node.samples:=9' not in seen['encoder_node']
    assert cli.main([*arguments, '--respawn']) == 0
    assert told == [False, True]


def test_paths_reach_the_nodes_as_they_are(tiny_bundle, tmp_path):
    """Paths that YAML would misread, such as an apostrophe or a number, reach the nodes intact."""
    for name in ("o'brien", '5', 'a: b'):
        folder = tmp_path / name
        shutil.copytree(tiny_bundle.path, folder)
        arguments = Bringup.of('plan', str(folder)).ros_arguments('lewm', 'info')
        (given,) = (a for a in arguments if a.startswith('bundle:='))
        assert yaml.safe_load(given.partition(':=')[2]) == str(folder)


@pytest.mark.parametrize(
    ('namespace', 'fits'),
    [
        *[(name, True) for name in ('lewm', '/lewm', 'a/b_2/', '', '/', '_x')],
        *[(name, False) for name in ('robot-1', '1abc', 'a b', 'a//b', 'ä', 'a/1')],
    ],
)
def test_a_namespace_that_is_none_is_refused(tiny_bundle, namespace, fits):
    """An invalid namespace is rejected before rclpy raises."""
    bringup = Bringup.of('plan', str(tiny_bundle.path))
    if fits:
        assert '-r' in bringup.ros_arguments(namespace, 'info')
        return
    with pytest.raises(ConfigError, match='expected names of letters'):
        bringup.ros_arguments(namespace, 'info')


def test_respawn_needs_processes(capsys):
    """--respawn needs --processes: in one process nothing is left to restart a node."""
    assert cli.main(['up', 'plan', '--respawn']) == 2
    assert capsys.readouterr().err.startswith('lewm: error: --respawn needs --processes')


# The command line.


def test_lewm_record_gives_the_recorder_its_folder_and_the_keys(monkeypatch):
    """`lewm record` passes the folder as text; its parameters need no node name."""
    seen = []
    monkeypatch.setattr(
        'lewm_ros.cli.record.run_nodes',
        lambda bringup, args, overrides: seen.extend(overrides) or 0,
    )
    arguments = ['record', '--contract', 'reacher', '--out', "5'6", '-p', 'gap:=0.2']
    assert cli.main(arguments) == 0
    assert [str(o) for o in seen] == [
        'recorder_node.keys:=true',
        "recorder_node.out:='5''6'",
        'recorder_node.gap:=0.2',
    ]
    seen.clear()
    assert cli.main(['record', '--contract', 'reacher', '--topics', '/tf', 'joints/raw']) == 0
    assert "recorder_node.topics:=['/tf', 'joints/raw']" in map(str, seen)


def test_lewm_record_repairs_a_bag(tmp_path, capsys):
    """`lewm record --repair` prints one line per file and rejects a folder without bag files."""
    from lewm_ros.bags.writer import BagFolder

    folder = BagFolder(tmp_path / 'bag').path  # never closed
    assert cli.main(['record', '--repair', str(folder)]) == 0
    assert capsys.readouterr().out == f'{folder}/bag_0.mcap: repaired, 0 messages saved\n'
    assert cli.main(['record', '--repair', str(tmp_path)]) == 2
    assert 'no .mcap file' in capsys.readouterr().err


def test_bad_input_is_one_line_and_status_2(capsys):
    """Bad input gives one line that names it, and status 2, without a traceback."""
    assert cli.main(['up', 'plan', '--bundle', 'nowhere']) == 2
    error = capsys.readouterr().err
    assert error.startswith("lewm: error: bundle 'nowhere': no such path")
    assert error.count('\n') == 1


def test_a_command_is_imported_only_when_it_is_chosen():
    """`lewm --help` lists all commands and imports none of them, nor torch."""
    code = (
        'import sys, lewm_ros.cli as c\n'
        'try: c.main(["--help"])\n'
        'except SystemExit: pass\n'
        'print(sorted(set(sys.modules) & {"lewm_ros.training", "torch"}))'
    )
    shown = subprocess.run([sys.executable, '-c', code], cwd=ROOT, capture_output=True, text=True)
    for name in cli.COMMANDS:
        assert name in shown.stdout
    assert '(--mjcf)' in shown.stdout  # the other use of collect
    assert shown.stdout.strip().endswith('[]')


@pytest.mark.parametrize('name', sorted(cli.COMMANDS))
def test_every_command_explains_itself(name, capsys):
    """Every command declares its arguments and prints its help."""
    pytest.importorskip('torch')
    with pytest.raises(SystemExit) as ended:
        cli.main([name, '--help'])
    assert ended.value.code == 0
    assert f'usage: lewm {name}' in capsys.readouterr().out


def test_an_interrupted_command_ends_with_130(monkeypatch, capsys):
    """Ctrl-C in a command gives one line and status 130, as shells expect."""
    module = types.ModuleType('lewm_ros.cli.train')

    def interrupted(args) -> int:
        raise KeyboardInterrupt

    module.add_arguments = lambda parser: None
    module.run = interrupted
    monkeypatch.setitem(sys.modules, 'lewm_ros.cli.train', module)
    assert cli.main(['train']) == 130
    assert capsys.readouterr().err == 'lewm: interrupted\n'


@pytest.fixture
def no_ros(monkeypatch):
    """Remove the user's ROS 2, RMW and Fast DDS settings from the environment."""
    for name in [n for n in os.environ if n.startswith(('ROS_', 'RMW_', 'FASTDDS_', 'FASTRTPS_'))]:
        monkeypatch.delenv(name)
    return monkeypatch


def test_only_the_demo_stays_on_this_machine(no_ros):
    """Only the demo limits discovery to this machine, unless the user set the range.

    A simulated robot must not drive real robots on the network.
    """
    name = 'ROS_AUTOMATIC_DISCOVERY_RANGE'
    no_ros.setenv(name, 'SUBNET')
    prepare_environment('demo')
    assert os.environ[name] == 'SUBNET'
    no_ros.delenv(name)
    prepare_environment('plan')
    assert name not in os.environ
    prepare_environment('demo')
    assert os.environ[name] == 'LOCALHOST'


@pytest.mark.parametrize(
    ('given', 'name'),
    [
        ({}, 'FASTDDS_DEFAULT_PROFILES_FILE'),
        ({'RMW_IMPLEMENTATION': 'rmw_fastrtps_cpp'}, 'FASTDDS_DEFAULT_PROFILES_FILE'),
        ({'ROS_DISTRO': 'jazzy'}, 'FASTRTPS_DEFAULT_PROFILES_FILE'),
        ({'RMW_IMPLEMENTATION': 'rmw_cyclonedds_cpp'}, None),
        ({'FASTDDS_DEFAULT_PROFILES_FILE': 'mine.xml'}, None),
        ({'FASTRTPS_DEFAULT_PROFILES_FILE': 'mine.xml'}, None),
        ({'FASTDDS_BUILTIN_TRANSPORTS': 'UDPv4'}, None),
    ],
)
def test_fast_dds_gets_room_for_large_images_unless_the_user_chose(no_ros, given, name):
    """Fast DDS gets a profile for large images unless the user set one or uses another RMW.

    Only the variable that this ROS 2 version reads is set.
    """
    for key, value in (given | {'OPENBLAS_NUM_THREADS': '1'}).items():
        no_ros.setenv(key, value)
    before = dict(os.environ)
    prepare_environment('plan')
    added = {k: v for k, v in os.environ.items() if before.get(k) != v}
    assert added == ({name: str(ROOT / 'config' / 'fastdds.xml')} if name else {})


def test_logs_go_where_they_can_be_written(no_ros, tmp_path):
    """Logs get a writable folder if the default is not writable and the user set none."""
    no_ros.setenv('HOME', str(tmp_path))
    find_log_folder()
    assert 'ROS_LOG_DIR' not in os.environ
    no_ros.delenv('HOME')
    find_log_folder()
    assert os.access(Path(os.environ['ROS_LOG_DIR']).parent, os.W_OK)
    no_ros.setenv('ROS_LOG_DIR', 'mine')
    find_log_folder()
    assert os.environ['ROS_LOG_DIR'] == 'mine'
    no_ros.delenv('ROS_LOG_DIR')
    no_ros.setenv('HOME', '/proc/home')  # not writable
    no_ros.setattr(os, 'access', lambda path, mode: not str(path).startswith('/proc'))
    find_log_folder()
    assert 'ROS_LOG_DIR' in os.environ


def test_products_of_numpy_get_one_thread_unless_the_user_chose(no_ros):
    """OpenBLAS gets one thread unless the user chose: more would contend with the engines."""
    no_ros.setenv('OPENBLAS_NUM_THREADS', '2')
    prepare_environment('plan')
    assert os.environ['OPENBLAS_NUM_THREADS'] == '2'
    no_ros.delenv('OPENBLAS_NUM_THREADS')
    prepare_environment('plan')
    assert os.environ['OPENBLAS_NUM_THREADS'] == '1'


def test_a_demo_without_a_clock_is_refused(tiny_bundle):
    """A demo with use_sim_time is rejected: it would wait for /clock for ever."""
    with pytest.raises(ConfigError, match='use_sim_time.*no /clock'):
        Bringup.of('demo', str(tiny_bundle.path), use_sim_time=True)
