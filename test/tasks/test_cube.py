# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""OGBench-Cube as a task; `make test-tasks` installs it."""

from __future__ import annotations

from collections.abc import Iterator
import json
from pathlib import Path

import numpy as np
import pytest

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.cli import main
from lewm_ros.robot.imaging import prepare
from lewm_ros.sim import Task, find_task, make_task
from lewm_ros.sim.cube_policy import CubePolicy
from lewm_ros.sim.rendering import load_mujoco

load_mujoco()  # chooses how it renders
pytest.importorskip('ogbench')
NAME = 'gym:ogbench:visual-cube-single-v0'


@pytest.fixture
def task() -> Iterator[Task]:
    """Return the task at 64 px."""
    made = make_task(NAME, 64, 0)
    yield made
    made.close()


def test_its_contract_is_of_relative_motions_at_20_hz() -> None:
    """Three for position, one for yaw, one for the gripper; 41 positions and velocities in all."""
    robot = find_task(NAME).robot()
    assert (robot.action.kind, robot.stop.mode, robot.period) == ('velocity', 'zero', 0.05)
    assert robot.action.bounds[1].tolist() == [1] * 5
    assert robot.state is not None and len(robot.state.fields) == 41


def test_a_state_is_all_there_is_to_it(task: Task) -> None:
    """From the same state, motion and image are the same, whatever happened before."""

    def go_on() -> np.ndarray:
        for _ in range(10):
            task.step(np.array([0.5, 0.3, -0.5, 1, 1]))
        return task.state()

    go_on()
    state, image = task.state(), task.render()
    first, moved = go_on(), task.render()
    assert (moved != image).any(axis=-1).sum() > 50
    task.set_state(state)
    np.testing.assert_array_equal(task.render(), image)
    np.testing.assert_array_equal(go_on(), first)


def test_its_data_carries_the_cube_and_a_goal_is_its_place(task: Task) -> None:
    """Within 150 steps the cube moves over 10 cm and is lifted; a goal counts within 4 cm."""
    policy = CubePolicy(task.robot(), np.random.default_rng(0), task)
    policy._blind, policy._std = False, 0.1
    task.set_goal(task.state())
    assert task.reached()
    away, heights = [], []
    for _ in range(150):
        task.step(policy.act(0))
        away.append(task.errors(task.goal).item())
        heights.append(task.environment.data.joint('object_joint_0').qpos[2])
        assert task.reached() == (away[-1] <= 0.04)
    assert max(away) > 0.1 and max(heights) > 0.1


def test_recorded_states_are_those_of_the_images(tmp_path: Path) -> None:
    """Put into a recorded state, it renders the recorded image."""
    assert (
        main(['collect', NAME, '--out', str(tmp_path / 'bag'), '--episodes', '1', '--seconds', '2'])
        == 0
    )
    seen = make_task(NAME)
    (episode,) = read_episodes([tmp_path / 'bag'], find_task(NAME).robot(), 64)
    assert episode.states is not None and len(episode.stamps) == 40
    for index in (0, 20, 39):
        seen.set_state(episode.states[index])
        np.testing.assert_array_equal(prepare(seen.render(), 64), episode.images[index])
    seen.close()


@pytest.mark.timeout(600)
def test_the_bundle_reaches_goals_without_a_search(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The inverse model carries the cube to where episodes that it has not seen have it."""
    bag = str(tmp_path / 'bag')
    assert main(['collect', NAME, '--out', bag, '--episodes', '2', '--seed', '98']) == 0
    capsys.readouterr()
    given = ['--task', NAME, '--episodes', bag, '--preset', 'idm', '--goals', '6', '--json']
    assert main(['evaluate', 'cube', '--offset', '25', *given]) == 0
    (found,) = json.loads(capsys.readouterr().out)['offsets']
    assert found['planner']['successes'] >= 4 and found['random']['successes'] <= 2
