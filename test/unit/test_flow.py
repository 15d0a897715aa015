# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the recorder detects on a topic: gaps and missing messages."""

from __future__ import annotations

import pytest

from lewm_ros.bags.flow import Flow
from lewm_ros.time import NS_PER_S

START = 1_700_000_000 * NS_PER_S
FRAME = NS_PER_S // 30


def test_stamps_that_stand_still_are_survived():
    """Stamps that never change, as from a faulty driver, count as neither gaps nor losses."""
    flow = Flow(gap=0.5)
    assert [flow.arrived(START) for _ in range(20)] == [0.0] * 20
    assert (flow.messages, flow.missing) == (20, 0)


def test_gaps_and_missing_frames_are_counted_by_stamps():
    """By their stamps, a pause above the limit is a gap, and a lost frame is only missing."""
    flow = Flow(gap=0.5)
    for index in range(20):
        assert flow.arrived(START + index * FRAME) == 0.0
    assert flow.period == pytest.approx(1 / 30)
    flow.arrived(START + 20 * FRAME + FRAME * 2 // 3)  # only late
    flow.arrived(START + 21 * FRAME)
    assert flow.missing == 0
    assert flow.arrived(START + 23 * FRAME) == 0.0  # one frame is missing
    flow.arrived(START + 24 * FRAME)
    assert flow.missing == 1
    assert flow.arrived(START + 54 * FRAME) == pytest.approx(1.0)
    flow.arrived(START + 55 * FRAME)
    assert (flow.messages, flow.missing, flow.gaps) == (26, 30, 1)
    assert flow.longest == pytest.approx(1.0)
    assert flow.arrived(START) == 0.0  # a simulation restarted
    assert flow.gaps == 1


def test_without_stamps_nothing_is_called_missing():
    """Without stamps no message counts as missing, but a long silence is a gap."""
    flow = Flow(gap=0.5, stamped=False)
    for burst in range(20):
        for index in range(5):
            flow.arrived(START + burst * NS_PER_S + index)
    assert (flow.missing, flow.gaps) == (0, 19)


def test_a_topic_without_a_rate_has_no_gaps():
    """An irregular topic, such as the episode number, has no gaps."""
    flow = Flow(gap=0.5, regular=False)
    assert [flow.arrived(START + i * 60 * NS_PER_S) for i in range(9)] == [0.0] * 9
    assert (flow.messages, flow.missing, flow.gaps) == (9, 0, 0)
