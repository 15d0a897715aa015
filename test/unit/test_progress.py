# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Progress is a bar in a terminal, and an occasional line in a file."""

from __future__ import annotations

import os
from pathlib import Path
import pty
import subprocess
import sys
import termios

from lewm_ros import progress

COLLECT = [sys.executable, '-m', 'lewm_ros.cli', 'collect', 'reacher', '--seconds', '1']
COUNT = """
import sys, time
from lewm_ros import progress
progress.INTERVAL = float(sys.argv[1])
with progress.progress(total=40, desc='count', unit='step') as bar:
    for number in range(40):
        time.sleep(0.05)
        bar.set_postfix(number=number)
        bar.update()
"""


def test_a_file_gets_a_line_in_an_interval(tmp_path):
    """A log file gets whole lines without carriage returns, however often the bar is updated."""
    with (tmp_path / 'log').open('w') as log:
        subprocess.run([sys.executable, '-c', COUNT, '0.5'], stderr=log, check=True, timeout=60)
    text = (tmp_path / 'log').read_bytes().decode()
    lines = text.splitlines()
    assert text.endswith('\n') and '\r' not in text
    assert 2 <= len(lines) <= 4, 'every 0.5 s of 2 s'
    assert all(line.startswith('count: ') and 'step' in line for line in lines)
    assert progress.INTERVAL == 10.0


def test_collecting_into_a_log_leaves_no_wall_of_text(tmp_path):
    """A command shorter than the interval writes less than 500 bytes to the log."""
    command = [*COLLECT, '--episodes', '20', '--out', str(tmp_path / 'bag')]
    with (tmp_path / 'log').open('w') as log:
        subprocess.run(command, stderr=log, check=True, timeout=100)
    assert (tmp_path / 'log').stat().st_size < 500


def test_a_terminal_shows_a_bar(tmp_path):
    """The bar is redrawn in place, up to 100 %."""
    shown = read_terminal([*COLLECT, '--episodes', '3', '--out', str(tmp_path / 'bag')])
    assert '\rcollect:' in shown
    assert '100%' in shown and '3/3' in shown


def read_terminal(command: list[str]) -> str:
    """Return what a command writes to stderr when that is a terminal."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    with subprocess.Popen(command, stderr=theirs, cwd=Path.cwd()) as process:
        os.close(theirs)
        data = b''
        try:
            while block := os.read(ours, 4096):
                data += block
        except OSError:  # on Linux, the end of a terminal
            pass
        assert process.wait(60) == 0
    os.close(ours)
    return data.decode()
