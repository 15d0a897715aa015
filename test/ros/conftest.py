# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bench in a ROS domain of its own for every test."""

from __future__ import annotations

from collections.abc import Iterator
import os
from pathlib import Path

from harness import Bench
import pytest

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
