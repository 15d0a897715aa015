# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The `lewm` command and the machine: the CPUs that it may use, and Ctrl-C at startup."""

from __future__ import annotations

import os
import subprocess
import sys

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
