# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Topics of a recording."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.robot.contract import Contract


@dataclass(frozen=True)
class Topic:
    """A topic to record, by its name in the contract or in the namespace."""

    name: str
    type: str
    regular: bool = False  #: has a steady rate: a pause is a gap
    required: bool = False  #: a recording without it cannot be trained on


#: Topics of the nodes of this package.
OWN = (
    Topic('latent', 'sensor_msgs/msg/Image', regular=True),
    Topic('goal_image', 'sensor_msgs/msg/Image'),
    Topic('goal_image/accepted', 'sensor_msgs/msg/Image'),
    Topic('goal_latent', 'sensor_msgs/msg/Image'),
    Topic('goal_status', 'diagnostic_msgs/msg/DiagnosticArray'),
    Topic('surprise', 'std_msgs/msg/Float32', regular=True),
    Topic('surprise/contributions', 'sensor_msgs/msg/Image', regular=True),
    Topic('surprise/threshold', 'std_msgs/msg/Float32'),
    Topic('anomaly', 'diagnostic_msgs/msg/DiagnosticArray'),
    Topic('model', 'std_msgs/msg/String'),
    Topic('episode', 'std_msgs/msg/UInt32'),
)


def topics_of(contract: Contract) -> tuple[Topic, ...]:
    """Return the topics of a robot and of the nodes around it, each name once."""
    action = contract.action
    robot = [
        Topic(contract.camera.topic, contract.camera.type, regular=True, required=True),
        Topic(action.applied.topic, action.applied.type, regular=True, required=True),
        Topic(action.topic, action.type, regular=True),
    ]
    if contract.state is not None:
        robot.append(Topic(contract.state.topic, contract.state.type, regular=True))
    by_name: dict[str, Topic] = {}
    for topic in (*robot, *OWN):
        by_name.setdefault(topic.name, topic)
    return tuple(by_name.values())
