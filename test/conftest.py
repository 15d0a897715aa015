# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that more than one test file needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from fcntl import LOCK_EX, flock
from functools import cache
import os
from pathlib import Path
import resource
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from lewm_ros.bundle import Bundle, Calibration, rewrite_manifest
from lewm_ros.robot.contract import Contract

if TYPE_CHECKING:  # needs ROS, which unit tests do not
    from harness import Bench

ROOT = Path(__file__).resolve().parents[1]

# Before the first context is created: keep all test traffic on this machine.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
# Before torch is imported, here and in child processes: its threads busy-wait for each other, which
# takes many times as long when another process occupies one of the CPUs.
os.environ.setdefault('OMP_NUM_THREADS', '1')

#: Slowest files, by the name after test_: the files that start last decide when the workers end.
#: The timing-sensitive ones begin with two that compute and one that waits.
LONG = (
    *('train_runs', 'training', 'push_bundle', 'fast_rollout', 'install', 'engines'),
    *('distributed', 'gpu_benchmark', 'shipped_bundle', 'voe', 'comparison', 'import_official'),
    *('decoder', 'goal_policy', 'frozen_encoder', 'roadmap_command', 'verdict', 'recording'),
    *('benchmark', 'inspect', 'tune', 'recorded_goals', 'roadmap', 'windows', 'scoring'),
    *('planner_node', 'encoder_node', 'controller_node', 'fuzz', 'signals', 'recorder_node'),
    *('lifecycle_loops', 'surprise_node', 'view_node', 'parameters', 'watch', 'reaction', 'qos'),
    *('sim_node', 'own_robot', 'imagination', 'own_task_demo', 'goals', 'fuzz_planner'),
    *('goal_command', 'lifecycle', 'large_images', 'peers', 'evidence'),
    *('push_demo', 'demo', 'commands', 'clock', 'frames', 'kills', 'loop'),
)
_domains = iter(range(1, 10_000))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options that `make soak` and `make test-jazzy` pass."""
    parser.addoption('--soak', action='store_true', help='run the fault tests at full length')
    parser.addoption(
        '--tiny-bundles',
        metavar='FOLDER',
        help='keep tiny bundles there for the next run, perhaps of a Python without torch',
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first; their tests keep their order."""
    places = {f'test_{name}': place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture(scope='session')
def soak(request: pytest.FixtureRequest) -> bool:
    """Return whether the fault tests run at full length; otherwise they are shortened."""
    return request.config.getoption('--soak')


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench in a fresh ROS domain."""
    yield from _bench(tmp_path)


@pytest.fixture(scope='module')
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """Return a bench for a whole file, whose tests share running nodes."""
    yield from _bench(tmp_path_factory.mktemp('shared'))


def _bench(folder: Path) -> Iterator[Bench]:
    from harness import Bench

    # Each of up to six workers has its own domains. The process id mostly keeps two concurrent test
    # runs apart; ids above 101 would collide with ephemeral ports.
    worker = os.environ.get('PYTEST_XDIST_WORKER', '')
    run = os.getppid() if worker else os.getpid()
    number = int(worker.removeprefix('gw') or 0)
    made = Bench(1 + (run * 17 + number * 16 + next(_domains) % 16) % 101, folder)
    yield made
    made.close()


@pytest.fixture(scope='session')
def reacher_contract() -> Contract:
    """Return the contract of the simulated arm."""
    return Contract.load(ROOT / 'config' / 'robots' / 'reacher.yaml')


@pytest.fixture
def contract_file(reacher_contract: Contract, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes that contract with changed values in some of its sections."""

    def write(**sections: dict[str, Any]) -> Path:
        data = reacher_contract.to_dict()
        for name, values in sections.items():
            data[name].update(values)
        data['stop']['mode'] = 'hold' if data['action']['kind'] == 'position' else 'zero'
        path = tmp_path / 'robot.yaml'
        path.write_text(yaml.safe_dump(data))
        return path

    return write


@pytest.fixture
def disk_of() -> Iterator[Callable[[int], None]]:
    """Return a function that limits file sizes [bytes]: writing beyond fails as on a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.fixture(scope='session')
def shared_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that all workers of a run share."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base
    if given := request.config.getoption('--tiny-bundles'):
        shared = Path(given).resolve()
        shared.mkdir(parents=True, exist_ok=True)
    return shared


@pytest.fixture(scope='session')
def make_tiny_bundle(shared_folder: Path, reacher_contract: Contract) -> Callable[..., Bundle]:
    """Return a function that makes bundles of a very small network with random weights.

    Images of 32 px, latent size 8, frameskip 5; ``history`` frames of context, a ``window`` of at
    least as many, plans of ``horizon`` blocks. Equal arguments give the same bundle in all workers
    of a run, because an export takes seconds (fewer for shorter plans). Tests that change a bundle
    work on a copy of its folder.
    """

    @cache
    def make(history: int = 3, window: int = 3, horizon: int = 6) -> Bundle:
        folder = shared_folder / f'tiny-{history}-{window}-{horizon}'
        with Path(f'{folder}.lock').open('w') as lock:
            flock(lock, LOCK_EX)
            if folder.exists():
                return Bundle.load(folder)
            from tiny_bundle import write_tiny_bundle  # needs torch

            return write_tiny_bundle(folder, reacher_contract, history, window, horizon)

    return make


@pytest.fixture(scope='session')
def tiny_bundle(make_tiny_bundle: Callable[..., Bundle]) -> Bundle:
    """Return the tiny bundle with 3 frames of context."""
    return make_tiny_bundle()


@pytest.fixture
def calibrated(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """Return a copy of the tiny bundle with a threshold of 50 for alpha 0.05."""
    folder = tmp_path / 'bundle'
    shutil.copytree(tiny_bundle.path, folder)
    entry = Calibration(0.05, 50.0, 10.0, 200, 'planner', tiny_bundle.hash)
    return rewrite_manifest(folder, replace(tiny_bundle.manifest, calibration=(entry,)))
