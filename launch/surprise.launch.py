# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Anomaly detection for a robot that something else drives: encoder and surprise."""

from launch import LaunchDescription

from lewm_ros.bringup.launching import description


def generate_launch_description() -> LaunchDescription:
    """Return what `ros2 launch lewm_ros surprise.launch.py` starts."""
    return description('surprise')
