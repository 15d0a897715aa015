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
import shutil
from typing import TYPE_CHECKING

import pytest

from lewm_ros.bundle import Bundle, Calibration, Manifest, rewrite_manifest, write_bundle
from lewm_ros.contract import Contract

if TYPE_CHECKING:  # needs ROS, which unit tests do not
    from harness import Bench

ROOT = Path(__file__).resolve().parents[1]

# Before the first context is made: nothing of the tests leaves this machine.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'
# Before torch is imported, here and in child processes: its threads wait for each other in busy
# loops, which takes many times as long where another process has one of the processors.
os.environ.setdefault('OMP_NUM_THREADS', '1')

_domains = iter(range(1, 10_000))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make soak` gives."""
    parser.addoption('--soak', action='store_true', help='run the fault tests at full length')


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

    # Each of up to four workers has domains of its own, and a process id keeps two test runs at
    # once apart, mostly; ids above 101 would meet ephemeral ports.
    worker = os.environ.get('PYTEST_XDIST_WORKER', '')
    run = os.getppid() if worker else os.getpid()
    number = int(worker.removeprefix('gw') or 0)
    made = Bench(1 + (run * 17 + number * 25 + next(_domains) % 25) % 101, folder)
    yield made
    made.close()


@pytest.fixture(scope='session')
def reacher_contract() -> Contract:
    """Return the contract of the simulated arm."""
    return Contract.load(ROOT / 'config' / 'robots' / 'reacher.yaml')


@pytest.fixture(scope='session')
def make_tiny_bundle(
    tmp_path_factory: pytest.TempPathFactory, reacher_contract: Contract
) -> Callable[..., Bundle]:
    """Return a maker of bundles of a very small network with random weights.

    32 px, D 8, k 5, N 5; ``history`` frames of context, of a ``window`` of at least as many. Equal
    arguments give the same bundle, to all workers of a run: to export one takes seconds. Tests that
    change one work on a copy of its folder.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if 'PYTEST_XDIST_WORKER' in os.environ else base

    @cache
    def make(history: int = 3, window: int = 3) -> Bundle:
        folder = shared / f'tiny-{history}-{window}'
        with Path(f'{folder}.lock').open('w') as lock:
            flock(lock, LOCK_EX)
            return Bundle.load(folder) if folder.exists() else write(folder, history, window)

    def write(folder: Path, history: int, window: int) -> Bundle:
        from networks import stir, tiny_config
        import torch

        from lewm_ros.model import LeWorldModel
        from lewm_training.export import export_files

        config = tiny_config(reacher_contract.action.size, history=window)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LeWorldModel(config)
            stir(model)
        horizon = 5
        manifest = Manifest(
            name='tiny',
            architecture=config.to_dict(),
            image_size=config.image_size,
            frameskip=config.frameskip,
            history=history,
            horizon=horizon,
            latent_size=config.latent_size,
            action_mean=(0.05, -0.1),
            action_std=(0.5, 0.6),
            contract=reacher_contract,
            camera_period=0.05,
            surprise_scale=(0.1,) * config.latent_size,
        )
        return write_bundle(folder, manifest, export_files(model, horizon, history))

    return make


@pytest.fixture(scope='session')
def tiny_bundle(make_tiny_bundle: Callable[..., Bundle]) -> Bundle:
    """Return the bundle of 3 frames of context."""
    return make_tiny_bundle()


@pytest.fixture
def calibrated(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """Return a copy of the tiny bundle with a threshold of 50 for alpha 0.05."""
    folder = tmp_path / 'bundle'
    shutil.copytree(tiny_bundle.path, folder)
    entry = Calibration(0.05, 50.0, 10.0, 200, 'planner', tiny_bundle.hash)
    return rewrite_manifest(folder, replace(tiny_bundle.manifest, calibration=(entry,)))
