# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a robot is (contract), and what the model sees of it (images, history). No ROS, no torch.

It also has the validation of values from files, and the YAML reader.
"""
