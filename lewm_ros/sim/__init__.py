# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Simulated tasks, free of ROS: in MuJoCo, any Gymnasium environment, and those of a user."""

from __future__ import annotations

from importlib import import_module

from lewm_ros.errors import ConfigError
from lewm_ros.sim.cube import Cube
from lewm_ros.sim.dm_reacher import DmReacher
from lewm_ros.sim.gymnasium_task import PREFIX, GymnasiumTask, environment_task, registered_id
from lewm_ros.sim.mujoco_task import MujocoTask
from lewm_ros.sim.push import Push
from lewm_ros.sim.push_t import PushT
from lewm_ros.sim.reacher import Reacher
from lewm_ros.sim.task import Task, check_actions
from lewm_ros.sim.two_room import TwoRoom

__all__ = [
    'TASKS',
    'MujocoTask',
    'Push',
    'Reacher',
    'Task',
    'TwoRoom',
    'check_actions',
    'find_task',
    'make_task',
]

#: Every task of this package, by name.
TASKS: dict[str, type[MujocoTask]] = {task.name: task for task in (Reacher, Push, TwoRoom)}
#: Tasks whose models come with other packages, each installed by an extra.
EXTRA_TASKS: dict[str, type[MujocoTask]] = {DmReacher.name: DmReacher}
#: Task classes of Gymnasium environments that need adapting, by environment id.
ADAPTERS = {'gym_pusht/PushT-v0': PushT, 'visual-cube-single-v0': Cube}
#: Valid task names, for messages.
NAMES = (
    f'{", ".join(TASKS | EXTRA_TASKS)}, {PREFIX}ID of a Gymnasium environment, or MODULE:CLASS of '
    'a task of your own'
)


def find_task(name: str) -> type[Task]:
    """Return a task by its name, of a Gymnasium environment by ``gym:ID``, else ``MODULE:CLASS``.

    Raises ConfigError for an unknown name.
    """
    if name.startswith(PREFIX):
        env_id = name.removeprefix(PREFIX)
        return environment_task(env_id, ADAPTERS.get(registered_id(env_id), GymnasiumTask))
    if ':' in name:
        return _own_task(name)
    if name not in TASKS | EXTRA_TASKS:
        raise ConfigError(f"task '{name}' is unknown: expected {NAMES}")
    return (TASKS | EXTRA_TASKS)[name]


def make_task(name: str, image_size: int | tuple[int, int] = 64, seed: int = 0) -> Task:
    """Make a simulated task by name. Raises ConfigError for an unknown one."""
    return find_task(name)(image_size=image_size, seed=seed)


def _own_task(name: str) -> type[Task]:
    """Import a task that is written as ``MODULE:CLASS``."""
    module, _, attribute = name.partition(':')
    if not module:
        raise ConfigError(f"task '{name}' names no module: expected MODULE:CLASS")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise ConfigError(
            f"task '{name}': {error}; is the folder of {module} on PYTHONPATH?"
        ) from error
    if not (isinstance(found, type) and issubclass(found, Task)):
        raise ConfigError(f"task '{name}': {attribute} in {module} is not a subclass of Task")
    if missing := sorted(getattr(found, '__abstractmethods__', ())):
        raise ConfigError(f"task '{name}': {attribute} lacks the methods {', '.join(missing)}")
    return found
