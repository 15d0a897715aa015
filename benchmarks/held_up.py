# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How often, and for how long, does a stopped subscriber block its publisher?

.venv/bin/python benchmarks/held_up.py [--trials 3000] [--rate 2000]

A process publishes small messages to another one, which is stopped (SIGSTOP) for 30 ms at random
moments, ``--trials`` times. Printed as JSON for the profile with and without shared memory: the
trials in which one call of publish took at least that long, and the longest call. A killed process
has the same effect. The rate is far above a robot's, so that enough stops fall on the critical
moment. Needs the default discovery range: LOCALHOST always adds shared memory.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np

from lewm_ros.bringup.groups import profile_variable
from lewm_ros.files import share_dir

STOPPED = 0.03  #: [s]
PROFILE = profile_variable()


def subscribe() -> None:
    """Take messages until killed."""
    import rclpy
    from std_msgs.msg import Float64MultiArray

    rclpy.init()
    node = rclpy.create_node('subscriber')
    node.create_subscription(Float64MultiArray, 'held_up', lambda message: None, 10)
    rclpy.spin(node)


def publish(trials: int, rate: float) -> None:
    """Publish, and stop the subscriber now and then; print what the calls took."""
    import rclpy
    from std_msgs.msg import Float64MultiArray

    folder = share_dir() / 'config'
    environment = os.environ | {PROFILE: str(folder / 'fastdds.xml')}
    command = [sys.executable, __file__, '--role', 'subscriber']
    subscriber = subprocess.Popen(command, env=environment)
    rclpy.init()
    node = rclpy.create_node('publisher')
    publisher = node.create_publisher(Float64MultiArray, 'held_up', 1)
    message = Float64MultiArray(data=[0.0, 1.0])
    rng = np.random.default_rng(0)

    def longest(seconds: float) -> float:
        """Publish for some time; return the longest call [s]."""
        calls = [0.0]
        end = time.monotonic() + seconds
        while (began := time.monotonic()) < end:
            publisher.publish(message)
            calls.append(time.monotonic() - began)
            time.sleep(1 / rate)
        return max(calls)

    try:
        while not publisher.get_subscription_count():
            time.sleep(0.05)
        calls = []
        for _ in range(trials):
            longest(rng.uniform(0.002, 0.01))
            subscriber.send_signal(signal.SIGSTOP)
            calls.append(longest(STOPPED))
            subscriber.send_signal(signal.SIGCONT)
    finally:
        subscriber.kill()
        subscriber.wait()
    held = sum(call >= STOPPED for call in calls)
    print(json.dumps({'trials': trials, 'held_up': held, 'longest_s': max(calls)}))


def main() -> None:
    """Run a publisher with each profile, one after the other."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--trials', type=int, default=3000)
    parser.add_argument('--rate', type=float, default=2000.0, help='of messages [Hz]')
    parser.add_argument('--role', choices=('publisher', 'subscriber'), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.role == 'subscriber':
        subscribe()
    elif args.role == 'publisher':
        publish(args.trials, args.rate)
    else:
        found = {}
        for name in ('fastdds.xml', 'fastdds_small.xml'):
            environment = os.environ | {PROFILE: str(share_dir() / 'config' / name)}
            command = [sys.executable, __file__, '--role', 'publisher']
            command += ['--trials', str(args.trials), '--rate', str(args.rate)]
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE)
            found[name] = json.loads(done.stdout)
        print(json.dumps(found, indent=1))


if __name__ == '__main__':
    main()
