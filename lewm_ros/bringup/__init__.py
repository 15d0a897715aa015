# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Starting nodes: in one process, in one process each, or by `ros2 launch`."""
