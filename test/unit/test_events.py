# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Events from a stream of scores."""

from __future__ import annotations

import pytest

from lewm_ros.errors import CalibrationError
from lewm_ros.surprise.events import Event, EventDetector
from lewm_ros.time import NS_PER_S

STEP = NS_PER_S // 10  # between two scores


def feed(detector: EventDetector, scores: list[float], start: int = NS_PER_S) -> list[Event]:
    """Feed scores at 10 Hz from ``start`` [ns]; return all edges."""
    edges = []
    for index, score in enumerate(scores):
        edges += detector.update(start + index * STEP, score)
    return edges


def test_one_event_from_start_to_end() -> None:
    """An event starts above the threshold, records its peak, and ends where scores became low."""
    detector = EventDetector('surprise', 10.0, release=0.5, hold=0.3, alpha=0.05)
    started, ended = feed(detector, [1, 11, 30, 20, 4, 4, 4, 4, 1])
    at = [NS_PER_S + i * STEP for i in range(9)]
    assert started == Event(1, 'surprise', at[1], at[1], 11.0, 10.0, 0.05)
    assert ended == Event(1, 'surprise', at[1], at[2], 30.0, 10.0, 0.05, end=at[4])
    assert detector.event is None


def test_the_threshold_itself_is_nominal() -> None:
    """A score equal to the threshold is nominal."""
    assert feed(EventDetector('surprise', 10.0), [10.0] * 5) == []


def test_scores_between_release_and_threshold_keep_an_event() -> None:
    """Scores that flicker around the threshold are one event."""
    detector = EventDetector('surprise', 10.0, release=0.5, hold=0.2)
    assert len(feed(detector, [11, 6, 6, 6, 6, 6, 11, 6, 11])) == 1
    assert detector.event is not None


def test_low_scores_must_last() -> None:
    """A dip shorter than ``hold`` does not end an event; the next dip counts from zero."""
    detector = EventDetector('surprise', 10.0, release=0.5, hold=0.3)
    edges = feed(detector, [11, 1, 1, 6, 1, 1, 1, 1])
    assert [e.end for e in edges] == [None, NS_PER_S + 4 * STEP]


def test_events_are_numbered() -> None:
    """Two anomalies are two events, with ids in order."""
    detector = EventDetector('surprise', 10.0, hold=0.1)
    edges = feed(detector, [11, 1, 1, 1, 12, 1, 1])
    assert [(e.id, e.end is None) for e in edges] == [
        (1, True), (1, False), (2, True), (2, False),
    ]  # fmt: skip
    assert detector.count == 2


def test_no_hold_ends_at_the_first_low_score() -> None:
    """With a hold of zero, an event ends at the first low score."""
    edges = feed(EventDetector('surprise', 10.0, hold=0.0), [11, 1])
    assert edges[1].end == NS_PER_S + STEP


def test_a_pause_of_the_camera_ends_nothing_by_itself() -> None:
    """A camera pause alone does not end an event: ``hold`` counts from the first low score."""
    detector = EventDetector('surprise', 10.0, hold=0.3)
    detector.update(NS_PER_S, 11.0)
    assert detector.update(9 * NS_PER_S, 1.0) == []
    (ended,) = detector.update(10 * NS_PER_S, 1.0)
    assert ended.end == 9 * NS_PER_S


def test_a_score_that_is_no_number_is_an_anomaly() -> None:
    """A NaN score starts an event, and a NaN during an event does not count as low."""
    detector = EventDetector('surprise', 10.0, hold=0.0)
    (started,) = detector.update(NS_PER_S, float('nan'))
    assert started.peak_score == float('inf')
    assert detector.update(2 * NS_PER_S, float('nan')) == []
    assert detector.event is not None


def test_reset_ends_a_lasting_event_once() -> None:
    """A reset ends an open event once, at the last stamp seen; ids continue."""
    detector = EventDetector('surprise', 10.0)
    feed(detector, [11, 12])
    (ended,) = detector.reset()
    assert ended.end == NS_PER_S + STEP
    assert detector.reset() == []
    (started,) = detector.update(0, 11.0)
    assert started.id == 2


def test_a_clock_that_jumps_back_does_not_deafen() -> None:
    """After a backward clock jump, the old event ends at its last stamp and a new one can start."""
    detector = EventDetector('surprise', 10.0)
    detector.update(9 * NS_PER_S, 11.0)
    ended, started = detector.update(NS_PER_S, 12.0)
    assert (ended.id, ended.end) == (1, 9 * NS_PER_S)
    assert (started.id, started.start, started.end) == (2, NS_PER_S, None)


@pytest.mark.parametrize(
    ('threshold', 'release', 'hold', 'word'),
    [
        (0.0, 0.5, 0.5, 'threshold'),
        (float('nan'), 0.5, 0.5, 'threshold'),
        (float('inf'), 0.5, 0.5, 'threshold'),
        (1.0, 0.0, 0.5, 'release'),
        (1.0, 1.1, 0.5, 'release'),
        (1.0, 0.5, -0.1, 'hold'),
        (1.0, 0.5, float('nan'), 'hold'),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    threshold: float, release: float, hold: float, word: str
) -> None:
    """An invalid setting is rejected by name."""
    with pytest.raises(CalibrationError, match=f'{word} is'):
        EventDetector('surprise', threshold, release, hold)


def test_other_settings_hold_for_an_event_that_lasts() -> None:
    """New settings apply to an open event, which continues and ends by the new values."""
    detector = EventDetector('surprise', 10.0, release=0.5, hold=60.0, alpha=0.05)
    feed(detector, [1, 20, 6, 6, 6])
    detector.adopt(EventDetector('surprise', 40.0, release=0.25, hold=0.2, alpha=0.01))
    assert feed(detector, [11] * 5, 2 * NS_PER_S) == []
    (ended,) = feed(detector, [9] * 4, 3 * NS_PER_S)
    assert (ended.id, ended.start, ended.end) == (1, NS_PER_S + STEP, 3 * NS_PER_S)
    (other,) = feed(detector, [30, 41], 4 * NS_PER_S)
    assert (other.id, other.threshold, other.alpha) == (2, 40.0, 0.01)
