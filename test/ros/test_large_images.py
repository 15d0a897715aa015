# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Images above 512 KiB, best effort: what config/fastdds.xml is for."""

from __future__ import annotations

import sys

from harness import ROOT, Bench, Process
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image

from lewm_ros.bringup.groups import profile_variable

FRAMES = 90
CAMERA = f"""
import array, time
from lewm_ros.bringup.groups import prepare_environment
prepare_environment('plan')
import rclpy
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
rclpy.init()
node = rclpy.create_node('camera', namespace='lewm')
qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
publisher = node.create_publisher(Image, 'camera/image', qos)
while not publisher.get_subscription_count():
    time.sleep(0.05)
time.sleep(0.5)
image = Image(height=480, width=640, encoding='rgb8', step=1920)
image.data = array.array('B', bytes(480 * 1920))
for number in range({FRAMES}):
    image.header.frame_id = str(number)
    publisher.publish(image)
    time.sleep(1 / 30)
time.sleep(1.0)
"""


def test_every_frame_of_a_vga_camera_arrives(bench: Bench):
    """With Fast DDS's default segment of 512 KiB nearly all frames would be lost."""
    qos = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    heard = bench.listen(Image, 'camera/image', qos)
    with Process([sys.executable, '-c', CAMERA], bench.domain, bench.folder) as camera:
        bench.until(lambda: not camera.running, 'the camera does not end', 30.0)
        assert camera.wait() == 0, camera.output
    assert [m.header.frame_id for _, m in heard] == [str(n) for n in range(FRAMES)]


def test_who_handles_no_images_keeps_out_of_shared_memory(bench: Bench, monkeypatch):
    """A process that dies with a lock in shared memory cannot block the commands then."""
    # Each node alone: with LOCALHOST the middleware adds shared memory whatever a profile says.
    monkeypatch.setenv('ROS_AUTOMATIC_DISCOVERY_RANGE', 'OFF')
    monkeypatch.setenv(profile_variable(), str(ROOT / 'config' / 'fastdds.xml'))
    with (
        bench.nodes('encoder_node', bundle='reacher') as encoder,
        bench.nodes('controller_node', contract='reacher') as controller,
    ):
        bench.until(encoder.segments, 'images without shared memory')
        bench.until(lambda: 'nobody publishes' in controller.output, 'the controller does nothing')
        assert not controller.segments()
