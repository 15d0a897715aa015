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
    stamp: str = 'header'  #: what the contract takes as its time: 'header' or 'log'


EPISODE = Topic('episode', 'std_msgs/msg/UInt32')
#: Topics of the nodes of this package.
OWN = (
    Topic('latent', 'sensor_msgs/msg/Image', regular=True),
    Topic('goal_image', 'sensor_msgs/msg/Image'),
    Topic('goal_image/accepted', 'sensor_msgs/msg/Image'),
    Topic('goal_latent', 'sensor_msgs/msg/Image'),
    Topic('goal_status', 'diagnostic_msgs/msg/DiagnosticArray'),
    Topic('plan', 'trajectory_msgs/msg/JointTrajectory'),
    Topic('surprise', 'std_msgs/msg/Float32', regular=True),
    Topic('surprise/contributions', 'sensor_msgs/msg/Image', regular=True),
    Topic('surprise/threshold', 'std_msgs/msg/Float32'),
    Topic('anomaly', 'diagnostic_msgs/msg/DiagnosticArray'),
    Topic('model', 'std_msgs/msg/String'),
    EPISODE,
)


def topics_of(contract: Contract) -> tuple[Topic, ...]:
    """Return the topics of a robot and of the nodes around it, each name once."""
    camera, action, applied = contract.camera, contract.action, contract.action.applied
    robot = [
        Topic(camera.topic, camera.type, regular=True, required=True, stamp=camera.stamp),
        Topic(applied.topic, applied.type, regular=True, required=True, stamp=applied.stamp),
        Topic(action.topic, action.type, regular=True, stamp=action.stamp),
    ]
    if contract.state is not None:
        state = contract.state
        robot.append(Topic(state.topic, state.type, regular=True, stamp=state.stamp))
    by_name: dict[str, Topic] = {}
    for topic in (*robot, *OWN):
        by_name.setdefault(topic.name, topic)
    return tuple(by_name.values())
