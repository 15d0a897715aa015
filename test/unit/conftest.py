# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A point mass and a clock for all tests of the planner, and an environment for every test."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

from point_mass import CONFIG, PointMass, point_mass_bundle
import pytest

from lewm_ros.bundle import Bundle
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_ros.robot.contract import Contract


@pytest.fixture(autouse=True)
def own_environment() -> Iterator[None]:
    """Undo what a test, or the command line that it calls, sets in the environment."""
    with mock.patch.dict(os.environ):
        yield


@pytest.fixture(scope='session')
def bundle(tmp_path_factory: pytest.TempPathFactory, reacher_contract: Contract) -> Bundle:
    """Return the bundle of the point mass."""
    return point_mass_bundle(tmp_path_factory.mktemp('bundles'), reacher_contract)


@pytest.fixture(scope='session')
def exports(shared_folder: Path) -> Path:
    """Return a folder that caches exported graphs."""
    folder = shared_folder / 'exports'
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture
def hasty(tmp_path: Path) -> Path:
    """Return a fast planner preset, for tests in which reaching goals does not matter."""
    path = tmp_path / 'hasty.yaml'
    sizes = 'samples: 32, iterations: 1, cold_samples: 32, cold_iterations: 1'
    path.write_text(f'/**/planner_node: {{ros__parameters: {{{sizes}}}}}')
    return path


@pytest.fixture
def engine(bundle: Bundle) -> PointMass:
    """Return the exact model."""
    return PointMass(bundle)


@pytest.fixture
def planner(bundle: Bundle, engine: PointMass) -> RecedingHorizonPlanner:
    """Return a planner for the point mass."""
    return RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, CONFIG)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return a clock [s] that only the test advances; it replaces time.perf_counter."""
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr('time.perf_counter', lambda: clock.now)
    return clock
