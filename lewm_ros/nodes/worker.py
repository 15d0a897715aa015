# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A thread that does the heavy work which callbacks only ask for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
import threading
from typing import Generic, TypeVar

T = TypeVar('T')


class Worker(Generic[T]):
    """A thread with bounded slots of requests; a full slot drops its oldest request.

    With ``capacity`` 1 a slot keeps only the newest request, as encoder and planner need it; with
    more it is the queue of the surprise node. ``skipped`` counts the dropped requests. An exception
    of ``work`` is passed to ``on_error``, and the thread continues.

    Args:
        name: of the thread.
        work: called with each request, on the thread.
        on_error: called with the exception, on the thread.
        capacity: requests kept per slot.
        finish: whether :meth:`stop` leaves what is pending to be worked on.

    """

    def __init__(
        self,
        name: str,
        work: Callable[[T], None],
        on_error: Callable[[Exception], None],
        capacity: int = 1,
        finish: bool = False,
    ) -> None:
        self.skipped = 0
        self.name, self.finish = name, finish
        self._work = work
        self._on_error = on_error
        self._capacity = capacity
        self._pending: dict[str, deque[T]] = {}
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def request(self, item: T, slot: str = '') -> None:
        """Ask for work on ``item``; never blocks for longer than a lock is held."""
        with self._wake:
            pending = self._pending.setdefault(slot, deque())
            if len(pending) >= self._capacity:
                pending.popleft()
                self.skipped += 1
            pending.append(item)
            self._wake.notify()

    def stop(self, timeout: float = 2.0) -> bool:
        """End the thread, without what is pending. False if it is still busy after [s].

        With ``finish`` it ends after what is pending.
        """
        with self._wake:
            self._stopping = True
            if not self.finish:
                self._pending.clear()
            self._wake.notify()
        self._thread.join(timeout)
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the thread still runs."""
        return self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._wake:
                while not self._pending and not self._stopping:
                    self._wake.wait()
                if not self._pending:  # let go of what they hold, such as a buffer of images
                    self._work = lambda item: None
                    self._on_error = lambda error: None
                    return
                # Slots take turns: the one served goes to the end of the line.
                slot = next(iter(self._pending))
                pending = self._pending.pop(slot)
                item = pending.popleft()
                if pending:
                    self._pending[slot] = pending
            try:
                self._work(item)
            except Exception as error:
                self._on_error(error)
