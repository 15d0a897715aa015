# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How a preset is trained; what is trained is in lewm_ros.model.config."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainConfig:
    """Recipe of a training run.

    Attributes:
        batch: windows in a batch.
        steps: optimiser steps.
        rate: peak learning rate; 1 % linear warm-up, then cosine to zero.
        weight_decay: of AdamW.
        clip: largest gradient norm.
        sigreg_weight: λ.
        directions: M, random projections of SIGReg in a step.
        held_out: share of the episodes kept for validation.
        colour_jitter: strength of :func:`lewm_ros.training.augment.jitter_colours`; 0 leaves the
            pictures as they are.

    """

    batch: int
    steps: int
    rate: float
    directions: int
    weight_decay: float = 1e-3
    clip: float = 1.0
    sigreg_weight: float = 0.09
    held_out: float = 0.05
    colour_jitter: float = 0.0


PRESETS = {
    # le-wm config/train/lewm.yaml; steps stand for 10 epochs of about 1.9 M clips.
    'paper': TrainConfig(batch=128, steps=150_000, rate=5e-5, directions=1024),
    'small': TrainConfig(batch=64, steps=12_000, rate=5e-4, directions=256),
}
