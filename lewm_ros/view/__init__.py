# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Surprise for operators: a trace of scores, drawn as images or text. No ROS."""
