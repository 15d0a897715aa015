# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a robot is (contract), and what the model sees of it (images, history). No ROS, no torch.

Here are also the checks of values that come from files, and the reader of YAML.
"""
