# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Quality of service: overrides by the user, and reports of incompatible endpoints.

A subscription that requests more than a publisher offers receives nothing from it. The middleware
reports this as an event that does not name the other node. Here it becomes a condition that names
both sides, the policy and the remedy, for as long as it lasts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
import time
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.exceptions import InvalidParameterTypeException
from rclpy.node import Node
from rclpy.qos import (
    DurabilityPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.qos_overriding_options import InvalidQosOverridesError, QoSOverridingOptions

from lewm_ros.errors import ConfigError
from lewm_ros.nodes.diagnostics import Conditions
from lewm_ros.nodes.parameters import Parameter
from lewm_ros.nodes.peers import CONFIRMED, UNNAMED, Peers, node_name, type_name

#: Parameter of every node that shows or encodes the camera image.
IMAGE_RELIABILITY = Parameter(
    'image_reliability',
    'best_effort',
    'QoS of the camera subscription; reliable needs a reliable publisher.',
    choices=('best_effort', 'reliable'),
)


def _has_depth(profile: QoSProfile) -> SetParametersResult:
    return SetParametersResult(
        successful=profile.depth >= 1, reason=f'depth is {profile.depth}: expected at least 1'
    )


#: ROS's standard parameters ``qos_overrides.<topic>.<publisher|subscription>.<policy>``.
OVERRIDES = QoSOverridingOptions.with_default_policies(callback=_has_depth)


def image_qos(reliability: str, depth: int) -> QoSProfile:
    """Return the profile for camera frames that :data:`IMAGE_RELIABILITY` names."""
    reliable = reliability == 'reliable'
    return QoSProfile(
        depth=depth,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
    )


@contextmanager
def overrides_of(topic: str) -> Iterator[None]:
    """Raise ConfigError naming the topic if its ``qos_overrides`` are wrong."""
    try:
        yield
    except (InvalidQosOverridesError, InvalidParameterTypeException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and 'QoS override' not in str(error):
            raise  # the middleware's
        raise ConfigError(
            f'qos_overrides of {topic} are wrong ({error}): expected history keep_last or '
            'keep_all, reliability reliable or best_effort, depth a whole number above 0'
        ) from error


@dataclass(frozen=True)
class Endpoint:
    """A publisher or subscription of this node.

    Attributes:
        topic: fully resolved.
        side: 'publisher' or 'subscription'.
        type: such as sensor_msgs/msg/Image.
        qos: offered or requested profile.
        remedy: what to do if the reliabilities are incompatible; empty: set the ROS override.
        alone: what to do if the topic has several publishers; empty: it may have several.
        heard: what to do if only nodes of this package and tools subscribe; empty: that is fine.

    """

    topic: str
    side: str
    type: str
    qos: QoSProfile
    remedy: str = ''
    alone: str = ''
    heard: str = ''

    def mismatch(self, node: Node) -> str | None:
        """Name a node with incompatible QoS, and the remedy; None if all are compatible."""
        if self.side == 'publisher':
            others = node.get_subscriptions_info_by_topic(self.topic)
        else:
            others = node.get_publishers_info_by_topic(self.topic)
        for other in others:
            theirs = other.qos_profile
            offered, asked = (self.qos, theirs) if self.side == 'publisher' else (theirs, self.qos)
            if qos_check_compatible(offered, asked)[0] == QoSCompatibility.ERROR:
                return f'{self.topic}: {self._explain(offered, asked, node_name(other))}'
        return None

    def _explain(self, offered: QoSProfile, asked: QoSProfile, other: str) -> str:
        """Name the policy, the two values and the remedy."""
        publishes = self.side == 'publisher'
        who = '{other} asks for {asked}, we offer {offered}: {remedy}'
        if not publishes:
            who = '{other} offers {offered}, we ask for {asked}: {remedy}'
        if (offered.reliability, asked.reliability) == (
            ReliabilityPolicy.BEST_EFFORT,
            ReliabilityPolicy.RELIABLE,
        ):
            value = 'reliable' if publishes else 'best_effort'
            parameter = f'qos_overrides.{self.topic}.{self.side}.reliability'
            remedy = self.remedy or f'set parameter {parameter} to {value}'
            return who.format(other=other, offered='best effort', asked='reliable', remedy=remedy)
        if (offered.durability, asked.durability) == (
            DurabilityPolicy.VOLATILE,
            DurabilityPolicy.TRANSIENT_LOCAL,
        ):
            remedy = (
                'subscribe with durability volatile'
                if publishes
                else 'publish with durability transient_local'
            )
            return who.format(
                other=other, offered='volatile', asked='transient local', remedy=remedy
            )
        return f'QoS of {other} does not fit: {qos_check_compatible(offered, asked)[1]}'


class Endpoints:
    """Creates publishers and subscriptions of a node, with QoS overrides and mismatch reports.

    A QoS mismatch is a condition from the middleware's event on until the other side is gone. It
    waits a moment for the name of the other node. Of several endpoints of a topic on the same side
    the last one counts: create the one that fits most others last. The other endpoints of the
    topics are looked up (:class:`~lewm_ros.nodes.peers.Peers`).

    Args:
        node: whose endpoints they are.
        conditions: where mismatches are reported.

    """

    def __init__(self, node: Node, conditions: Conditions) -> None:
        self._node, self._conditions = node, conditions
        self._peers = Peers(node, conditions)
        self._made: dict[tuple[str, str], Endpoint] = {}
        self._suspects: dict[tuple[str, str], float] = {}  # when the event came [s, steady]

    def publisher(
        self,
        create: Callable[..., Any],
        kind: type,
        topic: str,
        qos: QoSProfile,
        **expected: str,
    ) -> Any:
        """Call ``create``, one of the node's, with overrides of ``qos``. Raises ConfigError.

        ``expected``: ``alone`` and ``heard`` of :class:`Endpoint`.
        """
        profile = copy(qos)  # overrides are written into it
        endpoint = self._note(topic, 'publisher', kind, profile, **expected)
        events = PublisherEventCallbacks(incompatible_qos=self._suspect(endpoint))
        with overrides_of(endpoint.topic):
            return create(
                kind, topic, profile, event_callbacks=events, qos_overriding_options=OVERRIDES
            )

    def subscription(
        self,
        kind: type,
        topic: str,
        callback: Callable[..., None],
        qos: QoSProfile,
        remedy: str = '',
        alone: str = '',
        event_callbacks: SubscriptionEventCallbacks | None = None,
        **options: Any,
    ) -> Any:
        """Subscribe, with overrides of ``qos`` where there is no other remedy.

        Raises ConfigError for wrong overrides.
        """
        profile = copy(qos)
        endpoint = self._note(topic, 'subscription', kind, profile, remedy=remedy, alone=alone)
        events = event_callbacks or SubscriptionEventCallbacks()
        events.incompatible_qos = self._suspect(endpoint)
        with overrides_of(endpoint.topic):
            return self._node.create_subscription(
                kind,
                topic,
                callback,
                profile,
                event_callbacks=events,
                qos_overriding_options=None if remedy else OVERRIDES,
                **options,
            )

    def forget(self, topic: str, side: str) -> None:
        """Forget a destroyed endpoint."""
        self._made.pop((topic, side), None)
        if (topic, side) in self._suspects:
            del self._suspects[topic, side]
            self._conditions.clear(f'qos of {side} {topic}')

    def look(self) -> None:
        """Refresh the conditions; call it about twice a second."""
        for (topic, side), since in list(self._suspects.items()):
            text = self._made[topic, side].mismatch(self._node)
            if text is None or UNNAMED not in text or time.monotonic() - since >= CONFIRMED:
                self._conditions.set(f'qos of {side} {topic}', text)
        self._peers.look(list(self._made.values()))

    def _note(
        self, topic: str, side: str, kind: type, profile: QoSProfile, **expected: str
    ) -> Endpoint:
        name = self._node.resolve_topic_name(topic)
        endpoint = Endpoint(name, side, type_name(kind), profile, **expected)
        self._made[name, side] = endpoint
        return endpoint

    def _suspect(self, endpoint: Endpoint) -> Callable[[Any], None]:
        """Return the mismatch event callback; the event names no node and has no end."""

        def suspect(event: Any) -> None:
            self._suspects[endpoint.topic, endpoint.side] = time.monotonic()

        return suspect
