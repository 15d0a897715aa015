# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Simulated tasks in MuJoCo, free of ROS."""

from __future__ import annotations

from lewm_ros.errors import ConfigError
from lewm_ros.sim.push import Push
from lewm_ros.sim.reacher import Reacher
from lewm_ros.sim.task import Task
from lewm_ros.sim.two_room import TwoRoom

#: Every task, by name.
TASKS: dict[str, type[Task]] = {task.name: task for task in (Reacher, Push, TwoRoom)}


def make_task(name: str, image_size: int | tuple[int, int] = 64, seed: int = 0) -> Task:
    """Make a simulated task by name. Raises ConfigError for an unknown one."""
    if name not in TASKS:
        raise ConfigError(f'task {name!r} is unknown: expected one of {list(TASKS)}')
    return TASKS[name](image_size=image_size, seed=seed)
