# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How much CPU time does view_node take without subscribers, and with them?

.venv/bin/python benchmarks/view.py [--seconds 20] [--json]

The node runs in a process of its own; this one publishes 64 px frames, latents and scores at 20 Hz,
plans at 4 Hz, and subscribes to one output after the other. Processor time is that of the node's
process, including drawing, serialising and sending. The baseline is the same process before it is
activated: the services, timers and diagnostics that every node has.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import time

import numpy as np
import rclpy
from sensor_msgs.msg import Image
from std_msgs.msg import Float32
from visualization_msgs.msg import MarkerArray

from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, image_message, vector_message

RATE = 20.0  #: of frames [Hz]
SIZE = 64  #: of frames [px], and of latents
SETTLE = 3.0  #: before each measurement [s]


def cpu(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def start(autostart: bool) -> subprocess.Popen[bytes]:
    """Start view_node."""
    arguments = ['-r', '__ns:=/lewm', '-p', 'bundle:=reacher', '-p', f'autostart:={autostart}']
    command = [sys.executable, '-m', 'lewm_ros.bringup.compose', 'view_node', '--ros-args']
    return subprocess.Popen([*command, *arguments])


class Robot:
    """What the node listens to."""

    def __init__(self) -> None:
        self.node = rclpy.create_node('robot', namespace='lewm')
        self._image = self.node.create_publisher(Image, 'image', 5)
        self._latent = self.node.create_publisher(Image, 'latent', 10)
        self._parts = self.node.create_publisher(Image, 'surprise/contributions', 10)
        self._plan = self.node.create_publisher(Image, 'plan/latents', 1)
        threshold = self.node.create_publisher(Float32, 'surprise/threshold', LATCHED)
        threshold.publish(Float32(data=16.0))
        self._rng = np.random.default_rng(0)

    def run(self, seconds: float) -> None:
        """Publish for a time, and receive."""
        began = time.monotonic()
        for index in range(round(seconds * RATE)):
            while (left := began + index / RATE - time.monotonic()) > 0:
                rclpy.spin_once(self.node, timeout_sec=left)
            head = header(self.node.get_clock().now().nanoseconds, 'camera_optical')
            image = self._rng.integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
            self._image.publish(image_message(image, head))
            self._latent.publish(vector_message(self._rng.normal(size=SIZE), head))
            if index % 5 == 0:  # once a block: now, six blocks, the goal
                self._plan.publish(vector_message(self._rng.normal(size=(8, SIZE)), head))
            self._parts.publish(vector_message(self._rng.exponential(1 / SIZE, SIZE), head))


def share(robot: Robot, process: subprocess.Popen[bytes], seconds: float) -> float:
    """Measure the part of a core that a process takes [%]."""
    robot.run(SETTLE)
    before, began = cpu(process.pid), time.monotonic()
    robot.run(seconds)
    return 100 * (cpu(process.pid) - before) / (time.monotonic() - began)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a node."""
    process.send_signal(signal.SIGINT)
    process.wait(10)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seconds', type=float, default=20.0, help='of each measurement [s]')
    parser.add_argument('--json', action='store_true')
    args = parser.parse_args()
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    rclpy.init()
    robot = Robot()
    figures = {}
    process = start(autostart=False)
    figures['not activated'] = share(robot, process, args.seconds)
    end(process)
    process = start(autostart=True)
    figures['nobody looks'] = share(robot, process, args.seconds)
    for name in ('plot', 'image', 'marker', 'plan'):
        kind = MarkerArray if name == 'marker' else Image
        looking = robot.node.create_subscription(kind, f'view/{name}', lambda m: None, 1)
        robot.run(60.0 if name == 'plot' else 0.0)  # until the trace is full
        figures[f'view/{name}'] = share(robot, process, args.seconds)
        robot.node.destroy_subscription(looking)
    end(process)
    rclpy.shutdown()
    if args.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f'{name:<24} {value:5.1f} % of a core')


if __name__ == '__main__':
    main()
