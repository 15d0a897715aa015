# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Time as ROS counts it: whole nanoseconds."""

from __future__ import annotations

NS_PER_S = 1_000_000_000  #: nanoseconds in a second
