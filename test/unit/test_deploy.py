# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The deployment examples refer only to things that exist. Running them is not tested."""

from __future__ import annotations

from pathlib import Path
import re
import shlex
import shutil
import subprocess
import sys

import pytest

from lewm_ros import cli
from lewm_ros.bringup.supervisor import GRACE_SECONDS, STATUS_UNUSABLE

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / 'deploy'


def test_the_unit_starts_a_command_that_exists():
    """The unit starts `lewm up` with valid options and does not restart a bad configuration."""
    unit = (DEPLOY / 'lewm.service').read_text()
    (line,) = re.findall(r'^ExecStart=(.*)$', unit, re.MULTILINE)
    program, *arguments = shlex.split(line)
    assert program.endswith('/bin/lewm')
    args = cli._parser(arguments).parse_args(arguments)
    assert (args.group, args.processes, args.respawn) == ('plan', True, True)
    assert f'RestartPreventExitStatus={STATUS_UNUSABLE}\n' in unit
    assert f'TimeoutStopSec={GRACE_SECONDS + 5:g}\n' in unit  # systemd kills after the supervisor


@pytest.mark.skipif(not shutil.which('systemd-analyze'), reason='no systemd here')
def test_systemd_finds_no_fault_in_the_unit(tmp_path):
    """systemd-analyze finds no fault in the unit, given a program that exists."""
    unit = (DEPLOY / 'lewm.service').read_text()
    changed = re.sub(r'(?m)^ExecStart=\S+', f'ExecStart={sys.executable}', unit)
    path = tmp_path / 'lewm.service'
    path.write_text(re.sub(r'(?m)^User=.*$', 'User=root', changed))
    done = subprocess.run(['systemd-analyze', 'verify', path], capture_output=True, text=True)
    assert 'lewm.service' not in done.stdout + done.stderr
