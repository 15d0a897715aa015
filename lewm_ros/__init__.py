# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""LeWorldModel on robots: latent world-model control and calibrated surprise for ROS 2."""

__version__ = '0.1.0'
