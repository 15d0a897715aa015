# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From windows of recorded bags to a trained and exported bundle (lewm_ros.training)."""
