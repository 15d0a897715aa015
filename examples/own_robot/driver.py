# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Example of your own robot: the ROS 2 driver of a simulated arm with a realistic camera.

It takes the place of a real robot's driver, and uses only the offscreen camera of lewm_ros. Two
position servos, in real time:

- ``/joint_states`` (sensor_msgs/msg/JointState) at 50 Hz
- ``/camera/image_raw/compressed`` (sensor_msgs/msg/CompressedImage): JPEG of 640 × 480 pixels at
  30 Hz with noise and jitter, stamped at the exposure, published 60 ms later
- ``/arm/commands`` (std_msgs/msg/Float64MultiArray): positions [rad], held until the next
- ``~/push`` (std_srvs/srv/Trigger): somebody pushes the arm
"""

from __future__ import annotations

from collections import deque
from pathlib import Path
import time

import cv2
import numpy as np
import rclpy
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from lewm_ros.sim.rendering import Camera, load_mujoco

JOINTS = ('shoulder', 'elbow')
#: Rates of the control loop, the joint states and the frames [Hz].
LOOP, STATES, FRAMES = 200.0, 50.0, 30.0
#: Time from exposure to publication, and standard deviation of the exposure time [s].
LATENCY, JITTER = 0.06, 0.003
#: Standard deviation of a pixel's noise, of 255; quality of the JPEG.
NOISE, QUALITY = 4.0, 85
#: Largest change of a joint's velocity by a push [rad/s].
PUSH = 12.0
#: Longest lag that the simulation catches up with [s].
BEHIND = 0.2


class ArmDriver(Node):
    """The arm behind its topics."""

    def __init__(self) -> None:
        super().__init__('arm_driver')
        mujoco = load_mujoco()
        self._step = mujoco.mj_step
        self._model = mujoco.MjModel.from_xml_path(str(Path(__file__).with_name('arm.xml')))
        self._data = mujoco.MjData(self._model)
        self._camera = Camera(self._model, 'overhead', (480, 640))
        self._rng = np.random.default_rng(0)
        # Noise is expensive to draw: each frame takes a random crop of one noise image.
        self._noise = self._rng.normal(0, NOISE, (960, 1280, 3)).astype(np.int16)
        self._frames: deque[tuple[float, CompressedImage]] = deque()  # when due, and what
        self._start = self._states_due = self._frame_due = time.monotonic()
        self._simulated = 0.0
        self._state = self.create_publisher(JointState, '/joint_states', 10)
        self._image = self.create_publisher(
            CompressedImage, '/camera/image_raw/compressed', qos_profile_sensor_data
        )
        self.create_subscription(Float64MultiArray, '/arm/commands', self._on_command, 1)
        self.create_service(Trigger, '~/push', self._on_push)
        self.create_timer(1 / LOOP, self._loop)

    def _on_command(self, message: Float64MultiArray) -> None:
        if len(message.data) == len(JOINTS):
            low, high = self._model.jnt_range.T
            self._data.ctrl[:] = np.clip(message.data, low, high)

    def _on_push(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._data.qvel[:] += PUSH * self._rng.choice([-1, 1], 2) * self._rng.uniform(0.5, 1, 2)
        response.success = True
        return response

    def _loop(self) -> None:
        now = time.monotonic()
        while self._frames and self._frames[0][0] <= now:
            self._image.publish(self._frames.popleft()[1])
        self._simulate(now - self._start)
        if now >= self._states_due:
            self._states_due = max(self._states_due + 1 / STATES, now)
            message = JointState(name=JOINTS)
            message.header.stamp = self.get_clock().now().to_msg()
            message.position = self._data.qpos.tolist()
            message.velocity = self._data.qvel.tolist()
            self._state.publish(message)
        if now >= self._frame_due:
            self._frame_due = max(self._frame_due + 1 / FRAMES, now)
            self._expose(now)

    def _simulate(self, until: float) -> None:
        self._simulated = max(self._simulated, until - BEHIND)
        while self._simulated < until:
            self._step(self._model, self._data)
            self._simulated += self._model.opt.timestep

    def _expose(self, now: float) -> None:
        message = CompressedImage(format='jpeg')
        message.header.stamp = self.get_clock().now().to_msg()
        message.header.frame_id = 'camera_optical_frame'
        x, y = self._rng.integers(0, 640), self._rng.integers(0, 480)
        frame = self._camera.render(self._data) + self._noise[y : y + 480, x : x + 640]
        bgr = np.clip(frame, 0, 255).astype(np.uint8)[..., ::-1]
        message.data = cv2.imencode('.jpg', bgr, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        self._frames.append((now + LATENCY, message))


def main() -> None:
    """Drive the arm until a signal."""
    rclpy.init()
    try:
        rclpy.spin(ArmDriver())
    except KeyboardInterrupt:
        pass
    except Exception:
        if rclpy.ok():  # else a signal has ended it, perhaps while it published
            raise


if __name__ == '__main__':
    main()
