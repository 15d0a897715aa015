# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Simulated tasks in MuJoCo, free of ROS."""

from __future__ import annotations

from lewm_ros.errors import SimulationError

TASKS = ('reacher',)


def make_task(name: str, image_size: int = 64, seed: int = 0):  # noqa: ANN201 (lazy import)
    """Make a simulated task by name. Raises SimulationError for an unknown one."""
    if name == 'reacher':
        from lewm_ros.sim.reacher import Reacher

        return Reacher(image_size=image_size, seed=seed)
    raise SimulationError(f'task {name!r} is unknown: expected one of {list(TASKS)}')
