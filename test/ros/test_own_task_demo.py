# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A Gymnasium environment, and a user-defined task, as the robot of the demo."""

from __future__ import annotations

from dataclasses import replace
import json

from harness import ROOT, Bench
import pytest

from lewm_ros.bundle import FILES, Bundle, write_bundle
from lewm_ros.sim import find_task

POINT = 'gym:point_env:lewm/Point-v0'


@pytest.mark.parametrize(
    ('task', 'folders', 'unit'),
    [
        (POINT, ['test/unit'], 'of state'),
        ('own_task:Servos', ['test/ros', 'benchmarks'], 'm'),
    ],
)
def test_the_demo_drives_it(
    bench: Bench, tiny_bundle: Bundle, tmp_path, monkeypatch, task: str, folders: list, unit: str
):
    """The trial runs goals, random goals and a teleport on the task; the model is untrained.

    The servos are sent nothing before the first goal, so that there is no surprise score.
    """
    pytest.importorskip('gymnasium')
    for folder in folders:
        monkeypatch.syspath_prepend(ROOT / folder)
        monkeypatch.setenv('PYTHONPATH', str(ROOT / folder), prepend=':')
    manifest = replace(tiny_bundle.manifest, contract=find_task(task).robot())
    files = {name: tiny_bundle.path / name for name in FILES}
    bundle = write_bundle(tmp_path / 'bundle', manifest, files)
    counts = {'goals': 2, 'random_goals': 1, 'teleports': 1, 'goal_seconds': 2.0}
    options = counts | {'out': tmp_path / 'demo'}
    arguments = [a for k, v in options.items() for a in ('-p', f'trial_node.{k}:={v}')]
    given = ('--task', task, '--bundle', str(bundle.path), *arguments)
    with bench.lewm('up', 'demo', *given) as demo:
        assert demo.wait(60.0) == 0, demo.output
    summary = json.loads((tmp_path / 'demo' / 'summary.json').read_text())
    assert (summary['task'], summary['unit']) == (find_task(task).name, unit)
    assert (summary['episodes'], summary['random_episodes'], summary['teleports']) == (2, 1, 1)
    assert summary['ticks'] > 60 and 'Traceback' not in demo.output
