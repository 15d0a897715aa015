# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The supervisor of `lewm up --processes`, with real processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import fcntl
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading
import time

import pytest

from lewm_ros.bringup.supervisor import (
    LONGEST_RESTART_PAUSE,
    RESTART_PAUSE,
    StopSignals,
    ends_all,
    remove_abandoned_memory,
    signals_noted,
)

ROOT = Path(__file__).resolve().parents[2]
SUPERVISE = (
    'import sys, lewm_ros.bringup.supervisor as s;'
    's.RESTART_PAUSE, s.LONGEST_RESTART_PAUSE = 0.2, 0.8;'
    'sys.exit(s.supervise(eval(sys.argv[1]), 0.5, eval(sys.argv[2])))'
)
#: Like a node: slow to start, then it ends at a stop signal.
SLEEP = [
    sys.executable,
    '-c',
    'import time; time.sleep(0.3)\n'
    'from lewm_ros.bringup.supervisor import StopSignals; signals = StopSignals()\n'
    'while not signals.seen: time.sleep(0.02)',
]
STUBBORN = [
    sys.executable,
    '-c',
    'import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); '
    'print("ready", flush=True); time.sleep(60)',
]


def program(code: str) -> list[str]:
    return [sys.executable, '-c', code]


def children(process: subprocess.Popen[str]) -> list[str]:
    """Ids of its child processes that it has not reaped."""
    return Path(f'/proc/{process.pid}/task/{process.pid}/children').read_text().split()


