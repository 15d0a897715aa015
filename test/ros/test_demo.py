# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The main use case, shortened: the shipped bundle drives the simulated arm in real time."""

from __future__ import annotations

import json

from harness import Bench
from PIL import Image as PILImage


def test_the_demo_reaches_goals_and_sees_teleports(bench: Bench, tmp_path):
    """Three goals, one random goal and two teleports; complete report, commands on time."""
    options = {
        'goals': 3,
        'random_goals': 1,
        'teleports': 2,
        'goal_seconds': 4.0,
        'out': tmp_path / 'demo',
    }
    arguments = [a for k, v in options.items() for a in ('-p', f'trial_node.{k}:={v}')]
    with bench.lewm('up', 'demo', *arguments) as demo:
        assert demo.wait(90.0) == 0, demo.output
    summary = json.loads((tmp_path / 'demo' / 'summary.json').read_text())
    assert (summary['episodes'], summary['random_episodes'], summary['teleports']) == (3, 1, 2)
    assert summary['successes'] >= 2
    assert summary['teleport_events'] >= 1
    assert summary['ticks'] > 200 and summary['ticks_on_time'] > 0.9
    assert 0 < summary['plan_ms_p50'] < summary['plan_age_ms_p95']
    with PILImage.open(tmp_path / 'demo' / 'film.gif') as film:
        assert film.n_frames > 40
    assert 'goals reached' in demo.output and 'Traceback' not in demo.output
