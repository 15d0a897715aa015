# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Camera, commands and what the nodes say of them, into a bag: the recorder."""

from launch import LaunchDescription

from lewm_ros.bringup.launching import description


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch lewm_ros record.launch.py` starts."""
    return description('record')
