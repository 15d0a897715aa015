# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Surprise: score, calibrated threshold, events. Numpy only; no ROS, no torch."""
