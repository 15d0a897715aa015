# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bench in a ROS domain of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import os
from pathlib import Path
import shutil

from harness import Bench
import pytest

from lewm_ros.bundle import Bundle, Calibration, rewrite_manifest

# Before the first context is made: nothing of the tests leaves this machine.
os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'] = 'LOCALHOST'

_domains = iter(range(1, 10_000))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a bench in a fresh domain; ids above 101 would meet ephemeral ports."""
    # The process id keeps two test runs at once apart, mostly.
    domain = 1 + (os.getpid() * 17 + next(_domains)) % 101
    made = Bench(domain, tmp_path)
    yield made
    made.close()


@pytest.fixture
def calibrated(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """Return a copy of the tiny bundle with a threshold of 50 for alpha 0.05."""
    folder = tmp_path / 'bundle'
    shutil.copytree(tiny_bundle.path, folder)
    entry = Calibration(0.05, 50.0, 10.0, 200, 'planner', tiny_bundle.hash)
    return rewrite_manifest(folder, replace(tiny_bundle.manifest, calibration=(entry,)))
