# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Does the recorder keep every frame of a 30 Hz 640x480 camera while the other nodes run?

.venv/bin/python benchmarks/record.py [--frames 9000] [--rate 30] [--alone] [--kill] [--json]

A camera in a process of its own plays rendered images of the arm; encoder, planner, surprise
and controller (`lewm up plan`) and `lewm record` run beside it. The bag lies in a temporary
folder. Every frame carries its number, and is looked for in the bag. With ``--kill`` the
recorder gets SIGKILL at the end, and the bag is repaired first. Status 1 if a frame is missing
(after a kill: more than five seconds of them).
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader

from lewm_ros.bags.layout import header_stamp
from lewm_ros.bags.repair import repair
from lewm_ros.bringup.groups import profile_variable
from lewm_ros.files import share_dir

TOPIC = '/lewm/camera/image'
#: Rendered images, played over and over.
IMAGES = 300
#: Standard deviation of the sensor's noise [grey levels].
NOISE = 3.0


def render() -> np.ndarray:
    """Images (IMAGES, 480, 640, 3) uint8 of the arm under changing torques, with noise.

    A bare rendering takes next to nothing on the disk, which no camera's image does.
    """
    from lewm_ros.sim import make_task

    task = make_task('reacher', 640)
    rng = np.random.default_rng(0)
    images = []
    for index in range(IMAGES):
        if index % 15 == 0:
            torque = rng.uniform(-1.0, 1.0, 2)
        task.step(torque, round(1 / 30 / task.timestep))
        noise = rng.normal(0.0, NOISE, (480, 640, 1))
        images.append((task.render()[80:560] + noise).clip(0, 255).astype(np.uint8))
    task.close()
    return np.stack(images)


def camera(frames: int, rate: float) -> None:
    """Play the images over DDS; the number of a frame is its frame_id."""
    import rclpy
    from rclpy.qos import QoSProfile
    from sensor_msgs.msg import Image

    from lewm_ros.nodes.base import LATCHED
    from lewm_ros.nodes.messages import header, image_message

    messages = [image_message(image, header(1)) for image in render()]
    rclpy.init()
    node = rclpy.create_node('camera', namespace='lewm')
    goal = node.create_publisher(Image, 'goal_image', LATCHED)
    goal.publish(messages[-1])
    publisher = node.create_publisher(Image, 'camera/image', QoSProfile(depth=10))
    wanted = 1 + ('--alone' not in sys.argv)
    while publisher.get_subscription_count() < wanted:
        time.sleep(0.1)
    time.sleep(2.0)
    print('playing', flush=True)
    began = time.monotonic()
    late = 0.0
    for index in range(frames):
        wait = began + index / rate - time.monotonic()
        time.sleep(max(wait, 0.0))
        late = max(late, time.monotonic() - began - index / rate)
        message = messages[index % IMAGES]
        message.header = header(node.get_clock().now().nanoseconds, str(index))
        publisher.publish(message)
    print(f'{late:.3f}', flush=True)
    sys.stdin.read()  # a reliable subscription may still want some again
    rclpy.shutdown()


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run everything, return the figures."""
    profile = share_dir() / 'config' / 'fastdds.xml'
    environment = {'ROS_AUTOMATIC_DISCOVERY_RANGE': 'LOCALHOST', **os.environ}
    lewm = [sys.executable, '-m', 'lewm_ros.cli']
    bag = folder / 'bag'

    def start(command: list[str], **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, text=True, **more)

    running = [] if args.alone else [start([*lewm, 'up', 'plan'])]
    recorder = start([*lewm, 'record', '--contract', 'reacher', '--out', str(bag)])
    player = subprocess.Popen(
        [sys.executable, __file__, '--camera', '--frames', str(args.frames)]
        + ['--rate', str(args.rate)]
        + (['--alone'] if args.alone else []),
        env={**environment, profile_variable(): str(profile)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        if player.stdout is None or player.stdout.readline() != 'playing\n':
            raise SystemExit('the camera did not start')
        before = cpu(recorder.pid)
        began = time.monotonic()
        late = float(player.stdout.readline())
        seconds = time.monotonic() - began
        used = cpu(recorder.pid) - before
        if not args.kill:
            time.sleep(1.0)
        recorder.send_signal(signal.SIGKILL if args.kill else signal.SIGINT)
        status = recorder.wait(60)
    finally:
        for process in [recorder, *running]:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in [player, recorder, *running]:
            process.communicate(timeout=30)
    if args.kill:
        print(*repair(bag), sep='\n', file=sys.stderr)
    return {
        'frames_sent': args.frames,
        **look(bag),
        'seconds': round(seconds, 1),
        'recorder_status': status,
        'recorder_cores': round(used / seconds, 3),
        'camera_late_max_ms': round(1e3 * late, 1),
        'bag_mb': round(sum(p.stat().st_size for p in bag.iterdir()) / 1e6, 1),
    }


def look(bag: Path) -> dict[str, Any]:
    """Count what a bag holds; frames by their own numbers."""
    numbers: set[int] = set()
    waits: list[float] = []
    others: dict[str, int] = {}
    with AnyReader([bag]) as reader:
        for connection, stamp, data in reader.messages():
            if connection.topic == TOPIC:
                message: Any = reader.deserialize(data, connection.msgtype)
                numbers.add(int(message.header.frame_id))
                waits.append((stamp - header_stamp(bytes(data[:12]))) / 1e6)
            else:
                others[connection.topic] = others.get(connection.topic, 0) + 1
    return {
        'frames_recorded': len(numbers),
        'last_frame': max(numbers, default=-1),
        'receive_ms_p50': round(float(np.percentile(waits, 50)), 2),
        'receive_ms_p99': round(float(np.percentile(waits, 99)), 2),
        'other_messages': others,
    }


def cpu(pid: int) -> float:
    """Processor time of a process so far [s]."""
    fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')


def main() -> int:
    """Parse the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--frames', type=int, default=9000, help='sent by the camera')
    parser.add_argument('--rate', type=float, default=30.0, help='of the camera [Hz]')
    parser.add_argument('--alone', action='store_true', help='without the other nodes')
    parser.add_argument('--kill', action='store_true', help='SIGKILL to the recorder at the end')
    parser.add_argument('--json', action='store_true', help='print figures as JSON')
    parser.add_argument('--camera', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.camera:
        camera(args.frames, args.rate)
        return 0
    with tempfile.TemporaryDirectory(prefix='lewm_record_') as folder:
        figures = measure(args, Path(folder))
    lost = args.frames - figures['frames_recorded']
    figures['frames_lost'] = lost
    print(json.dumps(figures) if args.json else '\n'.join(f'{k}: {v}' for k, v in figures.items()))
    return int(lost > (5 * args.rate if args.kill else 0))


if __name__ == '__main__':
    sys.exit(main())
