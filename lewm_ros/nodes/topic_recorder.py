# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that put serialised messages into the queue of a recording."""

from __future__ import annotations

from typing import Any

from rclpy.event_handler import QoSMessageLostInfo, SubscriptionEventCallbacks
from rclpy.exceptions import InvalidTopicNameException
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rclpy.validate_topic_name import validate_topic_name

from lewm_ros.bags.session import Recorded, Session
from lewm_ros.bags.topics import EPISODE, Topic, topics_of
from lewm_ros.bags.writer import Channel, definition
from lewm_ros.errors import BagError, ConfigError, ObservationError
from lewm_ros.nodes.base import LewmNode
from lewm_ros.nodes.diagnostics import ERROR
from lewm_ros.nodes.messages import message_class
from lewm_ros.robot.contract import IMAGE_TYPES, Contract
from lewm_ros.robot.fields import JOINT_TYPES, JointOrder

#: Messages that the middleware keeps for this node while its callbacks are late.
DEPTH = 100
#: A required topic that nobody publishes is reported after this long [s].
MISSING_AFTER = 3.0
#: Topics of every node, which are not about the robot.
UNASKED = ('/parameter_events', '/rosout')


class TopicRecorder(LewmNode):
    """Subscribes to each topic of a contract once it has a publisher, with the QoS that it offers.

    Likewise to the parameter ``topics``, or to every topic where the parameter ``all`` is set.

    A subclass has the parameters and opens the session.
    """

    _session: Session | None = None
    _running: int | None = None  #: episode of this recorder

    def configure(self) -> None:
        """Read what is to be recorded."""
        self._topics: dict[str, Topic] = {}
        self._orders: dict[str, JointOrder] = {}  # of topics whose joints are read by index
        self._source = '--all'  # as on the command line
        if self.params['all']:  # this node's own publisher: not one of those found later
            self._topics = {self.resolve_topic_name(EPISODE.name): EPISODE}
        else:
            contract = self.load_contract()
            self._source = f'--contract {contract.name}'
            self._topics = {self.resolve_topic_name(t.name): t for t in topics_of(contract)}
            self._orders = self._joint_orders(contract)
        self._further = {self._full_name(name) for name in self.params['topics']}
        if self._further:
            self._source += f' --topics {" ".join(sorted(self._further))}'
        self._silent: set[str] = set()  # topics reported as silent
        self._classes: dict[str, Any] = {n: message_class(t.type) for n, t in self._topics.items()}

    def _full_name(self, name: str) -> str:
        try:
            validate_topic_name(name)
        except InvalidTopicNameException as error:
            raise ConfigError(f"parameter 'topics' has '{name}', which is no topic") from error
        return self.resolve_topic_name(name)

    def _joint_orders(self, contract: Contract) -> dict[str, JointOrder]:
        sources = (contract.action, contract.action.executed, contract.state)
        return {
            self.resolve_topic_name(source.topic): order
            for source in sources
            if source is not None
            and source.type in JOINT_TYPES
            and (order := JointOrder(source.fields)).by_place
        }

    def _check_topics(self) -> None:
        """Subscribe to newly published topics; report silent ones."""
        session = self._session
        if session is None:
            return
        if session.error is not None:
            self.conditions.set('bag', str(session.error), ERROR)
            self.finish(2)
            return
        self._add_published(session)
        for name, topic in self._topics.items():
            recorded = session.topics.get(name)
            if recorded is None:
                self._subscribe_if_published(session, name, topic)
            elif silence := session.silence(recorded):
                self._silent.add(name)
                self._note_gap(recorded, silence)
            elif name in self._silent:
                self._silent.remove(name)
                if recorded.flow.gaps:
                    self._note_gap(recorded)
                else:  # before its first messages, or none by their stamps
                    self.conditions.set(f'gap {name}', None)
        owner = None if self._running is None else self._episode_owner()
        self.conditions.set(
            'episode',
            None if owner is None else f'{owner} also publishes episodes: their numbers are mixed',
        )

    def _add_published(self, session: Session) -> None:
        """Add the topics asked for whose types only their publishers tell, once there are some."""
        types = dict(self.get_topic_names_and_types())
        names = types.keys() - set(UNASKED) if self.params['all'] else set()
        for name in (names | self._further) - self._topics.keys():
            if name not in types or not self._others(name):
                if name in self._further and session.seconds > MISSING_AFTER:
                    self.conditions.set(f'no {name}', f'nobody publishes {name}')
                continue
            kind = types[name][0]
            try:
                definition(kind)
                self._classes[name] = message_class(kind)
            except (BagError, ImportError, AttributeError):
                text = f'{name} is not recorded: its type {kind} is unknown'
                self.conditions.set(f'no {name}', text)
            else:
                self._topics[name] = Topic(name, kind)

    def _subscribe_if_published(self, session: Session, name: str, topic: Topic) -> None:
        offers = self.get_publishers_info_by_topic(name)
        fitting = [o.qos_profile for o in offers if o.topic_type == topic.type]
        text = None
        if fitting:
            self._record(session, name, topic, fitting)
        elif offers:
            found = ', '.join(sorted({o.topic_type for o in offers}))
            text = f'{name} has type {found}: expected {topic.type}; it is not recorded'
        elif topic.required and session.seconds > MISSING_AFTER:
            text = f'nobody publishes {name} ({topic.type})'
        self.conditions.set(f'no {name}', text)

    def _record(self, session: Session, name: str, topic: Topic, offers: list[QoSProfile]) -> None:
        # The weakest profile offered: a subscription that requests more receives nothing.
        reliable = all(o.reliability == ReliabilityPolicy.RELIABLE for o in offers)
        latched = all(o.durability == DurabilityPolicy.TRANSIENT_LOCAL for o in offers)
        kind = self._classes[name]
        recorded = session.add(
            Channel(name, topic.type, reliable, latched),
            topic.regular,
            stamped=topic.stamp == 'header' and 'header' in kind.get_fields_and_field_types(),
        )
        asked = self.params['image_reliability']
        remedy = 'begin to record when all of its publishers are there'
        camera = topic.required or self.params['all']
        if topic.type in IMAGE_TYPES and camera and asked != 'publisher':
            reliable = asked == 'reliable'
            remedy = 'set parameter image_reliability to publisher'

        def take(data: bytes, received: int) -> None:
            pause = session.take(recorded, data, received)
            self._check_order(name, kind, data)
            if pause:
                self._note_gap(recorded)
            if session.error is None and (dropped := session.dropped(name)):
                self.conditions.set(
                    f'dropped {name}',
                    f'{name}: {dropped} messages dropped, the disk is too slow for a queue of '
                    f'{self.params["queue_mb"]:g} MB',
                    ERROR,
                )

        def lost(event: QoSMessageLostInfo) -> None:
            recorded.flow.lost = event.total_count
            hint = ' (large images: docs/safety.md)' if topic.type in IMAGE_TYPES else ''
            self.conditions.set(
                f'lost {name}', f'{name}: {event.total_count} messages lost in transport{hint}'
            )

        self.subscribe(
            kind,
            topic.name,
            take,
            QoSProfile(
                depth=DEPTH,
                reliability=(
                    ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
                ),
                durability=(
                    DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE
                ),
            ),
            remedy,
            raw=True,
            event_callbacks=SubscriptionEventCallbacks(message_lost=lost),
        )

    def _check_order(self, name: str, kind: Any, data: bytes) -> None:
        """Warn if a topic lists its joints in two orders, where the contract goes by index."""
        order = self._orders.get(name)
        if order is None:
            return
        try:
            order.check(deserialize_message(data, kind))
        except ObservationError as error:
            self.conditions.set(f'order {name}', f'{name}: {error}')
        else:
            self.conditions.set(f'order {name}', None)

    def _note_gap(self, recorded: Recorded, silence: float = 0.0) -> None:
        """Report a gap once, and keep it in the diagnostics until the next episode."""
        name, flow = recorded.channel.topic, recorded.flow
        text = f'{name}: {flow.gaps} gaps, the longest of {flow.longest:.2f} s'
        if silence:
            text = f'{name}: silent for {silence:.2f} s after {flow.gaps} gaps'
        self.conditions.set(f'gap {name}', text)

    def _episode_owner(self) -> str | None:
        """Return another node that publishes episodes, such as a simulator; two would conflict."""
        others = self._others(self.resolve_topic_name('episode'))
        return others[0] if others else None

    def _others(self, topic: str) -> list[str]:
        """Return the other nodes that publish a topic."""
        own = (self.get_name(), self.get_namespace())
        return [
            f'{offer.node_namespace.rstrip("/")}/{offer.node_name}'
            for offer in self.get_publishers_info_by_topic(topic)
            if (offer.node_name, offer.node_namespace) != own
        ]
