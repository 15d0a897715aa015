# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Runs one process per node and restarts those that end; handles stop signals."""

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

#: Exit status of a node that cannot be configured; a restart would fail again.
STATUS_UNUSABLE = 2
#: Nodes that finish by themselves; all other nodes then end too.
FINISHING = ('trial_node', 'recorder_node')
#: Pause before a process is restarted [s]: doubled each time up to the longest one, reset once
#: the process has run for RESET_AFTER.
RESTART_PAUSE, LONGEST_RESTART_PAUSE, RESET_AFTER = 1.0, 8.0, 10.0
#: Time for nodes to end before they are killed [s]: a recorder writes its queue for up to 30 s,
#: then closes its bag.
GRACE_SECONDS = 35.0

#: Time after which a message says that nodes are being waited for [s].
WAITING_NOTICE = 3.0

SHARED_MEMORY = Path('/dev/shm')  # noqa: S108 (Fast DDS's place, not a choice)

#: Locks beside the segments of Fast DDS 3, and of Fast DDS 2 (Jazzy).
_LOCKS = ('fastdds_*_el', 'fastrtps_*_el')

_STOP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_PERIOD = 0.1  #: of looking for ended processes [s]
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


class StopSignals:
    """Sets a flag on SIGINT, SIGTERM and SIGHUP; later ignores them.

    SIGHUP means a closed terminal or a broken ssh connection: nodes must publish their final
    messages then too. Under nohup it stays ignored.

    A launcher may send a second SIGINT during the shutdown, where the default handler would kill
    the process. Signals that arrived earlier, noted by :func:`signals_noted` or blocked by the
    parent process, set the flag at once.
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
    """Note stop signals for a later :class:`StopSignals`.

    Imports take seconds at the start of a program, and the default handlers would kill it in
    that time. They are restored afterwards, unless the process is ending.
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
    """Whether the end of a node ends all nodes, rather than being followed by a restart.

    Args:
        name: of the node.
        status: exit status of its process, or minus the number of the signal that killed it.

    """
    return status == STATUS_UNUSABLE or (name in FINISHING and status >= 0)


def remove_abandoned_memory(folder: Path = SHARED_MEMORY) -> None:
    """Remove the shared memory of killed processes, of which Fast DDS keeps 17 MB each.

    Like `fastdds shm clean`, this removes the abandoned segments of every Fast DDS program of this
    user, not only of the supervised ones, because segment names do not identify the owner. A live
    owner holds a lock on the file beside its segment. Files younger than a second are kept, because
    their owner may not have locked them yet.
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
    """The process of one node, restarted when it ends."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name, self._command = name, command
        self._pause = RESTART_PAUSE
        self._due = 0.0
        self.start()

    def start(self) -> None:
        """Start it, in the supervisor's own environment. Raises OSError."""
        supervisor = os.getpid()

        def end_with_supervisor() -> None:
            # However the supervisor dies; exec keeps the setting.
            _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)
            if os.getppid() != supervisor:  # ended before the line above
                os.kill(os.getpid(), signal.SIGINT)

        self._started = time.monotonic()
        # Blocked in the child too, until it has handlers.
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP)
        try:
            self.process = subprocess.Popen(
                self._command,
                # Only system calls: safe although numpy has started threads.
                preexec_fn=end_with_supervisor,  # noqa: PLW1509
            )
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP)
        self.ended = False

    def start_again(self) -> None:
        """Start it; where that fails (out of memory, say), try again after a pause."""
        try:
            self.start()
        except OSError as error:
            self.wait_for_restart(f'cannot be started ({error.strerror})')

    def wait_for_restart(self, why: str) -> None:
        """Log the end and schedule the next start."""
        now = time.monotonic()
        self.ended = True
        if now - self._started > RESET_AFTER:
            self._pause = RESTART_PAUSE
        self._due = now + self._pause
        _log(f'{self.name} {why}: restarting it in {self._pause:g} s')
        self._pause = min(2 * self._pause, LONGEST_RESTART_PAUSE)

    @property
    def due(self) -> bool:
        """Whether it has ended and its pause is over."""
        return self.ended and time.monotonic() >= self._due


def supervise(
    commands: dict[str, list[str]], grace: float = GRACE_SECONDS, respawn: bool = False
) -> int:
    """Run one process per node until one ends or a signal comes, then end them all.

    Where this process is killed, the kernel sends SIGINT to each of them (Linux).

    Args:
        commands: by node name.
        grace: time to end after SIGINT before they are killed [s].
        respawn: restart a process that ended, unless its end :func:`ends_all`; the pause before
            it grows while the process keeps ending soon.

    Returns:
        The exit status of the process that ended all, as in a shell (128 + number
        after a signal); after a signal to the supervisor the largest one of :data:`FINISHING`, or
        0; 1 where one could not be started.

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
                        _log(f'{child.name} ended with status {status}')
                    return status if status >= 0 else 128 - status
                child.wait_for_restart(f'ended with status {status}')
            for child in children:
                if child.due:
                    remove_abandoned_memory()
                    child.start_again()
            time.sleep(_POLL_PERIOD)
    except OSError as error:
        _log(f'a process cannot be started: {error}')
        return 1
    finally:
        signals.ignore()
        _end([c.process for c in children], grace)
        remove_abandoned_memory()
    return max([0, *(c.process.returncode for c in children if c.name in FINISHING)])


def _end(processes: Sequence[subprocess.Popen[bytes]], grace: float) -> None:
    # In reverse order of start; each node publishes its final messages.
    for process in reversed(processes):
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + grace
    _wait(processes, min(grace, WAITING_NOTICE))
    slow = sum(p.poll() is None for p in processes)
    if slow:
        _log(f'{slow} nodes have not ended yet: waiting for {grace:g} s at most')
    for process in processes:
        try:
            process.wait(max(deadline - time.monotonic(), 0.01))
        except subprocess.TimeoutExpired:
            _log(f'killing {process.args!r}')
            process.kill()
            process.wait()


def _wait(processes: Sequence[subprocess.Popen[bytes]], seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until and any(p.poll() is None for p in processes):
        time.sleep(_POLL_PERIOD / 10)


def _log(text: str) -> None:
    try:
        print(f'lewm: {text}', file=sys.stderr, flush=True)
    except OSError:
        # stderr is closed. Text left in its buffer would make Python end with status 120.
        sys.stderr = Path(os.devnull).open('w')  # noqa: SIM115
