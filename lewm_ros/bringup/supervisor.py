# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Keeps one process per node, from the first start to the last word; and what stops them all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
import ctypes
import fcntl
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from types import FrameType
from typing import Any

#: Exit status of a node that cannot be configured: the same would come of starting it again.
UNUSABLE = 2
#: Nodes with an end of their own, which is everybody's; the others have none.
FINISHING = ('trial_node', 'recorder_node')
#: Pause before a process is started again [s]. It doubles each time up to the second figure,
#: and is the first again after a life longer than the third.
PAUSE, LONGEST_PAUSE, LONG_LIFE = 1.0, 8.0, 10.0
#: Nodes may take so long to end before they are killed [s]: a recorder writes what is queued for
#: up to 30 s, then closes its bag.
GRACE = 35.0

#: After so long [s] it is said that they are waited for.
TELLING = 3.0

SHARED_MEMORY = Path('/dev/shm')  # noqa: S108 (Fast DDS's place, not a choice)

#: Locks beside the segments of Fast DDS 3, and of Fast DDS 2 (Jazzy).
_LOCKS = ('fastdds_*_el', 'fastrtps_*_el')

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL = 0.1  #: how soon an end is noticed [s]
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class StopSignals:
    """Turns SIGINT, SIGTERM and SIGHUP into a flag, and later into nothing.

    SIGHUP is a terminal that was closed, or an ssh connection that broke: the last words are due
    then too. Under nohup it stays ignored.

    Under a launcher a second SIGINT arrives in the middle of the teardown, or of Python's own,
    and the default handler would kill the process there. What came before, noted by
    :func:`signals_noted` or held back by the parent process, is seen now.
    """

    def __init__(self) -> None:
        self.seen = False
        nohup = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        self._numbers = [n for n in _STOP if n != signal.SIGHUP or not nohup]
        earlier = getattr(signal.getsignal(signal.SIGINT), '__self__', None)
        self._handle(self._note)
        if isinstance(earlier, StopSignals) and earlier.seen:
            self.seen = True
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)

    def ignore(self) -> None:
        """Ignore them from now on: the process is ending."""
        self._handle(signal.SIG_IGN)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.seen = True

    def _handle(self, handler: Any) -> None:
        for number in self._numbers:
            signal.signal(number, handler)


@contextmanager
def signals_noted() -> Iterator[None]:
    """Note stop signals for the :class:`StopSignals` to come.

    Between the start of a program and those lie seconds of imports, in which the default
    handlers would kill it. They are back afterwards, unless the process is ending.
    """
    before = {number: signal.getsignal(number) for number in _STOP}
    StopSignals()
    try:
        yield
    finally:
        if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
            for number, handler in before.items():
                signal.signal(number, handler)


def ends_all(name: str, status: int) -> bool:
    """Say whether a node that ended is not to be started again, and nothing goes on without it.

    Args:
        name: of the node.
        status: exit status of its process, minus the number of the signal that killed it.

    """
    return status == UNUSABLE or (name in FINISHING and status >= 0)


def remove_abandoned_memory(folder: Path = SHARED_MEMORY) -> None:
    """Remove the shared memory that killed processes left behind: Fast DDS keeps 17 MB for each.

    As `fastdds shm clean` does, this removes the abandoned segments of every Fast DDS program of
    this user, not only of the supervised ones: the names of segments do not tell the owner. A
    live owner holds a lock on the file beside its segment. Files younger than a second are left:
    the owner may not have locked them yet.
    """
    for beside in (file for pattern in _LOCKS for file in folder.glob(pattern)):
        segment = folder / beside.name.removesuffix('_el')
        try:
            if 'port' in beside.name or time.time() - beside.stat().st_mtime < 1.0:
                continue
            with beside.open('rb') as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                segment.unlink(missing_ok=True)
                beside.unlink()
        except OSError:  # locked, just gone, or somebody else's
            continue


class _Child:
    """The process of one node, and its successors."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name, self._command = name, command
        self._pause = PAUSE
        self._due = 0.0
        self.start()

    def start(self) -> None:
        """Start it, in the supervisor's own environment. Raises OSError."""
        supervisor = os.getpid()

        def end_with_supervisor() -> None:
            # However that ends; exec keeps it, and there is one more in rclpy's wheels.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != supervisor:  # it has just ended
                os.kill(os.getpid(), signal.SIGINT)

        self._started = time.monotonic()
        # Held back in the child, too, until it has handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            self.process = subprocess.Popen(
                self._command,
                # A few system calls: threads of numpy hold nothing that they need.
                preexec_fn=end_with_supervisor,  # noqa: PLW1509
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        self.ended = False

    def start_again(self) -> None:
        """Start it; where that fails, such as for want of memory, try again after a pause."""
        try:
            self.start()
        except OSError as error:
            self.wait_for_restart(f'cannot be started ({error.strerror})')

    def wait_for_restart(self, why: str) -> None:
        """Note an end, say it, and plan the next start."""
        now = time.monotonic()
        self.ended = True
        if now - self._started > LONG_LIFE:
            self._pause = PAUSE
        self._due = now + self._pause
        _say(f'{self.name} {why}: starting it again in {self._pause:g} s')
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    @property
    def due(self) -> bool:
        """Whether it has ended and its pause is over."""
        return self.ended and time.monotonic() >= self._due


def supervise(commands: dict[str, list[str]], grace: float = GRACE, respawn: bool = False) -> int:
    """Run one process per node until one ends or a signal comes, then end them all.

    Where this process dies without a word, each of them gets SIGINT by the kernel (Linux).

    Args:
        commands: by node name.
        grace: how long they may take to end after SIGINT [s] before they are killed.
        respawn: start a process that ended again, after a pause that grows while it keeps
            ending at once, unless its end :func:`ends_all`.

    Returns:
        The exit status of the process that ended all, as a shell would say it (128 + number
        after a signal); 0 after a signal to the supervisor; 1 where one could not be started.

    """
    signals = StopSignals()
    children: list[_Child] = []
    status = 0
    try:
        for name, command in commands.items():
            children.append(_Child(name, command))
        while not signals.seen:
            ended = [c for c in children if not c.ended and c.process.poll() is not None]
            for child in ended:
                status = child.process.returncode
                if not respawn or ends_all(child.name, status):
                    if status:
                        _say(f'{child.name} ended with status {status}')
                    return status if status >= 0 else 128 - status
                child.wait_for_restart(f'ended with status {status}')
            for child in children:
                if child.due:
                    remove_abandoned_memory()
                    child.start_again()
            time.sleep(_POLL)
        return 0
    except OSError as error:
        _say(f'a process cannot be started: {error}')
        return 1
    finally:
        signals.ignore()
        _end([c.process for c in children], grace)
        remove_abandoned_memory()


def _end(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    # Last started, first told: each says its last words by itself.
    for process in reversed(processes):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + grace
    _wait(processes, min(grace, TELLING))
    slow = sum(p.poll() is None for p in processes)
    if slow:
        _say(f'{slow} nodes have not ended yet: waiting for {grace:g} s at most')
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            _say(f'killing {process.args!r}')
            process.kill()
            process.wait()


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(p.poll() is None for p in processes):
        time.sleep(_POLL / 10)


def _say(text: str) -> None:
    try:
        print(f'lewm: {text}', file=sys.stderr, flush=True)
    except OSError:
        # Nobody reads it any more, and the processes matter more. What is left in the old stream
        # would make Python end with status 120.
        sys.stderr = Path(os.devnull).open('w')  # noqa: SIM115
