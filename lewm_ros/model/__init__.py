# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The network, in torch: no ROS, no files."""

from lewm_ros.model.batched import BatchedRollout
from lewm_ros.model.config import ARCHITECTURES, ModelConfig
from lewm_ros.model.fast import FastRollout
from lewm_ros.model.lewm import LeWorldModel
from lewm_ros.model.losses import prediction_loss, random_directions, sigreg

__all__ = [
    'ARCHITECTURES',
    'BatchedRollout',
    'FastRollout',
    'LeWorldModel',
    'ModelConfig',
    'prediction_loss',
    'random_directions',
    'sigreg',
]