def alive(number: str) -> bool:
    """Whether a process runs; a zombie counts as ended."""
    try:
        return Path(f'/proc/{number}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


@pytest.fixture
def supervisor() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Return a function that starts a supervisor of named commands; it is killed at teardown."""
    started = []

    def start(commands: dict[str, list[str]], respawn: bool = False) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, '-c', SUPERVISE, repr(commands), repr(respawn)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def test_when_one_process_ends_all_end_with_its_status(supervisor):
    """The others get SIGINT once they can handle it, and no process is left behind."""
    process = supervisor({'sleeper': SLEEP, 'leaver': program('import sys; sys.exit(3)')})
    output = process.communicate(timeout=20)
    assert process.returncode == 3, output
    assert output[1] == 'lewm: leaver ended with status 3\n'


def test_a_process_that_ignores_sigint_is_killed_after_the_grace_time(supervisor):
    """The supervisor itself still exits with 0 after two signals."""
    process = supervisor({'stubborn': STUBBORN})
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=20)
    assert process.returncode == 0, output
    assert 'killing' in output[1]


@pytest.mark.parametrize(('name', 'status'), [('recorder_node', 2), ('encoder_node', 0)])
def test_a_recording_that_fails_at_its_end_is_a_failure(supervisor, name, status):
    """After Ctrl-C the recorder completes its bag: whether it could is the status of all."""
    failing = SLEEP[-1].replace('while not', 'print("ready", flush=True)\nwhile not') + '\nexit(2)'
    process = supervisor({name: program(failing), 'sleeper': SLEEP})
    assert process.stdout.readline() == 'ready\n'
    process.send_signal(signal.SIGINT)
    output = process.communicate(timeout=20)
    assert process.returncode == status, output


def test_a_process_killed_by_a_signal_is_a_failure(supervisor):
    """The status is 128 plus the signal number, as in a shell."""
    process = supervisor({'crasher': program('import os, signal; os.kill(os.getpid(), 9)')})
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL


def test_a_process_that_died_is_started_again_as_it_was(supervisor, tmp_path):
    """After a signal, an error or a normal exit it restarts unchanged, with growing pauses."""
    lives = tmp_path / 'lives'
    code = (
        'import os, sys, time; life = open(sys.argv[1], "a+"); life.seek(0);'
        'number = len(life.readlines());'
        'life.write(f"{time.monotonic()} {sorted(os.environ.items())}\\n"); life.close();'
        'number == 0 and os.kill(os.getpid(), 9); os._exit((0, 0, 1, 3)[number])'
    )
    process = supervisor(
        {'planner_node': [*program(code), str(lives)], 'sleeper': SLEEP}, respawn=True
    )
    while not lives.exists() or lives.read_text().count('\n') < 4:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 0, said
    assert said.splitlines()[:3] == [
        f'lewm: planner_node ended with status {status}: restarting it in {pause} s'
        for status, pause in ((-9, 0.2), (0, 0.4), (1, 0.8))
    ]
    assert 'sleeper' not in said
    times, environments = zip(*(line.split(' ', 1) for line in lives.read_text().splitlines()))
    assert len(set(environments)) == 1
    pauses = [float(b) - float(a) for a, b in zip(times, times[1:])]
    assert all(p >= least for p, least in zip(pauses, (0.2, 0.4, 0.8)))


def test_a_process_that_cannot_be_started_again_is_tried_again(supervisor, tmp_path):
    """Here its program is missing for a while; the other processes go on."""
    once = tmp_path / 'once'
    once.write_text('#!/bin/sh\nrm "$0"; exit 1')
    once.chmod(0o755)
    process = supervisor({'planner_node': [str(once)], 'sleeper': SLEEP}, respawn=True)
    name, again = 'lewm: planner_node', ': restarting it in'
    assert process.stderr.readline() == f'{name} ended with status 1{again} 0.2 s\n'
    failed = f'{name} cannot be started (No such file or directory){again}'
    assert process.stderr.readline() == f'{failed} 0.4 s\n'
    once.symlink_to('/bin/true')
    while (line := process.stderr.readline()).startswith(failed):
        pass
    assert line.startswith(f'{name} ended with status 0{again}')
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 0, said
    assert 'sleeper' not in said


def test_a_process_that_cannot_be_started_is_not_a_wrong_parameter(supervisor, tmp_path):
    """The status is 1, so that systemd may retry, unlike after 2; started processes end."""
    process = supervisor({'stayer': SLEEP, 'missing': [str(tmp_path / 'missing')]}, respawn=True)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == 1, said
    assert 'missing' in said and 'Traceback' not in said


def test_nobody_survives_where_nobody_reads_what_is_said(supervisor):
    """`lewm up ... 2>&1 | tee log` without tee: restarts and the final kill still work."""
    dying = program('print("died", flush=True); raise SystemExit(1)')
    process = supervisor({'planner_node': dying, 'stubborn': STUBBORN}, respawn=True)
    process.stderr.close()
    seen = ''
    while seen.count('died') < 2 or 'ready' not in seen:
        line = process.stdout.readline()
        assert line, 'all have ended'
        seen += line
    ids = children(process)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert ids and not any(map(alive, ids))


def test_a_killed_supervisor_takes_all_with_it(supervisor, tmp_path):
    """The children exit by themselves, even one that is still starting."""
    said = tmp_path / 'said'
    code = SLEEP[2] + f'\nopen({str(said)!r}, "a").write("x")'
    process = supervisor({'one': program(code), 'two': program(code)})
    while len(ids := children(process)) < 2:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10.0
    while (left := [n for n in ids if alive(n)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    for number in left:
        os.kill(int(number), signal.SIGKILL)
    assert not left
    assert said.read_text() == 'xx'


@pytest.mark.parametrize(
    ('name', 'status'), [('planner_node', 2), ('trial_node', 0), ('recorder_node', 3)]
)
def test_some_ends_are_not_for_starting_again(supervisor, name, status):
    """All processes end if a node cannot be configured, or when a trial or a recording ends."""
    commands = {name: program(f'import sys; sys.exit({status})'), 'sleeper': SLEEP}
    process = supervisor(commands, respawn=True)
    said = process.communicate(timeout=20)[1]
    assert process.returncode == status
    assert 'again' not in said


def test_a_killed_recorder_is_started_again():
    """A recorder killed by a signal has not ended its recording, so it is restarted."""
    assert not ends_all('recorder_node', -9)
    assert not ends_all('encoder_node', 1)
    assert 0 < RESTART_PAUSE < LONGEST_RESTART_PAUSE


@pytest.mark.parametrize('kind', ['fastdds', 'fastrtps'])
def test_only_memory_without_an_owner_is_removed(tmp_path, kind):
    """Memory of a live process, which holds a lock, and new memory without a lock are kept."""
    old = time.time() - 10.0
    for name in ('dead', 'live', 'young', 'port7'):
        for path in (tmp_path / f'{kind}_{name}', tmp_path / f'{kind}_{name}_el'):
            path.touch()
            if name != 'young':
                os.utime(path, (old, old))
    (tmp_path / 'other_el').touch()
    before = {p.name for p in tmp_path.iterdir()}
    with (tmp_path / f'{kind}_live_el').open() as owned:
        fcntl.flock(owned, fcntl.LOCK_EX)
        remove_abandoned_memory(tmp_path)
    assert before - {p.name for p in tmp_path.iterdir()} == {f'{kind}_dead', f'{kind}_dead_el'}


def test_a_signal_before_the_handlers_is_seen_by_them():
    """The signal is seen whichever thread receives it; the old handlers are restored."""
    before = signal.getsignal(signal.SIGINT)
    other = threading.Event()
    thread = threading.Thread(target=other.wait)
    thread.start()
    with signals_noted():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        with signals_noted():
            assert StopSignals().seen
    assert signal.getsignal(signal.SIGINT) == before
    other.set()
    thread.join()
