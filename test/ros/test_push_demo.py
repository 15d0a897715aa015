# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The demo of another task, shortened: the shipped bundle pushes a puck in real time."""

from __future__ import annotations

import json

from harness import Bench


def test_the_push_demo_brings_the_puck_to_its_places(bench: Bench, tmp_path):
    """`--task push` selects the simulator, trial, bundle, preset and contract of that task."""
    options = {'goals': 3, 'random_goals': 0, 'teleports': 1, 'out': tmp_path / 'demo'}
    arguments = [a for k, v in options.items() for a in ('-p', f'trial_node.{k}:={v}')]
    with bench.lewm('up', 'demo', '--task', 'push', *arguments) as demo:
        assert demo.wait(90.0) == 0, demo.output
    summary = json.loads((tmp_path / 'demo' / 'summary.json').read_text())
    assert (summary['task'], summary['unit']) == ('push', 'm')
    assert (summary['episodes'], summary['random_episodes'], summary['teleports']) == (3, 0, 1)
    assert summary['successes'] >= 2
    assert summary['surprise_after_teleport_median'] > summary['surprise_before_teleport_median']
    assert 'Traceback' not in demo.output
