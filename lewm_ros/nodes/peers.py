# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Checks the other endpoints of a node's topics: wrong type, extra publishers, no subscriber.

The middleware connects only endpoints of the same type, and says nothing where types differ.
"""

from __future__ import annotations

from collections.abc import Iterable
import time
from typing import TYPE_CHECKING, Any

from rclpy.node import Node

from lewm_ros.bringup.groups import NODES
from lewm_ros.nodes.diagnostics import Conditions

if TYPE_CHECKING:
    from lewm_ros.nodes.qos import Endpoint

#: A wrong number of publishers or subscribers is reported after this time [s]: other nodes may be
#: starting, and a node that was killed and restarted is listed twice until its lease
#: (config/fastdds.xml) ends.
CONFIRMED = 2.5
#: Nodes of the same namespace that may subscribe to commands but are no robot; sim_node is a robot.
_LISTENERS = NODES.keys() - {'sim_node'}
#: Name prefixes of tools that record or show commands.
_TOOLS = ('rosbag2_recorder', '_ros2cli')
#: Publishes plans of its own, but only while the planner is inactive.
_STAND_IN = 'trial_node'
#: Stands for a node whose name the middleware has not learned yet, or never will.
UNNAMED = 'a node of unknown name'
#: What to do about a second node of the same kind.
ONE_NODE = 'end one of them, or give it another namespace'
#: What to do about a second camera.
ONE_CAMERA = 'end one of them, or give each camera a topic of its own'


def type_name(kind: type) -> str:
    """Name a message class as ROS does, such as sensor_msgs/msg/Image."""
    return '/'.join([*kind.__module__.split('.')[:2], kind.__name__])


def node_name(endpoint: Any) -> str:
    """Name the node of an endpoint in the graph, with namespace."""
    # An endpoint is discovered before its node; the middleware then has a placeholder for it.
    if 'UNKNOWN_' in endpoint.node_name:
        return UNNAMED
    return f'{endpoint.node_namespace.rstrip("/")}/{endpoint.node_name}'


class Peers:
    """Compares what a node expects of its topics with the ROS graph.

    Args:
        node: whose topics they are.
        conditions: where differences are reported.

    """

    def __init__(self, node: Node, conditions: Conditions) -> None:
        self._node, self._conditions = node, conditions
        self._since: dict[str, float] = {}  # when each finding was first seen [s, steady]

    def look(self, endpoints: Iterable[Endpoint]) -> None:
        """Refresh the conditions; call it about twice a second."""
        now, found = time.monotonic(), self._find(endpoints)
        for key in self._since.keys() - found.keys():
            self._conditions.set(key, None)
        self._since = {key: self._since.get(key, now) for key in found}
        for key, text in found.items():
            certain = key.startswith('type of') and UNNAMED not in text
            if certain or now - self._since[key] >= CONFIRMED:
                self._conditions.set(key, text)

    def _find(self, endpoints: Iterable[Endpoint]) -> dict[str, str]:
        """Return the problems found, by the key of their conditions."""
        types = dict(self._node.get_topic_names_and_types())
        found: dict[str, str] = {}
        for endpoint in endpoints:
            topic = endpoint.topic
            texts = {
                f'type of {endpoint.side} {topic}': len(types.get(topic, ())) > 1
                and self._other_type(endpoint),
                f'publishers of {topic}': endpoint.alone and self._crowd(endpoint),
                f'listeners of {topic}': endpoint.heard and self._unheard(endpoint),
            }
            found |= {key: text for key, text in texts.items() if text}
        return found

    def _other_type(self, endpoint: Endpoint) -> str | None:
        """Report the endpoints on the other side that use another type."""
        if endpoint.side == 'publisher':
            others, does, we = self._listeners(endpoint.topic), 'subscribes to', 'publish'
        else:
            others, does, we = self._publishers(endpoint.topic), 'publishes', 'subscribe to'
        wrong = [other for other in others if other.topic_type != endpoint.type]
        if not wrong:
            return None
        return (
            f'{endpoint.topic}: {_names(wrong)} {does} {wrong[0].topic_type}, we {we} '
            f'{endpoint.type}, so nothing arrives: change the type in the contract, or that of '
            'the other node'
        )

    def _crowd(self, endpoint: Endpoint) -> str | None:
        """Report the publishers if there are several."""
        publishers = [p for p in self._publishers(endpoint.topic) if p.node_name != _STAND_IN]
        if len(publishers) < 2:
            return None
        return (
            f'{len(publishers)} publishers on {endpoint.topic} ({_names(publishers)}), expected '
            f'one: {endpoint.alone}'
        )

    def _unheard(self, endpoint: Endpoint) -> str | None:
        """Report that no robot subscribes, whatever the type."""
        for other in self._listeners(endpoint.topic):
            name = other.node_name
            ours = name in _LISTENERS and other.node_namespace == self._node.get_namespace()
            if not ours and not name.startswith(_TOOLS):
                return None
        return f'nobody subscribes to {endpoint.topic} ({endpoint.type}): {endpoint.heard}'

    def _publishers(self, topic: str) -> list[Any]:
        return list(self._node.get_publishers_info_by_topic(topic))

    def _listeners(self, topic: str) -> list[Any]:
        return list(self._node.get_subscriptions_info_by_topic(topic))


def _names(endpoints: Iterable[Any]) -> str:
    """List the nodes of endpoints, with namespace."""
    return ', '.join(sorted(map(node_name, endpoints)))
