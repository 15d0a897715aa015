# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From plans to commands: the command loop, playback by time, limits, watchdogs. Numpy only."""
