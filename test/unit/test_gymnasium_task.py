# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Any Gymnasium environment as a task: contract, data, goals, evaluation and its errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
import json
from pathlib import Path

from command_line import lewm
import numpy as np
import pytest
import yaml

from lewm_ros.bags.check import check_bag, check_contract
from lewm_ros.bags.episodes import Episode, read_episodes
from lewm_ros.bundle import FILES, Bundle, write_bundle
from lewm_ros.errors import ConfigError
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.imaging import prepare
from lewm_ros.sim import Task, find_task, make_task
from lewm_ros.sim.collect import START, RandomPolicy, simulate

pytest.importorskip('gymnasium')
import_module('point_env')
POINT = 'gym:point_env:lewm/Point-v0'


@pytest.fixture
def task() -> Iterator[Task]:
    """Return the point, seen by a camera of 64 x 48 pixels."""
    made = make_task(POINT, (48, 64), 3)
    yield made
    made.close()


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bag of four episodes of 4 s."""
    out = tmp_path_factory.mktemp('bags') / 'point'
    options = ('--episodes', 4, '--seconds', 4, '--seed', 5, '--image-size', '60x40')
    status, _, error = lewm('collect', POINT, *options, '--out', out)
    assert status == 0, error
    return out


@pytest.fixture(scope='module')
def episodes(bag: Path) -> list[Episode]:
    """Return the episodes of that bag at 40 px."""
    return list(read_episodes([bag], find_task(POINT).robot(), 40))


def test_its_contract_is_drafted_from_the_action_space(tmp_path: Path) -> None:
    """The contract is drafted from the action space, and `lewm check --draft` prints the same."""
    robot = find_task(POINT).robot()
    assert (robot.action.low, robot.action.high) == ((-1.0, -0.5), (1.0, 0.5))
    assert (robot.action.kind, robot.stop.mode, robot.period) == ('effort', 'zero', 0.05)
    assert robot.state is not None and len(robot.state.fields) == 4
    status, text, _ = lewm('check', '--draft', POINT)
    assert status == 0
    (tmp_path / 'point.yaml').write_text(text)
    contract, problems = check_contract(tmp_path / 'point.yaml')
    assert contract == robot and not problems
    assert yaml.safe_load(text)['name'] == 'point_env_lewm_point_v0'


def test_recorded_states_are_those_of_the_images(
    bag: Path, episodes: list[Episode], task: Task
) -> None:
    """Set to a recorded state, the environment renders the recorded image, whatever it did."""
    assert check_bag(bag, find_task(POINT).robot()).problems == []
    assert [len(episode.stamps) for episode in episodes] == [80] * 4
    seen = make_task(POINT, (40, 60))
    for episode in episodes:
        assert episode.states is not None
        assert np.ptp(episode.states[:, :2], axis=0).max() > 0.2  # terminated steps end no episode
        for index in (0, 40, 79):
            seen.step(np.ones(2), 3)
            seen.set_state(episode.states[index])
            assert seen.time == 0
            np.testing.assert_array_equal(seen.state(), episode.states[index])
            image = prepare(seen.render(), 40)
            np.testing.assert_array_equal(image, episode.images[index])
    seen.close()


def test_goals_leave_the_world_as_it_is(task: Task) -> None:
    """Setting a goal gives its image without changing the state; equal seeds give equal goals."""
    task.step(np.array([1.0, 0.2]), 4)
    assert task.time == pytest.approx(0.2)
    before, image = task.state(), task.render()
    assert image.shape == (48, 64, 3)
    goal = task.sample_goal()
    shown = task.set_goal(goal)
    np.testing.assert_array_equal(task.state(), before)
    np.testing.assert_array_equal(task.render(), image)
    assert not np.array_equal(shown, image)
    assert not task.reached()
    task.set_state(goal)
    assert task.reached() and task.errors(goal).max() == 0
    np.testing.assert_array_equal(task.render(), shown)
    task.perturb('teleport')
    assert not np.array_equal(task.state(), goal)
    first, second = make_task(POINT, 64, 9), make_task(POINT, 64, 9)
    np.testing.assert_array_equal(first.state(), second.state())
    np.testing.assert_array_equal(first.sample_goal(), second.sample_goal())


def test_it_is_evaluated_by_the_paper_s_protocol(
    bag: Path, tiny_bundle: Bundle, tmp_path: Path
) -> None:
    """Starts and goals come from recordings; a bundle of another robot is rejected."""
    manifest = replace(tiny_bundle.manifest, contract=find_task(POINT).robot())
    files = {name: tiny_bundle.path / name for name in FILES}
    path = write_bundle(tmp_path / 'bundle', manifest, files).path
    words = ('--task', POINT, '--episodes', bag, '--offset', 10, '--goals', 3, '--json')
    status, out, error = lewm('evaluate', path, *words)
    assert status == 0, error
    (row,) = json.loads(out)['offsets']
    assert row['planner']['episodes'] == row['random']['episodes'] == 3
    status, _, error = lewm('evaluate', tiny_bundle.path, *words)
    assert status == 2 and 'is of another robot: action.names' in error


@pytest.mark.parametrize(
    ('name', 'does', 'says'),
    [
        ('lewm/Nothing-v0', find_task, r"task gym:lewm/Nothing-v0: .*doesn't exist"),
        ('no_such_module:A-v0', find_task, 'No module named'),
        ('point_env:lewm/Buttons-v0', find_task, r'has the actions Discrete\(4\): expected a Box'),
        ('point_env:lewm/Clockless-v0', find_task, "expected metadata 'render_fps'"),
        ('point_env:lewm/Grey-v0', Task.render, r'renders uint8 of shape \(40, 60\)'),
        ('point_env:lewm/MutePoint-v0', Task.sample_goal, 'expected methods get_state'),
        ('point_env:lewm/Visible-v0', Task.sample_goal, 'expected methods get_state'),
        ('point_env:lewm/Telling-v0', Task.sample_goal, 'expected methods get_state'),
        ('point_env:lewm/Ragged-v0', Task.sample_goal, 'expected methods get_state'),
        ('point_env:lewm/ReadOnly-v0', Task.sample_goal, 'expected methods get_state'),
        ('point_env:lewm/Wide-v0', Task.sample_goal, 'an array of 1 to 128 numbers'),
        ('point_env:lewm/Whole-v0', find_task, 'expected a Box of finite floating-point numbers'),
        ('point_env:lewm/Still-v0', Task.sample_goal, 'states of 100 resets all count as the pre'),
        ('point_env:lewm/Unjudged-v0', Task.reached, 'expected a method achieves'),
        ('point_env:lewm/Point-v0', Task.perturb, "no perturbation 'push': expected 'teleport'"),
    ],
)
def test_what_an_environment_lacks_is_said_by_name(name: str, does, says: str) -> None:
    """What an environment lacks is named, with what is expected."""
    if does is find_task:
        with pytest.raises(ConfigError, match=says):
            find_task(f'gym:{name}').robot()
        return
    task = make_task(f'gym:{name}')
    if does is Task.reached:
        task.set_goal(task.sample_goal())
    with pytest.raises(ConfigError, match=says):
        getattr(task, does.__name__)(*(['push'] if does is Task.perturb else []))


def test_goals_are_not_reached_yet(task: Task) -> None:
    """A goal that counts as reached is drawn again, about one in a hundred here."""
    for _ in range(500):
        goal = task.sample_goal()
        assert not task.achieves(task.state(), goal)


def test_a_state_keeps_its_type() -> None:
    """A whole number is restored as one, so the environment still draws it."""
    task = make_task('gym:point_env:lewm/Cell-v0')
    task.set_state(np.array([7.0]))
    assert task.state().tolist() == [7.0]
    assert task.render()[:, 45].max() == 0
    task.close()


def test_an_image_has_a_size() -> None:
    """The size of images is at least one pixel."""
    with pytest.raises(ConfigError, match='image size is 0: expected at least 1'):
        make_task(POINT, 0)


def test_a_frame_in_each_step_of_any_duration() -> None:
    """A period rounded to nanoseconds, as in a bundle, gives a frame in each step."""
    task = make_task('gym:point_env:lewm/Slow-v0')
    contract = task.robot()
    policy = RandomPolicy(contract, np.random.default_rng(0))
    found = simulate(task, contract, policy, 1.0, 1 / 0.083333333, 0.0, START)
    assert [kind for kind, _, _ in found].count('image') == 12
    task.close()


def test_a_recording_without_states_has_none(tmp_path: Path) -> None:
    """An environment that does not report its state gives recordings without states.

    Images and commands are enough to train on.
    """
    mute = 'gym:point_env:lewm/MutePoint-v0'
    out = tmp_path / 'bag'
    assert lewm('collect', mute, '--episodes', 1, '--seconds', 2, '--out', out)[0] == 0
    robot = find_task(mute).robot()
    assert robot.state is None
    (episode,) = read_episodes([out], robot, 16)
    assert episode.states is None and len(episode.stamps) == 40


def test_a_camera_cannot_be_faster_than_the_steps(tmp_path: Path) -> None:
    """The camera rate is at most the environment's step rate, 20 Hz."""
    options = ('--episodes', 1, '--seconds', 1, '--out', tmp_path / 'bag')
    status, _, error = lewm('collect', POINT, '--camera-rate', 30, *options)
    assert status == 2 and '--camera-rate is 30 Hz: expected at most 20' in error


def test_a_contract_of_one_s_own_may_be_tighter(tmp_path: Path) -> None:
    """A contract with tighter limits than the draft's, which is plain YAML, fits."""
    _, text, _ = lewm('check', '--draft', POINT)
    data = yaml.safe_load(text)
    data['action']['high'] = [0.5, 0.5]
    Contract.parse(data).check_against_bundle(find_task(POINT).robot())
