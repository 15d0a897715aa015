# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From recorded bags to a trained, exported and evaluated bundle (installed as lewm_training)."""
