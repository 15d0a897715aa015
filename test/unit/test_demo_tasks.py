# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm up demo --task`: what belongs to a simulated task is found by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from lewm_ros.bringup.groups import Bringup
from lewm_ros.errors import ConfigError

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_of_a_task_has_its_bundle_and_simulator():
    """The demo of a task has its bundle; only the simulator and the trial get the task."""
    demo = Bringup.of('demo', task='push')
    assert Path(demo.parameters['bundle']) == ROOT / 'models/push'
    assert demo.params_file == ROOT / 'config/presets/live.yaml'
    assert [str(o) for o in demo.own] == ['sim_node.task:=push', 'trial_node.task:=push']
    told = [n for n, words in demo.commands('lewm', 'info').items() if f'{n}.task:=push' in words]
    assert told == ['sim_node', 'trial_node']
    assert Path(Bringup.of('demo').parameters['bundle']) == ROOT / 'models/reacher'
    assert Bringup.of('demo', 'push', params_file='cold', task='push').params_file.stem == 'cold'


def test_a_task_and_a_bundle_that_do_not_go_together(tiny_bundle):
    """A task is rejected by name if the bundle is of another robot, or nothing is simulated."""
    with pytest.raises(ConfigError, match='push task has actions x, y, .* shoulder, elbow'):
        Bringup.of('demo', str(tiny_bundle.path), task='push')
    with pytest.raises(ConfigError, match='reacher task has actions shoulder, elbow, .* x, y'):
        Bringup.of('demo', 'push')
    with pytest.raises(ConfigError, match="task: only the demo has one, 'plan' is"):
        Bringup.of('plan', task='push')
