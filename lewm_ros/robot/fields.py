# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Numbers inside ROS messages, by paths such as ``data[0]`` or ``twist.linear.x``."""

from __future__ import annotations

from collections.abc import Sequence
import re
from typing import Any

import numpy as np

from lewm_ros.errors import ConfigError, ObservationError

#: Array of a JointTrajectoryPoint that holds the numbers of a kind of action.
POINT_FIELD = {'position': 'positions', 'velocity': 'velocities', 'effort': 'effort'}


def read_fields(message: Any, paths: tuple[str, ...]) -> np.ndarray:
    """Read the numbers at ``paths`` from any ROS message object, (A,) float64.

    Works on rclpy and rosbags messages alike. Raises ConfigError naming a path that the
    message does not have.
    """
    values = np.empty(len(paths))
    for index, path in enumerate(paths):
        value = message
        try:
            for name, item in steps(path):
                value = getattr(value, name)
                value = value if item is None else value[item]
            values[index] = value
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ConfigError(
                f"a {type(message).__name__} message has no number at '{path}' ({error})"
            ) from error
    return values


def read_command(message: Any, paths: tuple[str, ...]) -> np.ndarray:
    """Read the command that a message asks to be held, (A,) float64.

    Raises ConfigError as :func:`read_fields` does, and ObservationError for numbers that are
    not finite or a trajectory that is no single command.
    """
    points = getattr(message, 'points', None)
    if points is not None and len(points) != 1:
        raise ObservationError(
            f'trajectory of {len(points)} points: expected one, the command to be held'
        )
    values = read_fields(message, paths)
    wrong = [path for path, finite in zip(paths, np.isfinite(values)) if not finite]
    if wrong:  # no numbers: reports count equal reasons
        raise ObservationError(f'action {", ".join(wrong)} is not finite')
    return values


def write_fields(message: Any, paths: tuple[str, ...], values: np.ndarray) -> None:
    """Set the numbers at ``paths`` of a message object; sequences grow as needed."""
    for path, value in zip(paths, values):
        *parents, (name, item) = steps(path)
        target = message
        for parent, parent_item in parents:
            target = getattr(target, parent)
            target = target if parent_item is None else target[parent_item]
        if item is None:
            setattr(target, name, float(value))
        else:
            sequence = list(getattr(target, name))
            sequence += [0.0] * (item + 1 - len(sequence))
            sequence[item] = float(value)
            setattr(target, name, sequence)


def entry_names(paths: Sequence[str], names: Sequence[str]) -> list[str]:
    """Names by place in a message, '' where none is known: paths may list entries in any order.

    ``names[i]`` belongs to ``paths[i]``, such as 'data[1]', which is place 1.
    """
    found: dict[int, str] = {}
    for path, name in zip(paths, names):
        if match := re.search(r'\[(\d+)\]$', path):
            found[int(match[1])] = name
    return [found.get(place, '') for place in range(max(found, default=-1) + 1)]


def steps(path: str) -> list[tuple[str, int | None]]:
    """Split 'a.b[2]' into [('a', None), ('b', 2)]."""
    steps: list[tuple[str, int | None]] = []
    for part in path.split('.'):
        name, _, item = part.partition('[')
        steps.append((name, int(item[:-1]) if item else None))
    return steps
