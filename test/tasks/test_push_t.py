# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Push-T of gym-pusht as a task; `make test-tasks` installs it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.cli import main
from lewm_ros.robot.imaging import prepare
from lewm_ros.sim import Task, find_task, make_task
from lewm_ros.sim.push_t import SIDE
from lewm_ros.sim.push_t_policy import PushTPolicy

pytest.importorskip('gym_pusht')
NAME = 'gym:gym_pusht/PushT-v0'


@pytest.fixture
def task() -> Iterator[Task]:
    """Return the task at 96 px."""
    made = make_task(NAME, 96, 0)
    yield made
    made.close()


def circle(task: Task, steps: int) -> None:
    """Move the agent in a circle through the T."""
    for step in range(steps):
        angle = step / 8
        task.step(np.array([256 + 120 * np.cos(angle), 256 + 120 * np.sin(angle)]))


def test_the_data_is_scripted_by_any_name(tmp_path: Path) -> None:
    """`gym:MODULE:ID` imports the module, and is the same environment."""
    bags = [tmp_path / 'short', tmp_path / 'long']
    for bag, name in zip(bags, (NAME, 'gym:gym_pusht:gym_pusht/PushT-v0')):
        assert main(['collect', name, '--out', str(bag), '--episodes', '1', '--seconds', '3']) == 0
    robot = find_task(NAME).robot()
    short, long = (next(read_episodes([bag], robot, 64)) for bag in bags)
    np.testing.assert_array_equal(short.actions, long.actions)


def test_its_contract_is_of_positions_at_10_hz() -> None:
    """Positions are in pixels, up to 512; the state covers both bodies."""
    robot = find_task(NAME).robot()
    assert (robot.action.kind, robot.stop.mode, robot.period) == ('position', 'hold', 0.1)
    assert robot.action.high == (512.0, 512.0)
    assert robot.state is not None and len(robot.state.fields) == 10


def test_a_state_is_all_there_is_to_it(task: Task) -> None:
    """From the same state, motion and image are the same, whatever happened before."""
    circle(task, 30)
    state, image = task.state(), task.render()
    assert np.abs(state[5:]).max() > 1  # it moves

    def go_on() -> np.ndarray:
        task.set_state(state)
        np.testing.assert_array_equal(task.render(), image)
        circle(task, 20)
        return task.state()

    after = go_on()
    circle(task, 7)
    np.testing.assert_array_equal(go_on(), after)
    assert np.abs(after[:5] - state[:5]).max() > 5


def test_a_goal_is_reached_by_place_and_angle(task: Task) -> None:
    """A goal is reached within 20 px of both bodies together and 20 degrees, modulo full turns."""
    goal = task.state()
    task.set_goal(goal)
    assert task.reached()
    for change, reached in (
        ([14, 0, 14, 0, 0], True),
        ([15, 0, 15, 0, 0], False),
        ([0, 0, 0, 0, np.pi / 9 - 0.01], True),
        ([0, 0, 0, 0, np.pi / 9 + 0.01], False),
        ([0, 0, 0, 0, 6 * np.pi], True),
    ):
        task.set_state(goal + np.array([*change, 0, 0, 0, 0, 0]))
        assert task.reached() is reached, change


def test_its_data_moves_and_turns_the_t_and_keeps_it_on_the_plane(task: Task) -> None:
    """In 25 steps the T moves by 45 px and turns by 20 degrees, averaged over 24 episodes."""
    policy = PushTPolicy(task.robot(), np.random.default_rng(0), task)
    moved, turned = [], []
    for _ in range(24):
        task.reset()
        policy.reset()
        path = [task.state()]
        for _ in range(200):
            task.step(policy.act(0))
            path.append(task.state())
        places = np.array(path)[:, 2:5]
        moved.append(np.linalg.norm(places[25:, :2] - places[:-25, :2], axis=1).mean())
        turned.append(np.abs(places[25:, 2] - places[:-25, 2]).mean())
        assert (np.abs(places[:, :2] - SIDE / 2) < SIDE / 2).mean() > 0.9
    assert np.mean(moved) > 45 and np.mean(turned) > np.pi / 9


def test_recorded_states_are_those_of_the_images(tmp_path: Path) -> None:
    """Put into a recorded state, it renders the recorded image."""
    arguments = ['--episodes', '2', '--seconds', '5', '--image-size', '96']
    assert main(['collect', NAME, '--out', str(tmp_path / 'bag'), *arguments]) == 0
    seen = make_task(NAME, 96)
    for episode in read_episodes([tmp_path / 'bag'], find_task(NAME).robot(), 96):
        assert episode.states is not None and len(episode.stamps) == 50
        for index in (0, 20, 49):
            seen.set_state(episode.states[index])
            np.testing.assert_array_equal(prepare(seen.render(), 96), episode.images[index])
    seen.close()
