# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""User-defined tasks, named MODULE:CLASS, and robots with position commands."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lewm_ros import cli
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.bringup.groups import Bringup
from lewm_ros.errors import ConfigError
from lewm_ros.sim import find_task, make_task
from lewm_ros.sim.collect import START, RandomPolicy, UniformPolicy, simulate

BENCHMARKS = Path(__file__).parents[2] / 'benchmarks'
EXAMPLES = BENCHMARKS.with_name('examples')


@pytest.fixture(autouse=True)
def on_the_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the folder of the tasks on the module search path, as users do with PYTHONPATH."""
    monkeypatch.syspath_prepend(BENCHMARKS)


def test_a_task_is_found_by_module_and_class() -> None:
    """An unknown module, and a name that is not a Task, are refused by name."""
    assert find_task('robots:Cart').name == 'cart'
    for name, message in (
        ('robot:Cart', "task 'robot:Cart': No module named 'robot'; .* PYTHONPATH"),
        ('robots:Car', "task 'robots:Car': Car in robots is not a subclass of Task"),
        ('robots:HERE', 'HERE in robots is not a subclass of Task'),
    ):
        with pytest.raises(ConfigError, match=message):
            find_task(name)


def test_the_demo_starts_its_simulator_with_the_same_name(tiny_bundle, monkeypatch) -> None:
    """The simulator and trial nodes get the task name that `lewm up demo` was given."""
    monkeypatch.syspath_prepend(EXAMPLES)
    demo = Bringup.of('demo', str(tiny_bundle.path), task='write_task:Plotter')
    assert [str(o) for o in demo.own] == [
        'sim_node.task:=write_task:Plotter',
        'trial_node.task:=write_task:Plotter',
    ]


@pytest.mark.parametrize('name', ['Arm3', 'Arm6'])
def test_positions_wander_from_where_the_robot_is(tmp_path: Path, name: str) -> None:
    """Positions start at the pose, respect step and value limits, and move every joint by 0.4."""
    task = find_task(f'robots:{name}')
    contract = task.robot()
    command = ['collect', f'robots:{name}', '--episodes', '4', '--seconds', '5', '--seed', '3']
    assert cli.main([*command, '--out', str(tmp_path / 'bag')]) == 0
    low, high = contract.action.bounds
    moved = []
    for episode in read_episodes([tmp_path / 'bag'], contract, 64):
        assert np.abs(episode.actions[0] - episode.states[0]).max() < 0.101
        assert np.abs(np.diff(episode.actions, axis=0)).max() < 0.1 + 1e-6
        assert (episode.actions >= low).all() and (episode.actions <= high).all()
        moved.append(np.ptp(episode.states, axis=0))
    assert len(moved) == 4 and np.min(np.max(moved, axis=0)) > 0.4


def test_an_arm_rests_where_it_is() -> None:
    """The resting command holds the pose; it also applies before the first command."""
    with closing(make_task('robots:Arm3', 32, seed=4)) as task:
        pose = task.state()[:3]
        assert np.abs(pose).max() > 0.3
        np.testing.assert_allclose(task.rest(), pose)
        task.step(task.rest(), 500)
        np.testing.assert_allclose(task.state()[:3], pose, atol=1e-6)

        class Still:
            def reset(self) -> None: ...

            def observe(self, stamp: int, image: np.ndarray) -> None: ...

            def act(self, stamp: int) -> np.ndarray:
                return task.rest()

        told = list(simulate(task, task.robot(), Still(), 0.5, 20.0, 0.02, START))
        states = np.array([value for kind, _, value in told if kind == 'state'])
        np.testing.assert_allclose(states[:, :3], np.tile(pose, (10, 1)), atol=1e-6)


def test_random_commands_stay_within_every_limit() -> None:
    """The policies of the training data and of the baseline both respect the largest step."""
    contract = find_task('robots:Cart').robot()
    for kind in (RandomPolicy, UniformPolicy):
        policy = kind(contract, np.random.default_rng(0))
        commands = np.array([policy.act(0) for _ in range(500)])
        assert np.abs(np.diff(commands, axis=0)).max() < 0.15 + 1e-9
        assert np.ptp(commands) > 0.6


def test_ways_to_spoil_the_data() -> None:
    """DeafCart does not follow its commands; LateCart follows them 0.4 s later."""
    times = {}
    for name in ('Cart', 'LateCart', 'DeafCart'):
        with closing(make_task(f'robots:{name}', 16, seed=1)) as task:
            task.set_state(np.zeros(2))
            went = []
            for _ in range(20):
                task.step(np.array([0.6]), 25)
                went.append(task.state()[0])
            times[name] = np.array(went)
    assert times['Cart'][-1] == pytest.approx(0.53, abs=0.05)  # its motor is soft
    np.testing.assert_allclose(times['LateCart'][8:], times['Cart'][:12], atol=0.01)
    assert abs(times['DeafCart'][-1] - times['Cart'][-1]) > 0.1


def test_glide_coasts() -> None:
    """With a tenth of the damping the arm turns on for more than a second."""
    after = {}
    for name in ('reacher', 'robots:Glide'):
        with closing(make_task(name, 16, seed=1)) as task:
            task.set_state(np.array([0.0, 0.0, 1.0, 0.0]))
            task.step(np.zeros(2), round(1 / task.timestep))
            after[name] = abs(task.state()[2])
    assert after['reacher'] < 0.05
    assert after['robots:Glide'] > 0.5
