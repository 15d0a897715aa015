# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Node diagnostics: conditions, rates, clocks and memory."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

from harness import ROOT
import numpy as np
import pytest
import rclpy.logging

from lewm_ros.nodes.diagnostics import ERROR, WARN, Conditions
from lewm_ros.nodes.figures import Rate, StampRate
from lewm_ros.nodes.frame_stamps import FrameStamps, StampClock
from lewm_ros.time import NS_PER_S


def test_warnings_and_errors_can_take_turns():
    """Warnings and errors can be logged in turn.

    rclpy rejects a second severity from the same line of code. After a warning, that exception once
    escaped the exception handler: a latent of another model ended a process with all its nodes.
    """
    conditions = Conditions(SimpleNamespace(get_logger=lambda: rclpy.logging.get_logger('test')))
    conditions.set('a gap', 'a gap of 2 s', WARN)
    conditions.set('the disk', 'the disk is full', ERROR)
    conditions.set('another gap', 'a gap of 3 s', WARN)
    assert conditions.level == ERROR[0]
    assert conditions.text == 'the disk is full; a gap of 2 s; a gap of 3 s'
    conditions.clear('the disk')
    assert conditions.level == WARN[0]


def test_a_condition_can_be_forgotten_without_a_word():
    """A condition can be cleared alone, even if unknown; the others stay."""
    conditions = Conditions(SimpleNamespace(get_logger=lambda: rclpy.logging.get_logger('test')))
    conditions.set('a gap', 'a gap of 2 s')
    conditions.set('the disk', 'the disk is slow')
    conditions.clear('a gap')
    conditions.clear('unknown')
    assert conditions.text == 'the disk is slow'
    conditions.clear()
    assert conditions.text == 'ok'


def test_no_input_makes_more_than_one_line_a_second(monkeypatch):
    """An input logs at most one line a second: a flickering condition counts as lasting.

    Alternating good and bad messages once logged 154 lines a second.
    """
    clock, lines = SimpleNamespace(now=100.0), []
    monkeypatch.setattr('time.monotonic', lambda: clock.now)
    log = {kind: lambda text: lines.append((clock.now, text)) for kind in ('warning', 'info')}
    conditions = Conditions(SimpleNamespace(get_logger=lambda: SimpleNamespace(**log)))

    def live(bad: float, good: float, seconds: float) -> list[str]:
        """Report at 100 Hz, bad and good in turn; return what was logged."""
        lines.clear()
        for step in range(round(100 * seconds)):
            wrong = step / 100 % (bad + good) < bad
            conditions.set('message', 'no position[1]' if wrong else None)
            clock.now += 0.01
            conditions.settle()
        gaps = np.diff([when for when, _ in lines])
        assert (gaps > 0.99).all()
        return [text for _, text in lines]

    assert live(0.01, 0.01, 10.0) == ['no position[1]']
    assert conditions.text == 'no position[1]'
    assert live(0.0, 1.0, 2.0) == ['cleared: no position[1]']
    assert conditions.text == 'ok'
    # A condition that returns at once is on /diagnostics at once, in the log a second later.
    assert len(live(1.3, 1.05, 20.0)) <= 20
    live(0.0, 1.0, 3.0)
    assert live(0.5, 5.0, 5.5) == ['no position[1]', 'cleared: no position[1]']


