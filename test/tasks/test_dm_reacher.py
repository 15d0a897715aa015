# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The arm of dm_control as a task; `make test-tasks` installs it."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path

import numpy as np
import pytest

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.cli import main
from lewm_ros.sim import MujocoTask, find_task, make_task
from lewm_ros.sim.rendering import load_mujoco

load_mujoco()  # chooses how dm_control renders, too
suite = pytest.importorskip('dm_control.suite')


@pytest.fixture
def task() -> Iterator[MujocoTask]:
    """Return the task at 64 px."""
    made = make_task('dm_reacher', 64, 0)
    assert isinstance(made, MujocoTask)
    yield made
    made.close()


def test_it_moves_as_in_dm_control(task: MujocoTask) -> None:
    """The same commands give the same states; a step is a control step of dm_control."""
    theirs = suite.load('reacher', 'hard', task_kwargs={'random': 0})
    theirs.reset()
    assert theirs.control_timestep() == task.timestep == find_task('dm_reacher').robot().period
    task.set_state(theirs.physics.get_state())
    rng = np.random.default_rng(0)
    for command in np.repeat(rng.uniform(-1, 1, (20, 2)), 5, axis=0):
        theirs.step(command)
        task.step(command)
        np.testing.assert_allclose(task.state(), theirs.physics.get_state(), atol=1e-9)
    assert np.abs(task.state()[2:]).max() > 1


def test_only_the_arm_is_seen(task: MujocoTask) -> None:
    """The target is not: images of one pose are equal, those of two poses differ by the arm."""
    image = task.render()
    assert image.shape == (64, 64, 3)
    assert np.abs(image[0].astype(int) - image[-1]).max() < 20  # walls all around
    goal = task.sample_goal(np.inf)
    shown = task.set_goal(goal)
    assert 20 < (shown != image).any(axis=-1).sum() < 400
    task.set_state(np.concatenate([goal, np.zeros(2)]))
    assert task.reached()
    np.testing.assert_array_equal(task.render(), shown)
    task.set_state(np.concatenate([goal + np.array([0, 0.06]), np.zeros(2)]))
    assert not task.reached()


def test_its_recordings_are_read(tmp_path: Path) -> None:
    """Recordings at 50 Hz are read with their states."""
    arguments = ['--episodes', '2', '--seconds', '2', '--camera-rate', '50']
    assert main(['collect', 'dm_reacher', '--out', str(tmp_path / 'bag'), *arguments]) == 0
    for episode in read_episodes([tmp_path / 'bag'], find_task('dm_reacher').robot(), 64):
        assert len(episode.stamps) == 100 and episode.states is not None
        assert np.ptp(episode.states[:, :2], axis=0).max() > 0.5


def test_frames_are_whole_steps_apart_by_default(tmp_path: Path) -> None:
    """The default is three steps of 20 ms: 20 Hz would not be a whole number of steps."""
    arguments = ['--episodes', '1', '--seconds', '3']
    assert main(['collect', 'dm_reacher', '--out', str(tmp_path / 'bag'), *arguments]) == 0
    (episode,) = read_episodes([tmp_path / 'bag'], find_task('dm_reacher').robot(), 64)
    assert set(np.diff(episode.stamps).tolist()) == {60_000_000}


def test_the_bundle_reaches_goals(capsys: pytest.CaptureFixture[str]) -> None:
    """Within 0.05 rad of both joints, after 3 s at most; random commands do not."""
    assert main(['evaluate', 'dm_reacher', '--goals', '6', '--seconds', '3', '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['planner']['successes'] >= 5 and found['random']['successes'] <= 2
