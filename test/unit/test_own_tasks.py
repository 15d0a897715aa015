# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Mistakes in a task of one's own are named, and leave no camera open."""

from __future__ import annotations

from pathlib import Path
from runpy import run_path

import numpy as np
import pytest

from lewm_ros.errors import ConfigError
from lewm_ros.sim import Reacher, find_task, make_task

WORLD = """<mujoco><worldbody><camera name="top"/><body>
    <joint name="shoulder" type="hinge"/><geom name="upper" size="1"/>
    <body><joint name="elbow" type="%s"/><geom name="fore" size="1"/></body>
</body></worldbody></mujoco>"""


class Wrong(Reacher):
    """A task whose world is to be wrong."""

    name, painted, mjcf = 'wrong', ('upper',), WORLD % 'hinge'


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'mjcf': '<mujoco><worldbody></mujoco>'}, 'task wrong: its world cannot be read: XML'),
        ({'mjcf': ''}, 'task wrong: its world cannot be read: .*wrong.xml'),
        ({'camera': 'side'}, "task wrong, its world: .*'side'"),
        ({'painted': ('upper', 'nothing')}, "task wrong, its world: .*'nothing'"),
        ({'joints': ('shoulder', 'wrist')}, "task wrong, its world: .*'wrist'"),
        ({'joints': ('shoulder',)}, 'has 2 positions and 2 velocities: expected 1 of each'),
        ({'mjcf': WORLD % 'ball'}, 'has 5 positions and 4 velocities: expected 2 of each'),
    ],
)
def test_what_is_wrong_in_a_world_is_named(change: dict[str, object], says: str) -> None:
    """What is wrong is named; the next task opens its camera."""
    kind = type('Changed', (Wrong,), change)
    with pytest.raises(ConfigError, match=says):
        kind()
    task = Wrong()
    assert task.render().shape == (64, 64, 3)
    task.close()


def test_a_task_without_all_methods_is_refused() -> None:
    """The missing methods are named, and a module is needed."""
    with pytest.raises(ConfigError, match='MujocoTask lacks the methods _push, _teleport, goal_ne'):
        find_task('lewm_ros.sim:MujocoTask')
    with pytest.raises(ConfigError, match="task ':Task' names no module"):
        make_task(':Task')


def test_goals_of_the_example_are_not_reached_yet() -> None:
    """Goals lie in the plane, not yet reached and not too far, also where any are asked for."""
    plotter = run_path(str(Path(__file__).parents[2] / 'examples/write_task.py'))['Plotter']
    rng = np.random.default_rng(0)
    for far, most in ((None, 0.2), (0.1, 0.1), (np.inf, 1.0)):
        pose = np.array([0.3, -0.3])
        goals = np.array([plotter.goal_near(pose, rng, far) for _ in range(200)])
        ways = np.linalg.norm(goals - pose, axis=1)
        assert plotter.tolerance < ways.min() and ways.max() <= most
        assert np.abs(goals).max() <= 0.35 and len(np.unique(goals)) > 300
