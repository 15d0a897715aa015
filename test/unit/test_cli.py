# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The `lewm` command and the machine: the CPUs that it may use, and signals that end it."""

from __future__ import annotations

import argparse
from importlib import import_module
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.cli import COMMANDS, main
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract

CTRL_C = """
import os, signal, sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        if name == 'datetime':
            os.kill(os.getpid(), signal.SIGINT)

from lewm_ros import cli
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
sys.modules.pop('datetime', None)
sys.meta_path.insert(0, Finder())
sys.exit(cli.main(['roadmap', '--help']))
"""


#: A signal while ctypes converts an argument, as in the renderer.
WITHIN_CTYPES = """
import ctypes, os, sys
from lewm_ros import cli
from lewm_ros.cli import roadmap

class Number:
    @classmethod
    def from_param(cls, value):
        os.kill(os.getpid(), {number})
        return ctypes.c_int(value)

def run(args):
    ctypes.pythonapi.PyLong_FromLong.argtypes = [Number]
    ctypes.pythonapi.PyLong_FromLong(1)

roadmap.run = run
sys.exit(cli.main(['roadmap', 'reacher', '--data', 'bag']))
"""


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_during_a_call_into_a_library_ends_the_command(number):
    """What the handler raises becomes another error there, which is no fault of the command."""
    code = WITHIN_CTYPES.format(number=int(number))
    code = f'import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n{code}'
    ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (128 + number, '')


def test_a_set_of_processors_is_counted_not_the_machines():
    """Only the CPUs of the process's affinity set count, as with docker's --cpuset-cpus."""
    processor = str(min(os.sched_getaffinity(0)))
    code = 'from lewm_ros.cli import main; main(["roadmap", "--help"])'
    run = ['taskset', '-c', processor, sys.executable, '-c', code]
    ended = subprocess.run(run, capture_output=True, text=True, check=True)
    assert 'of an encoding (default 1)' in ended.stdout


def test_ctrl_c_while_libraries_are_imported_is_one_line():
    """Ctrl-C during imports gives one line; numpy once turned it into an ImportError."""
    ended = subprocess.run([sys.executable, '-c', CTRL_C], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, '', 'lewm: interrupted\n')


def test_a_package_that_is_missing_is_one_line_wherever_it_is_imported(tmp_path):
    """Some commands import libraries only where they need them."""
    code = (
        'import sys; sys.modules["mcap"] = None\n'
        f'from lewm_ros.cli import main; sys.exit(main(["record", "--repair", {str(tmp_path)!r}]))'
    )
    ended = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True)
    assert ended.returncode == 2
    assert ended.stderr.startswith("lewm: error: lewm record: Python package 'mcap' is missing: ")
    assert ended.stderr.count('\n') == 1


@pytest.mark.parametrize(
    ('command', 'option'),
    [
        (['train', '--contract', 'c', '--out', 'o'], '--data'),
        (['calibrate', 'b'], '--data'),
        (['roadmap', 'b'], '--data'),
        (['tune', '--contract', 'c'], '--data'),
        (['evaluate', 'b'], '--episodes'),
        (['record'], '--topics'),
    ],
)
def test_a_list_may_be_given_in_parts(command, option):
    """An option for bags or topics that is repeated adds to those before."""
    place = COMMANDS[command[0]][0]
    parser = argparse.ArgumentParser()
    import_module(f'lewm_ros.{place}').add_arguments(parser)
    args = parser.parse_args([*command[1:], option, '/a', option, '/b', '/c'])
    assert [str(item) for item in getattr(args, option[2:])] == ['/a', '/b', '/c']


def test_a_single_node_has_its_enclave(monkeypatch):
    """`lewm record` starts recorder_node under its own name in SROS2, as the launch files do."""
    started = []
    compose = SimpleNamespace(
        node_class=lambda name: name,
        run=lambda nodes, arguments, *rest, **options: started.append(arguments) or 0,
    )
    monkeypatch.setattr('lewm_ros.cli.bringup.import_compose', lambda: compose)
    assert main(['record', '--contract', 'reacher']) == 0
    at = started[0].index('--enclave')
    assert started[0][at + 1] == '/lewm/recorder_node'


def test_a_terminated_collection_is_a_whole_bag(tmp_path):
    """SIGTERM ends a command as Ctrl-C does: what was recorded is a complete bag."""
    bag = tmp_path / 'bag'
    run = [sys.executable, '-m', 'lewm_ros.cli', 'collect', 'push', '--out', str(bag)]
    with subprocess.Popen(run, stderr=subprocess.DEVNULL) as process:
        began = time.monotonic()
        while not any(f.stat().st_size > 10_000 for f in bag.glob('*')):
            assert process.poll() is None and time.monotonic() - began < 60
            time.sleep(0.02)
        process.terminate()
        assert process.wait(30) == 143
    assert (bag / 'metadata.yaml').exists()
    assert next(read_episodes([bag], Contract.load(find('contract', 'push')), 64)).images.any()