def test_a_rate_counts_the_last_seconds_of_the_steady_clock(monkeypatch):
    """A rate covers recent seconds: a short past does not lower it, and after a stop it is 0."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr('time.monotonic', lambda: clock.now)
    rate = Rate()
    assert rate.hz == 0.0
    for _ in range(20):  # 10 Hz for 2 s
        clock.now += 0.1
        rate.add()
    assert rate.hz == pytest.approx(10.0)
    for _ in range(200):  # 20 Hz for 10 s
        clock.now += 0.05
        rate.add()
    assert rate.hz == pytest.approx(20.0, rel=0.02)
    clock.now += 2.5
    assert rate.hz == pytest.approx(10.0, rel=0.02)
    for _ in range(6000):  # the highest rate that a contract allows
        clock.now += 0.001
        rate.add()
    assert rate.hz == pytest.approx(1000.0, rel=0.02)
    clock.now += 2.5
    clock.now += 2.6
    assert rate.hz == 0.0


def rate_of(*stamps: np.ndarray) -> float:
    """Return the rate after the stamps [s] of all arrays in turn."""
    rate = StampRate(window=5.0)
    for stamp in np.concatenate(stamps):
        rate.add(round(stamp * NS_PER_S))
    return rate.hz


def test_a_rate_of_stamps_is_that_of_the_camera_and_not_of_the_way():
    """Jitter, reordering and duplicates do not change a stamp rate; lost frames do."""
    rng, times = np.random.default_rng(0), np.arange(0, 12, 1 / 30)
    assert rate_of(times) == pytest.approx(30.0)
    assert rate_of(times + rng.uniform(-0.012, 0.012, len(times))) == pytest.approx(30.0, rel=0.01)
    overtaken = np.argsort(times + 0.05 * (np.arange(len(times)) % 5 == 0))
    assert rate_of(np.repeat(times[overtaken], 2)) == pytest.approx(30.0, rel=0.01)
    assert rate_of(times[rng.random(len(times)) > 0.1]) == pytest.approx(27.0, rel=0.05)
    assert rate_of(times[(times < 9) | (times > 10)]) == pytest.approx(24.0, rel=0.02)
    # Earlier frames of a slower camera do not count once they are 5 s old.
    assert rate_of(np.arange(-20, 0, 0.1), times) == pytest.approx(30.0, rel=0.01)


def test_a_rate_of_stamps_is_not_known_before_they_fill_the_window():
    """A stamp rate is NaN until stamps fill the window, after a pause or jump, or if all equal."""
    times = np.arange(0, 12, 0.1)
    assert np.isnan(rate_of(times[:50]))
    assert rate_of(times[:52]) == pytest.approx(10.0)
    for jump in (3.0, -3600.0, 3600.0):
        assert np.isnan(rate_of(times, times[-1] + jump + times[:50]))
        assert rate_of(times, times[-1] + jump + times[:52]) == pytest.approx(10.0)
    assert np.isnan(rate_of(np.zeros(1000)))
    assert np.isnan(rate_of(times[:0] + 1, 1e-9 * np.arange(10_000)))


def test_frames_of_another_clock_are_named_as_long_as_they_come():
    """Frames of another clock are reported while they arrive; one frame on time clears it.

    A check without a new frame changes nothing.
    """
    stamps, second = FrameStamps(0.05), NS_PER_S

    def said(*offsets: float) -> str | None:
        for offset in offsets:
            stamps.add(100 * second + round(offset * second), 100 * second)
        return stamps.other_clock('/cam')

    assert said() is None
    assert said(-0.4, -0.6, 0.2) is None
    text = said(-3.0, -3.2)
    assert text is not None
    assert text.startswith("frames on /cam are stamped 3.00 s behind this node's clock: synchron")
    assert 'camera.stamp: log' in text
    assert said() == text
    assert said(-3.0, -0.1) is None
    assert '0.60 s ahead of' in str(said(0.6))
    assert 'clock (simulated time, or time since boot?): synchronise' in str(said(-1e9))
    stamps.clear()
    assert said() is None


def test_commands_may_be_stamped_up_to_their_delay_ahead():
    """A command is stamped when it takes effect: only what is beyond that counts as offset."""
    clock, second = StampClock('commands', 'action', ahead=0.8), NS_PER_S

    def said(offset: float) -> str | None:
        clock.add(100 * second + round(offset * second), 100 * second)
        return clock.differs('/cmd')

    for offset in (-0.4, 0.0, 0.8, 1.2):
        assert said(offset) is None
    assert str(said(3.8)).startswith("commands on /cmd are stamped 3.00 s ahead of this node's")
    assert 'set action.stamp: log in the contract' in str(said(-0.6))


HOLD = """
from mmap import mmap
from lewm_ros.nodes.figures import resident_mb
before = resident_mb()
with mmap(-1, 100_000_000) as held:  # pages of its own: malloc would take free ones first
    held.write(bytes(100_000_000))
    print(resident_mb() - before)
"""


def test_resident_memory_follows_what_is_held():
    """Resident memory follows an allocation, in MB of 10^6 bytes.

    It runs in its own process: in one with large arrays the kernel may complete huge pages.
    """
    done = subprocess.run([sys.executable, '-c', HOLD], capture_output=True, check=True, cwd=ROOT)
    assert float(done.stdout) == pytest.approx(100, abs=3)
