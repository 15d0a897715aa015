# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The simulated robot with goals and teleports, and all nodes of plan.launch.py."""

from launch import LaunchDescription

from lewm_ros.bringup.launching import description


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch lewm_ros demo.launch.py` starts."""
    return description('demo')
