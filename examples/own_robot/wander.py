# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Move the arm about at random, as a person with a gamepad would for a recording.

Varied commands make a good recording: fast and slow, all joints at once, the whole workspace.
If a recorder is running, every half minute becomes an episode.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import rclpy
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

#: Position limits [rad], largest change of position per tick [rad], and ticks per second [Hz].
HIGH, STEP, RATE = np.array([1.1, 1.5]), 0.1, 20.0
#: Length of an episode [s].
EPISODE = 30.0


class Wander:
    """A command for each tick: mostly a slowly changing velocity, at times other motions."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._position = np.zeros(2)
        self._velocity = np.zeros(2)  # of the largest step
        self._ticks = 0

    def step(self) -> np.ndarray:
        """Return the next positions (2,) [rad]."""
        if self._ticks == 0:
            self._ticks = int(self._rng.uniform(5, 15) * RATE)
            self._memory = np.exp(self._rng.uniform(np.log(0.1), np.log(0.8), 2))  # [s]
            self._speed = self._rng.uniform(0.3, 1.3, 2)
        self._ticks -= 1
        keep = np.exp(-1 / (RATE * self._memory))
        noise = self._rng.normal(size=2) * self._speed
        self._velocity = keep * self._velocity + np.sqrt(1 - keep**2) * noise
        position = self._position + np.clip(self._velocity, -1, 1) * STEP
        self._velocity[np.abs(position) > HIGH] *= -1
        self._position = np.clip(position, -HIGH, HIGH)
        return self._position


def main() -> None:
    """Move for some time, in episodes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seconds', type=float, default=60.0)
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    rclpy.init()
    node = Node('wander')
    commands = node.create_publisher(Float64MultiArray, '/arm/commands', 1)
    start, stop = (
        node.create_client(Trigger, f'/lewm/recorder_node/{name}_episode')
        for name in ('start', 'stop')
    )
    recording = start.wait_for_service(10.0)
    wander = Wander(args.seed)
    begin = time.monotonic()
    for tick in range(round(args.seconds * RATE)):
        commands.publish(Float64MultiArray(data=wander.step().tolist()))
        # The recorder must receive commands before an episode can start.
        if recording and tick % round(EPISODE * RATE) == RATE:
            stop.call_async(Trigger.Request()).add_done_callback(
                lambda _: start.call_async(Trigger.Request())
            )
        rclpy.spin_once(node, timeout_sec=0.0)
        time.sleep(max(begin + (tick + 1) / RATE - time.monotonic(), 0.0))
    if recording:
        stopped = stop.call_async(Trigger.Request())
        rclpy.spin_until_future_complete(node, stopped, timeout_sec=10.0)
        if not stopped.done():
            raise SystemExit('recorder_node does not answer: has it ended?')


if __name__ == '__main__':
    main()
