# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The commands of docs/tutorial.md, which `make tutorial` runs, exist with their options."""

from __future__ import annotations

from pathlib import Path
import re
import shlex
import subprocess

import pytest

from lewm_ros import cli

ROOT = Path(__file__).parents[2]
BLOCKS = re.findall(r'^```sh\n(.*?)^```$', (ROOT / 'docs' / 'tutorial.md').read_text(), re.M | re.S)
LINES = [line.split(' & ')[0] for line in ''.join(BLOCKS).replace('\\\n', '').splitlines()]


def test_it_is_a_script() -> None:
    """The script has no syntax errors, and it kills and awaits every background process."""
    script = ''.join(BLOCKS)
    subprocess.run(['bash', '-n'], input=script, text=True, check=True)
    for name in re.findall(r'& (\w+)=\$!', script):
        assert f'kill ${name}; wait ${name}' in script


@pytest.mark.parametrize(('command', 'status'), [('true', 0), ('sleep 9 & false', 1)])
def test_what_ends_the_background_leaves_the_status(command: str, status: int) -> None:
    """The trap of `make tutorial` keeps the exit status, with or without background processes."""
    (trap,) = re.findall(r"echo '(trap .*)'", (ROOT / 'Makefile').read_text())
    script = trap.replace('$$', '$').replace('\\$', '$') + f'\n{command}\n'
    assert subprocess.run(['bash', '-c', script], check=False, timeout=5).returncode == status


@pytest.mark.parametrize('line', [line for line in LINES if line.startswith('lewm ')])
def test_every_command_is_one_of_lewm(line: str) -> None:
    """Every `lewm` command and option in the tutorial exists."""
    words = shlex.split(line)[1:]
    assert cli._parser(words).parse_args(words).command == words[0]


def test_every_script_is_there() -> None:
    """Every file under examples/ that the tutorial names exists."""
    for path in re.findall(r'\bexamples/\S+', ' '.join(LINES)):
        assert (ROOT / path).is_file()
