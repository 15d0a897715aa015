# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""ROS messages without ROS: empty messages, command messages, writing them into a bag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype

from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.bags.message_types import TYPES
from lewm_ros.robot.contract import Channel
from lewm_ros.robot.fields import entry_names, write_fields

JOINT_STATE = 'sensor_msgs/msg/JointState'
TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'


def blank(kind: str) -> Any:
    """Make a message of zeros, empty strings and empty sequences."""
    values: dict[str, Any] = {}
    fields: Any = TYPES.fielddefs[kind][1]  # nested tuples
    for name, (node, of) in fields:
        if node == Nodetype.NAME:
            values[name] = blank(str(of))
        elif node == Nodetype.BASE:
            values[name] = '' if of[0] == 'string' else 0.0 if of[0].startswith('float') else 0
        else:  # ARRAY of fixed length, empty SEQUENCE
            (element, kind_of), count = of
            numbers = element == Nodetype.BASE and str(kind_of[0]) != 'string'
            values[name] = np.zeros(count, dtype=str(kind_of[0])) if numbers else []
    return BagWriter.make(kind, **values)


def command(channel: Channel, names: Sequence[str], values: np.ndarray) -> Any:
    """Make the message of a channel that holds the values (A,) of the named dimensions."""
    message = blank(channel.type)
    if channel.type == JOINT_STATE:
        message.name = entry_names(channel.fields, names)
    elif channel.type == TRAJECTORY:
        message.joint_names = entry_names(channel.fields, names)
        message.points = [blank('trajectory_msgs/msg/JointTrajectoryPoint')]
    write_fields(message, channel.fields, values)
    return message


def write(bag: BagWriter, topic: str, kind: str, message: Any, stamp: int, logged: int) -> None:
    """Append a message logged at ``logged`` [ns]; ``stamp`` [ns] goes into its header, if any."""
    if hasattr(message, 'header'):
        message.header = bag.header(stamp)
    for holder in (message, *getattr(message, 'points', ())):
        for name, value in vars(holder).items():  # rosbags needs arrays of numbers
            if isinstance(value, list) and value and isinstance(value[0], float):
                setattr(holder, name, np.array(value))
    values = {name: getattr(message, name) for name, _ in TYPES.fielddefs[kind][1]}
    bag.write(topic, kind, logged, **values)
