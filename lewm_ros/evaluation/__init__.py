# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Measuring a bundle: closed-loop success, surprise, false alarms, probes, speed. No ROS."""
