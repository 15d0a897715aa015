# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Detection metrics, on hand-written scores."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.evaluation.detection import (
    Trial,
    auroc,
    auroc_interval,
    detection_figures,
    monitor_figures,
)
from lewm_ros.evaluation.intervals import exceedance
from lewm_ros.surprise.calibration import conformal_threshold
from lewm_ros.surprise.events import EventDetector
from lewm_ros.time import NS_PER_S

PERIOD = NS_PER_S // 20


def trial(scores: list[float], shown: int = 20, began: int | None = None) -> Trial:
    """Return a trial at 20 Hz, threshold 10; the event is visible from frame ``shown`` on."""
    stamps = NS_PER_S + PERIOD * np.arange(len(scores))
    values = np.array(scores, dtype=float)
    detector = EventDetector('surprise', 10.0)
    edges = [e for s, v in zip(stamps.tolist(), scores) for e in detector.update(s, v)]
    events = {'surprise': list({edge.id: edge for edge in edges}.values())}
    first = shown if began is None else began
    return Trial(int(stamps[first]), int(stamps[shown]), stamps, values, events)


def quiet() -> list[float]:
    """Return the scores of 3 s in which nothing happens."""
    return [1.0] * 60


def loud(*frames: int) -> list[float]:
    """Return the same scores with 50 in some frames."""
    return [50.0 if frame in frames else 1.0 for frame in range(60)]


@pytest.mark.parametrize(
    ('high', 'low', 'expected'),
    [
        ([3, 4], [1, 2], 1.0),
        ([1, 2], [3, 4], 0.0),
        ([1, 3], [2, 4], 0.25),
        ([1, 1], [1, 1], 0.5),
        ([2, 2, 3], [1, 2], 5 / 6),  # 6 pairs: 4 wins and 2 ties
    ],
)
def test_auroc_counts_pairs_and_ties_half(high: list, low: list, expected: float) -> None:
    """AUROC counts correctly ordered pairs, and ties as one half."""
    assert auroc(np.array(high), np.array(low)) == pytest.approx(expected)


def test_the_interval_of_auroc_covers_the_truth() -> None:
    """The 95 % interval contains the true AUROC, Φ(1/√2) = 0.760, in about 95 of 100 cases."""
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        found = auroc_interval(rng.normal(1, 1, 40), rng.normal(0, 1, 40), seed)
        assert found is not None
        low, high = found
        covered += low < 0.7602 < high
    assert 0.90 <= covered / 200 <= 0.99


def test_trials_are_drawn_as_pairs() -> None:
    """The bootstrap resamples trials as pairs.

    Each event scores a little above its own normal trial. The AUROC of 3 such pairs is 6/9; a
    bootstrap that resampled the halves separately would reach 0.
    """
    low = np.array([1.0, 2.0, 3.0])
    interval = auroc_interval(low + 0.1, low, 0)
    assert interval is not None and interval[0] >= 0.5
    assert auroc_interval(low + 5, low, 0) is None


def test_shares_and_delays() -> None:
    """Of events detected at once, after three frames, too late and never, half are detected."""
    trials = [trial(loud(20)), trial(loud(23)), trial(loud(41)), trial(quiet())]
    normal = [trial(quiet()) for _ in trials]
    found = detection_figures(trials, normal, 1.0, 0)
    assert (found['detected'], found['n']) == (0.5, 4)
    assert found['delay_frames_median'] == 1.5
    assert found['auroc'] == pytest.approx(0.75)  # the late and the quiet one are ties
    assert found['detected_low'] < 0.5 < found['detected_high']
    assert found['alarmed_before'] == 0


def test_an_alarm_that_was_on_before_is_counted_and_no_detection() -> None:
    """An alarm still on when the event begins is no detection; one that ended before is ignored."""
    on, over = trial(loud(17, 20)), trial(loud(2, 20))
    found = detection_figures([on, over], [trial(quiet())] * 2, 1.0, 0)
    assert found['alarmed_before'] == 1
    assert found['detected'] == 0.5


def test_nothing_detected_has_no_delay() -> None:
    """Without a detection the delay is None, because JSON has no NaN."""
    found = detection_figures([trial(quiet())], [trial(quiet())], 1.0, 0)
    assert found['detected'] == 0.0 and found['delay_frames_median'] is None
    assert found['auroc'] == 0.5


def test_a_score_that_is_no_number_is_an_alarm() -> None:
    """A NaN score is an alarm, as in the node."""
    assert trial([*quiet()[:25], float('nan'), *quiet()[26:]]).events['surprise']


def test_a_normal_trial_is_measured_at_the_times_of_its_event() -> None:
    """A normal trial is scored over the time of its event; high scores elsewhere do not count."""
    found = detection_figures([trial(loud(20))], [trial(loud(3, 50))], 1.0, 0)
    assert found['auroc'] == 1.0


def test_a_monitor_is_measured_from_the_first_frame_on() -> None:
    """A monitor's delay counts in seconds from the event's start, even if not visible yet."""
    late = trial(loud(20), shown=15, began=10)
    found = monitor_figures([late, trial(quiet())], 'surprise', 2.0)
    assert found['detected'] == 0.5
    assert found['delay_seconds_median'] == found['delay_seconds_max'] == pytest.approx(0.5)


def test_as_many_alarms_as_promised() -> None:
    """The chance of the alarms found is that of exchangeable windows, in one of twenty below 5%.

    Neither few alarms nor those of a threshold that came out low by chance are too many.
    """
    rng = np.random.default_rng(1)
    chances = []
    for _ in range(2000):
        scores = rng.random(126 + 360)
        threshold = conformal_threshold(scores[:126], 0.05)
        chances.append(exceedance(int((scores[126:] > threshold).sum()), 360, 0.05, 126))
    assert 0.03 < np.mean(np.array(chances) < 0.05) < 0.06
    assert exceedance(0, 360, 0.05, 126) == pytest.approx(1.0)
    assert exceedance(60, 360, 0.05, 126) < 0.005
    # One new window exceeds the highest of 19 with the chance 1 / 20, two with 2 / (20 · 21).
    assert exceedance(1, 1, 0.05, 19) == pytest.approx(1 / 20)
    assert exceedance(2, 2, 0.05, 19) == pytest.approx(2 / (20 * 21))
