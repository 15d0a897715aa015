# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The recorder: records the camera, the commands and the nodes' outputs into a bag."""

from launch import LaunchDescription

from lewm_ros.bringup.launching import description


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch lewm_ros record.launch.py` starts."""
    return description('record')
