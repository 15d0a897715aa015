# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The report of a trial, and the intervals in it."""

from __future__ import annotations

import json
from math import nan

import numpy as np
from PIL import Image
import pytest

from lewm_ros.errors import ConfigError
from lewm_ros.evaluation.intervals import wilson
from lewm_ros.evaluation.report import (
    GoalResult,
    Teleport,
    TrialRecord,
    describe,
    prepare_report,
    write_report,
)
from lewm_ros.time import NS_PER_S


@pytest.mark.parametrize(
    ('successes', 'trials', 'low', 'high'),
    [(19, 20, 0.764, 0.991), (0, 20, 0.0, 0.161), (20, 20, 0.839, 1.0), (0, 0, 0.0, 1.0)],
)
def test_wilson_intervals_are_the_textbook_ones(successes, trials, low, high):
    """The values match the closed formula, also at 0 and 100 %."""
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-3)


def record() -> TrialRecord:
    """Return a trial of two goals, one random goal and two teleports."""
    image = np.zeros((8, 8, 3), dtype=np.uint8)
    return TrialRecord(
        task='push',
        unit='m',
        goals=[
            GoalResult(True, 1.5, True, [0.02, 0.01]),
            GoalResult(False, None, False, [0.1, 0.4]),
        ],
        random_goals=[GoalResult(False, None, False, [2.0, 0.0])],
        teleports=[Teleport(0.05, 1.0, 90.0, 80.0), Teleport(0.08, 1.2, 3.0, None)],
        surprise=[(0.0, 1.0), (0.1, 2.0)],
        plans=[(0.1 * i, float(i)) for i in range(101)],
        plan_figures={'plan_ms_p50': 60.0, 'plan_ms_p95': 80.0},
        threshold=5.0,
        ticks=200,
        ticks_on_time=199,
        late_plans=1,
        nominal_seconds=120.04,
        nominal_events=1,
        goal_image=image + 200,
        film=[(NS_PER_S, image, 1.2), (NS_PER_S + NS_PER_S // 10, image + 100, nan)],
    )


def test_the_summary_counts_what_was_measured(tmp_path):
    """Every metric follows its definition; summary.json holds the same values."""
    summary = write_report(tmp_path / 'out', record())
    assert json.loads((tmp_path / 'out' / 'summary.json').read_text()) == json.loads(
        json.dumps(summary)
    )
    assert (summary['episodes'], summary['successes'], summary['within_at_end']) == (2, 1, 1)
    assert (summary['random_episodes'], summary['random_successes']) == (1, 0)
    assert summary['final_error_median'] == pytest.approx(0.21)
    assert summary['final_errors'] == [[0.02, 0.01], [0.1, 0.4]]
    assert summary['ticks_on_time'] == pytest.approx(0.995)
    assert summary['plan_age_ms_p95'] == pytest.approx(95.0)
    assert (summary['teleports'], summary['teleport_events']) == (2, 1)
    assert summary['teleport_delay_ms_median'] == 80.0
    assert (summary['nominal_seconds'], summary['nominal_events']) == (120.0, 1)
    said = describe(summary)
    assert 'goals reached     1/2' in said[0]
    assert said[1] == 'final error       median 0.210 m'


def test_images_and_film_are_there(tmp_path):
    """The film shows camera and goal side by side at the camera's rate; the figure is an image."""
    write_report(tmp_path, record())
    with Image.open(tmp_path / 'film.gif') as film:
        assert film.n_frames == 2 and film.size == (64, 32)
        assert film.info['duration'] == 100  # as between the camera's stamps
        first = np.asarray(film.convert('L')).copy()
        film.seek(1)
        second = np.asarray(film.convert('L'))
    assert first[:, :32].std() > 20  # the time to the goal is written on it
    assert second[:, :32].std() == 0  # but not while it is unknown
    with Image.open(tmp_path / 'summary.png') as figure:
        assert min(figure.size) > 500
        assert np.asarray(figure.convert('L')).std() > 5


def test_an_empty_trial_has_no_figures_instead_of_wrong_ones(tmp_path):
    """A metric that was not measured is None, not zero."""
    record = TrialRecord('push', 'm')
    record.plan_figures = {'plan_ms_p50': np.nan, 'plan_ms_p95': np.nan}  # as a node without plans
    summary = write_report(tmp_path, record)
    assert summary['plan_ms_p50'] is None and summary['plan_ms_p95'] is None
    assert summary['final_error_median'] is None and summary['ticks_on_time'] is None
    assert 'not measured' in (text := '\n'.join(describe(summary)))
    assert 'not measured ms' not in text and 'not measured rad' not in text
    assert not (tmp_path / 'film.gif').exists()


def test_a_report_that_cannot_be_written_is_refused_before_the_trial(tmp_path):
    """prepare_report() fails before the trial, not after its six minutes."""
    (tmp_path / 'file').write_text('')
    with pytest.raises(ConfigError, match='file/demo'):
        prepare_report(tmp_path / 'file' / 'demo')
