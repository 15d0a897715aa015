# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""recorder_node: records the messages of the robot and the other nodes into a bag.

A callback takes the serialised bytes, notes their receive time and puts them into the queue of the
writer thread. Only messages whose joints are read by index are decoded, to check their order. A
topic is subscribed to once it has a publisher, with the QoS that the publisher offers.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from rclpy.serialization import serialize_message
from std_msgs.msg import UInt32
from std_srvs.srv import Trigger

from lewm_ros.bags.config import RecorderConfig
from lewm_ros.bags.layout import COMMAND
from lewm_ros.bags.session import Session
from lewm_ros.bags.topics import Topic
from lewm_ros.errors import BagError
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.parameters import Parameter, parameters_of
from lewm_ros.nodes.qos import IMAGE_RELIABILITY
from lewm_ros.nodes.topic_recorder import TopicRecorder
from lewm_ros.robot.settings import from_values
from lewm_ros.view.terminal import Keys

#: How often publishers and silent topics are checked [s].
CHECK_PERIOD = 0.25
#: How often the terminal is asked for keys [s].
KEY_PERIOD = 0.05


class RecorderNode(TopicRecorder):
    """Records while it is active; episodes are started and stopped by services or keys."""

    PARAMETERS = (
        Parameter(
            'out',
            '',
            'Folder of the bag; empty: `recording_<date>_<time>` in the working folder. If it '
            'exists, `_2`, `_3` and so on is appended.',
        ),
        Parameter(
            'all',
            False,
            'Record every topic that is published, not those of the contract, which is not read: '
            'for a first bag.',
        ),
        Parameter(
            'topics',
            (),
            "Topics to record besides those of the contract, of any standard type: `['/tf', "
            "'/wrench']`.",
        ),
        replace(
            IMAGE_RELIABILITY,
            default='publisher',
            description="QoS of the camera subscription; publisher: the camera's.",
            choices=('publisher', *IMAGE_RELIABILITY.choices),
        ),
        *parameters_of(RecorderConfig),
        Parameter(
            'keys',
            False,
            'Read keys from the terminal: space starts or stops an episode, q ends. `lewm record` '
            'sets it.',
        ),
    )

    _number = 0  # episodes of this node; numbers are never reused
    _keys: Keys | None = None

    def configure(self) -> None:
        """Read what is to be recorded."""
        super().configure()
        self._episodes = self.publisher(UInt32, 'episode', LATCHED)

    def activate(self) -> None:
        """Open the bag, look for publishers, offer the services."""
        params = self.params
        self._running: int | None = None
        self._services: list[Any] = []
        self._session = session = Session(
            self._folder(),
            from_values(RecorderConfig, params),
            {COMMAND: f'lewm record {self._source}'},
        )
        self._services = [
            self.create_service(Trigger, '~/start_episode', self._on_start),
            self.create_service(Trigger, '~/stop_episode', self._on_stop),
        ]
        self._check_topics()
        self.every(CHECK_PERIOD, self._check_topics)
        text = f'recording to {session.path}'
        self._keys = Keys.of_stdin() if params['keys'] else None
        if self._keys is not None:
            self.every(KEY_PERIOD, self._read_keys)
            text += ': space starts and stops an episode, q ends'
        self.get_logger().info(text)

    def deactivate(self) -> None:
        """End the episode, write what is queued, close the bag and say what is in it."""
        for service in self._services:
            self.destroy_service(service)
        if self._keys is not None:
            self._keys.close()
        session, self._session = self._session, None
        if session is None:
            return  # the recording did not start
        episode = session.topics.get(self.resolve_topic_name('episode'))
        if self.stop_episode()[0] and episode is not None:
            # The subscriptions are gone: the node would not receive its own last message.
            session.take(episode, serialize_message(UInt32(data=0)), self.now())
        never = sorted((self._topics.keys() | self._further) - session.topics.keys())
        try:
            text = session.close(episodes=self._number, never_published=never)
        except BagError:
            self.finish(2)
            raise
        self.get_logger().info(text)
        lacking = [n for n, t in self._topics.items() if t.required and not session.written(n)]
        if lacking:
            self.get_logger().error(
                f'bag {session.path}: no messages of {", ".join(lacking)}: no model can be trained '
                'on it'
            )
            if self._finalized:  # not where a lifecycle manager only deactivates it
                self.finish(1)

    def report(self) -> dict[str, Any]:
        """Figures of the recording."""
        figures = {} if self._session is None else self._session.metrics()
        return {**figures, 'episode': self._running or 0, 'episodes': self._number}

    def start_episode(self) -> tuple[bool, str]:
        """Announce the next episode. Return whether that was possible, and what was done."""
        owner = self._episode_owner()
        if owner is not None:
            return False, f'episodes are announced by {owner}: start them there'
        if self._running is not None:
            return False, f'episode {self._running} is running: stop it first'
        for name, topic in self._topics.items():
            # Other episode publishers are unknown until the robot has been discovered.
            if topic.required and not self._is_recorded(name, topic):
                return False, f'nobody publishes {name}: the episode would be empty'
        self._number += 1
        self._running = self._number
        # A gap is reported once in every episode.
        for name in self._topics:
            self.conditions.set(f'gap {name}', None)
        self._episodes.publish(UInt32(data=self._number))
        return self._say(f'episode {self._number} started')

    def stop_episode(self) -> tuple[bool, str]:
        """Announce the end of the episode. Return whether one was running, and what was done."""
        if self._running is None:
            return False, 'no episode of this recorder is running'
        number, self._running = self._running, None
        self._episodes.publish(UInt32(data=0))
        return self._say(f'episode {number} stopped')

    def _on_start(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        response.success, response.message = self.start_episode()
        return response

    def _on_stop(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        response.success, response.message = self.stop_episode()
        return response

    def _read_keys(self) -> None:
        for key in self._keys.read() if self._keys is not None else '':
            if key == ' ':
                toggle = self.start_episode if self._running is None else self.stop_episode
                done, text = toggle()
                if not done:
                    self.get_logger().warning(text)
            elif key == 'q':
                self.finish(0)

    def _is_recorded(self, name: str, topic: Topic) -> bool:
        """Whether a topic is subscribed to and has a publisher at the moment."""
        recorded = self._session is not None and name in self._session.topics
        offers = self.get_publishers_info_by_topic(name)
        return recorded and any(offer.topic_type == topic.type for offer in offers)

    def _say(self, text: str) -> tuple[bool, str]:
        self.get_logger().info(text)
        return True, text

    def _folder(self) -> Path:
        """Return the folder of the next bag, not that of a killed recorder."""
        name = self.params['out'] or f'{datetime.now():recording_%Y%m%d_%H%M%S}'
        path = first = Path(name).expanduser().absolute()
        number = 1
        while path.exists():
            number += 1
            path = Path(f'{first}_{number}')
        if path != first:
            self.get_logger().warning(f'bag {first}: exists already; recording to {path}')
        return path
