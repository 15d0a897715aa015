# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The worker thread behind the callbacks."""

from __future__ import annotations

import threading
import time

import pytest

from lewm_ros.nodes.figures import Reasons
from lewm_ros.nodes.worker import Worker


class Gate:
    """A worker whose items wait until they are released, and are recorded when done."""

    def __init__(self, capacity: int = 1, finish: bool = False) -> None:
        self.done: list = []
        self.errors: list[Exception] = []
        self._begun = threading.Semaphore(0)
        self._open = threading.Semaphore(0)
        self.worker: Worker = Worker('test', self._work, self.errors.append, capacity, finish)

    def _work(self, item) -> None:
        self._begun.release()
        self._open.acquire()
        if item == 'bad':
            raise ValueError(item)
        self.done.append(item)

    def begun(self) -> None:
        """Wait until a piece of work has begun."""
        assert self._begun.acquire(timeout=20.0)

    def let(self, count: int) -> None:
        """Let pieces of work through and wait for them."""
        wanted = len(self.done) + len(self.errors) + count
        for _ in range(count):
            self._open.release()
        end = time.monotonic() + 20.0
        while len(self.done) + len(self.errors) < wanted:
            assert time.monotonic() < end
            time.sleep(0.001)

    def close(self) -> None:
        """End the worker."""
        for _ in range(100):
            self._open.release()
        assert self.worker.stop()


@pytest.fixture
def gate(request):
    """Return a gate whose worker has begun on item 0."""
    made = Gate(getattr(request, 'param', 1))
    made.worker.request(0)
    made.begun()
    yield made
    made.close()


def test_while_busy_only_the_newest_request_waits(gate):
    """Replaced requests are counted as skipped."""
    for item in (1, 2, 3):
        gate.worker.request(item)
    gate.let(2)
    assert gate.done == [0, 3]
    assert gate.worker.skipped == 2


@pytest.mark.parametrize('gate', [3], indirect=True)
def test_a_queue_keeps_the_order_and_drops_the_oldest(gate):
    """Capacity 3: of four waiting requests the first is dropped."""
    for item in (1, 2, 3, 4):
        gate.worker.request(item)
    gate.let(4)
    assert gate.done == [0, 2, 3, 4]
    assert gate.worker.skipped == 1


def test_slots_do_not_push_each_other_out(gate):
    """A goal image waits in its own slot, however many frames come."""
    gate.worker.request('goal', 'goal')
    for item in (1, 2, 3):
        gate.worker.request(item, 'frame')
    gate.let(3)
    assert sorted(map(str, gate.done)) == ['0', '3', 'goal']


def test_an_exception_is_reported_and_the_thread_goes_on(gate):
    """One bad request does not end the work."""
    gate.worker.request('bad', 'a')
    gate.worker.request(2, 'b')
    gate.let(3)
    assert gate.done == [0, 2]
    assert [str(e) for e in gate.errors] == ['bad']


def test_stopping_drops_what_waits_and_says_if_it_is_busy():
    """A busy worker makes stop() return False after the timeout."""
    gate = Gate()
    gate.worker.request(0)
    gate.begun()
    gate.worker.request(1)
    assert gate.worker.stop(timeout=0.05) is False
    gate.let(1)
    assert gate.worker.stop(timeout=5.0) is True
    assert gate.done == [0]


def test_stopping_may_leave_what_waits_to_be_finished():
    """With `finish`, requests that wait are worked on after stop(), in order."""
    gate = Gate(3, finish=True)
    gate.worker.request(0)
    gate.begun()
    gate.worker.request(1)
    gate.worker.request(2)
    assert gate.worker.stop(timeout=0.0) is False
    gate.let(3)
    assert gate.worker.stop(timeout=5.0) is True
    assert gate.done == [0, 1, 2] and gate.worker.skipped == 0


def test_reasons_are_counted_and_bounded():
    """A reason that differs every time, such as one with a length, cannot grow a report forever."""
    reasons = Reasons()
    for index in range(100):
        reasons.add('always the same' if index % 2 else f'{index} bytes')
    figures = reasons.figures('bad')
    assert reasons.total == 100
    assert figures['bad: always the same'] == 50
    assert len(figures) <= Reasons.KEPT + 1 and figures['bad: other'] == 31
