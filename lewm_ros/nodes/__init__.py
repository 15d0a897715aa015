# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The ROS 2 nodes: thin translators around the core. The only folder that imports rclpy."""
