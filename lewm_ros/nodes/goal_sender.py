# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node behind `lewm goal`: publishes an image file as the goal and follows its state."""

from __future__ import annotations

import sys
import time

from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CompressedImage

from lewm_ros.nodes.base import LATCHED, STREAM, LewmNode
from lewm_ros.nodes.diagnostics import values_of
from lewm_ros.nodes.goals import read_image_file
from lewm_ros.nodes.messages import to_time
from lewm_ros.nodes.parameters import Parameter
from lewm_ros.planning.goal import GoalState

PERIOD = 0.1  #: of the checks [s]
#: How long to wait for a subscription, and from then on for planner_node [s].
DISCOVERY_TIMEOUT, ANSWER_TIMEOUT = 5.0, 10.0


class GoalSenderNode(LewmNode):
    """Publishes the goal once, and ends when planner_node has it, or with `wait` has reached it.

    The goal is known by its stamp. The exit status is 1 if nobody subscribes or answers, if the
    goal ends in another way, and after a signal.
    """

    PARAMETERS = (
        Parameter('image', '', 'PNG or JPEG of the whole camera image.'),
        Parameter('wait', False, 'End only when the goal is reached or has ended.'),
    )

    def configure(self) -> None:
        """Read the image."""
        self._image = read_image_file(self.params['image'])
        self._goal = self.publisher(CompressedImage, 'goal_image/compressed', LATCHED)

    def activate(self) -> None:
        """Wait for encoder_node."""
        self._since = time.monotonic()
        self._stamp: int | None = None  # of the goal [ns], once published
        self._state: str | None = None  # of the goal, once planner_node has it
        self._reachable = 'true'  # as of the last line about it
        self._encoder_text = 'nothing'
        self._encoder = f'{self.get_namespace()}/encoder_node'.lstrip('/')
        self.subscribe(DiagnosticArray, 'goal_status', self._on_goal_status, LATCHED)
        self.subscribe(DiagnosticArray, '/diagnostics', self._on_diagnostics, STREAM)
        self.every(PERIOD, self._check)

    def deactivate(self) -> None:
        """After a signal the goal is not known to be reached."""
        if self.finished is None:
            self.finish(1)

    def _check(self) -> None:
        waited = time.monotonic() - self._since
        if self._stamp is None:
            if self._goal.get_subscription_count():
                self._since, self._stamp = time.monotonic(), self.now()
                self._image.header.stamp = to_time(self._stamp)
                self._goal.publish(self._image)
            elif waited > DISCOVERY_TIMEOUT:
                self._fail(
                    f'nobody subscribes to {self._goal.topic_name}: is encoder_node active, in '
                    'this namespace and ROS_DOMAIN_ID?'
                )
        elif self._state is None and waited > ANSWER_TIMEOUT:
            self._fail(
                f'no {self.resolve_topic_name("goal_status")} of this goal after {waited:.0f} s; '
                f'encoder_node reports: {self._encoder_text}. The goal may become active later, '
                'unless encoder_node/clear_goal is called'
            )

    def _on_goal_status(self, message: DiagnosticArray, received: int) -> None:
        if self._stamp is None or self.finished is not None:
            return
        (status,) = message.status
        values = values_of(status)
        if values['goal_stamp'] != str(self._stamp):
            if self._state is not None:
                cleared = status.message == GoalState.NONE.value
                self._fail('the goal was cleared' if cleared else 'another goal was set')
            return
        if status.message != self._state:
            self._state = status.message
            seconds, distance = float(values['seconds']), values['distance']
            print(f'{self._state} after {seconds:.1f} s, distance {distance}', flush=True)
        reachable = values.get('reachable', self._reachable)  # untold after a timeout
        if reachable != self._reachable:
            self._reachable = reachable
            reason = values['reason']
            print(f'reachable: {reachable}' + (f', {reason}' if reason else ''), flush=True)
        if not self.params['wait'] or self._state == GoalState.REACHED.value:
            self.finish()
        elif self._state == GoalState.TIMEOUT.value:
            self.finish(1)

    def _on_diagnostics(self, message: DiagnosticArray, received: int) -> None:
        for status in message.status:
            if status.name == self._encoder:
                self._encoder_text = status.message

    def _fail(self, text: str) -> None:
        if self.finished is None:
            print(f'lewm: error: {text}', file=sys.stderr, flush=True)
            self.finish(1)
