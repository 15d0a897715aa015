# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A robot that reaches goal images: encoder, planner, surprise and controller."""

from launch import LaunchDescription

from lewm_ros.bringup.launching import description


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch lewm_ros plan.launch.py` starts."""
    return description('plan')
