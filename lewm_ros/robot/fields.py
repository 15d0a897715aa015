# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Numbers inside ROS messages, by paths such as ``data[0]``, ``position[elbow]``, ``linear.x``.

A name in brackets is that of a joint: its index is looked up in ``name`` or ``joint_names`` of the
message.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
import re
from typing import Any

import numpy as np

from lewm_ros.errors import ConfigError, ObservationError, one_line

#: Array of a JointTrajectoryPoint that holds the numbers of a kind of action.
POINT_FIELD = {'position': 'positions', 'velocity': 'velocities', 'effort': 'effort'}
#: Types that list their joints by name.
JOINT_TYPES = ('sensor_msgs/msg/JointState', 'trajectory_msgs/msg/JointTrajectory')


def read_fields(message: Any, paths: tuple[str, ...]) -> np.ndarray:
    """Read the numbers at ``paths`` from any ROS message object, (A,) float64.

    Works on rclpy and rosbags messages alike. Raises ConfigError naming a path that the
    message does not have, ObservationError naming a joint that it does not list.
    """
    values = np.empty(len(paths))
    for index, path in enumerate(paths):
        value = message
        try:
            for name, item in steps(path):
                value = getattr(value, name)
                place = _place(message, item) if isinstance(item, str) else item
                value = value if place is None else value[place]
            values[index] = value
        except (AttributeError, IndexError, TypeError, ValueError) as error:
            raise ConfigError(
                f"a {type(message).__name__} message has no number at '{path}' ({error})"
            ) from error
    return values


def read_command(message: Any, paths: tuple[str, ...]) -> np.ndarray:
    """Read the command that a message asks to be held, (A,) float64.

    Raises ConfigError as :func:`read_fields` does, and ObservationError for numbers that are
    not finite or a trajectory that does not have exactly one point.
    """
    points = getattr(message, 'points', None)
    if points is not None and len(points) != 1:
        raise ObservationError(
            f'trajectory of {len(points)} points: expected one, the command to be held'
        )
    values = read_fields(message, paths)
    wrong = [path for path, finite in zip(paths, np.isfinite(values)) if not finite]
    if wrong:  # without the numbers: reports count equal reasons
        raise ObservationError(f'action {", ".join(wrong)} is not finite')
    return values


def write_fields(message: Any, paths: tuple[str, ...], values: np.ndarray) -> None:
    """Set the numbers at ``paths`` of a message object; sequences grow as needed.

    Joints go where the message lists them; if it has no names, in the order of the paths.
    """
    joints = list(_joints(message)) or named_joints(paths)
    for path, value in zip(paths, values):
        *parents, (name, item) = steps(path)
        target = message
        for parent, parent_item in parents:
            target = getattr(target, parent)
            target = target if parent_item is None else target[parent_item]
        place = joints.index(item) if isinstance(item, str) else item
        if place is None:
            setattr(target, name, float(value))
        else:
            sequence = list(getattr(target, name))
            sequence += [0.0] * (place + 1 - len(sequence))
            sequence[place] = float(value)
            setattr(target, name, sequence)


def entry_names(paths: Sequence[str], names: Sequence[str]) -> list[str]:
    """Return names by index in a message, '' where unknown; paths may be in any order.

    ``names[i]`` belongs to ``paths[i]``, such as 'data[1]' for index 1. If the paths name joints,
    the result is these joints in the order of the paths.
    """
    if joints := named_joints(paths):
        return joints
    found: dict[int, str] = {}
    for path, name in zip(paths, names):
        if match := re.search(r'\[(\d+)\]$', path):
            found[int(match[1])] = name
    return [found.get(place, '') for place in range(max(found, default=-1) + 1)]


def named_joints(paths: Sequence[str]) -> list[str]:
    """Joints that paths name, each once, in the order of the paths."""
    items = (item for path in paths for _, item in steps(path) if isinstance(item, str))
    return list(dict.fromkeys(items))


class JointOrder:
    """Checks that an index means the same joint in all messages of one topic.

    Args:
        paths: paths of the numbers read from the topic.
        joints: their order in earlier messages; empty: that of the first message.

    Attributes:
        by_place: whether the paths use indices, not joint names.
        joints: joints in the order of the messages; empty if read by name, or not listed.

    """

    def __init__(self, paths: Sequence[str], joints: Sequence[str] = ()) -> None:
        self.by_place = not named_joints(paths)
        self.joints = list(joints)

    def check(self, message: Any) -> None:
        """Raise ObservationError if a message lists its joints differently than those before."""
        joints = list(_joints(message)) if self.by_place else []
        self.joints = self.joints or joints
        if joints != self.joints:
            raise ObservationError(
                f'joints of a {type(message).__name__} are listed as {", ".join(joints)}, before '
                f'as {", ".join(self.joints)}: name them in the contract, such as '
                f'position[{one_line(self.joints[0])}]'
            )


def _joints(message: Any) -> Sequence[str]:
    """Joints that a message lists, none if it is of another kind."""
    return getattr(message, 'joint_names', None) or getattr(message, 'name', None) or ()


def _place(message: Any, joint: str) -> int:
    joints = list(_joints(message))
    if joint not in joints:
        listed = ', '.join(joints) or 'no joint'
        raise ObservationError(
            f"a {type(message).__name__} of {one_line(listed)} has no joint '{joint}'"
        )
    return joints.index(joint)


@cache
def steps(path: str) -> tuple[tuple[str, int | str | None], ...]:
    """Split 'a.b[2]' into (('a', None), ('b', 2)); the item of 'position[elbow]' is 'elbow'."""
    steps: list[tuple[str, int | str | None]] = []
    for part in path.split('.'):
        name, _, item = part.partition('[')
        item = item[:-1]
        steps.append((name, int(item) if item.isdecimal() else item or None))
    return tuple(steps)
