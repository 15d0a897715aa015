# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What is started together, and how: in one process, in one each, or by `ros2 launch`."""
