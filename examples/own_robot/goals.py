# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Send the arm to frames of a recording, and measure how near it comes; push it, if asked.

The recording has a pose for every frame, which planner_node never sees: it gets the image. Poses
are compared with ``/joint_states``.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import math
from pathlib import Path
import time

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import CompressedImage, JointState
from std_srvs.srv import Trigger

from lewm_ros.evaluation.intervals import wilson

CAMERA, STATES = '/camera/image_raw/compressed', '/joint_states'
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
EVENTS = QoSProfile(depth=32, durability=DurabilityPolicy.TRANSIENT_LOCAL)
#: The arm is at its goal once every joint stays within this [rad] for this long [s].
TOLERANCE, STAY = 0.15, 1.0
#: An anomaly must be raised within this time after a push [s].
NOTICED = 1.0


def frames_of(bag: Path, count: int, seed: int) -> list[tuple[bytes, np.ndarray]]:
    """Choose frames of a bag: JPEG and joints' positions (2,) [rad], those of the nearest state."""
    images: list[tuple[int, bytes]] = []
    poses: list[tuple[int, list[float]]] = []
    with AnyReader([bag]) as reader:
        wanted = [c for c in reader.connections if c.topic in (CAMERA, STATES)]
        for connection, _, data in reader.messages(wanted):
            message = reader.deserialize(data, connection.msgtype)
            stamp = message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            if connection.topic == CAMERA:
                images.append((stamp, bytes(message.data)))
            else:
                poses.append((stamp, list(message.position)))
    stamps = np.array([stamp for stamp, _ in poses])
    chosen = np.random.default_rng(seed).choice(len(images), count, replace=False)
    return [
        (images[i][1], np.array(poses[int(np.abs(stamps - images[i][0]).argmin())][1]))
        for i in chosen
    ]


class Operator(Node):
    """Publishes goals, listens to the arm and to anomalies."""

    def __init__(self) -> None:
        super().__init__('operator')
        self._goal = self.create_publisher(CompressedImage, '/lewm/goal_image/compressed', LATCHED)
        self.push = self.create_client(Trigger, '/arm_driver/push')
        self.pose = np.full(2, math.nan)
        self.opened: list[str] = []
        self.controller: dict[str, str] = {}
        self.create_subscription(JointState, STATES, self._on_state, 1)
        self.create_subscription(DiagnosticArray, '/lewm/anomaly', self._on_anomaly, EVENTS)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, 10)

    def _on_state(self, message: JointState) -> None:
        self.pose = np.array(message.position)

    def _on_anomaly(self, message: DiagnosticArray) -> None:
        self.opened += [s.message for s in message.status if s.level == s.WARN]

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if 'controller_node' in status.name:
                self.controller = {v.key: v.value for v in status.values}

    def goto(self, image: bytes) -> None:
        """Make an image the goal."""
        message = CompressedImage(format='jpeg', data=image)
        message.header.stamp = self.get_clock().now().to_msg()
        self._goal.publish(message)

    def spin_for(self, seconds: float, each: Callable[[], object] = lambda: None) -> None:
        """Handle messages for some time, and call something after each."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            rclpy.spin_once(self, timeout_sec=0.02)
            each()


def visit(operator: Operator, image: bytes, goal: np.ndarray, seconds: float) -> bool:
    """Whether the arm is at a goal during the last second that it is given."""
    start = np.abs(operator.pose - goal).max()
    operator.goto(image)
    operator.spin_for(seconds - STAY)
    errors: list[np.ndarray] = []
    operator.spin_for(STAY, lambda: errors.append(np.abs(operator.pose - goal)))
    worst = np.max(errors, axis=0)
    there = bool((worst < TOLERANCE).all())
    print(f'{"reached" if there else "missed "}  from {start:.2f} rad, ends within', worst.round(3))
    return there


def main() -> None:
    """Visit goals, and push the arm at each if asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--data', type=Path, required=True, help='a bag of the arm')
    parser.add_argument('--goals', type=int, default=20)
    parser.add_argument('--seconds', type=float, default=8.0, help='for each')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--push', action='store_true', help='push the arm after each goal')
    args = parser.parse_args()
    goals = frames_of(args.data, args.goals, args.seed)
    rclpy.init()
    operator = Operator()
    operator.spin_for(2.0)
    reached = noticed = 0
    before = len(operator.opened)  # of earlier events
    for image, goal in goals:
        reached += visit(operator, image, goal, args.seconds)
        if args.push:
            alarms = len(operator.opened)
            operator.push.call_async(Trigger.Request())
            operator.spin_for(NOTICED)
            noticed += len(operator.opened) > alarms
            operator.spin_for(2.0)  # let it end
    low, high = wilson(reached, args.goals)
    print(f'goals reached and held: {reached}/{args.goals} ({low:.2f}–{high:.2f})')
    figures = operator.controller
    changed, ticks = (figures.get(key, 'unknown') for key in ('clipped', 'ticks'))
    print(f'commands changed by the limits: {changed} of {ticks}')
    if args.push:
        print(f'pushes noticed within {NOTICED:g} s: {noticed}/{args.goals}')
    else:
        print(f'anomalies: {len(operator.opened) - before} in {args.goals * args.seconds:.0f} s')


if __name__ == '__main__':
    main()
