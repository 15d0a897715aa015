# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How each architecture of lewm_ros.model.config is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
import math

from lewm_ros.errors import ModelError
from lewm_ros.model import ARCHITECTURES, ModelConfig
from lewm_ros.robot.checks import CheckError
from lewm_ros.training.frozen import FrozenEncoder


@dataclass(frozen=True)
class PLDMWeights:
    """Weights of PLDM's terms beside the prediction loss, from stable-worldmodel's pldm.yaml.

    Two terms are off. The paper (arXiv 2502.14819) tunes its weights for each environment.
    """

    variance: float = 18.0  #: hinge on the standard deviation over the batch
    variance_in_time: float = 0.7  #: likewise over the frames of a window
    covariance: float = 12.0  #: between dimensions, over the batch
    covariance_in_time: float = 0.0  #: likewise over the frames of a window
    smoothness: float = 0.2  #: squared difference of consecutive latents
    inverse_dynamics: float = 0.0  #: squared error of the block predicted from two latents


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run. Raises ModelError for one that is out of range.

    Attributes:
        batch: windows in a batch.
        steps: optimiser steps.
        lr: peak learning rate; 1 % linear warm-up, then cosine to zero.
        weight_decay: of AdamW.
        grad_clip_norm: largest gradient norm.
        sigreg_weight: λ.
        num_projections: M, random projections of SIGReg in a step.
        held_out: share of the episodes kept for validation.
        colour_jitter: strength of :func:`lewm_ros.training.augment.jitter_colours`; 0 leaves the
            images as they are.
        image_size: of the images that the model reads [px]; None: as the architecture has it.
        objective: what is added to the prediction loss, of
            :data:`lewm_ros.training.objectives.OBJECTIVES`.
        pldm: weights of the objective 'pldm'.
        refine: train the predictor for as many steps more, on the latents of the finished encoder.

    """

    batch: int
    steps: int
    lr: float
    num_projections: int
    weight_decay: float = 1e-3
    grad_clip_norm: float = 1.0
    sigreg_weight: float = 0.09
    held_out: float = 0.05
    colour_jitter: float = 0.0
    image_size: int | None = None
    objective: str = 'lewm'
    pldm: PLDMWeights = PLDMWeights()
    refine: bool = False

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ModelError(f'steps is {self.steps}: expected at least 1')
        if not 0 < self.lr < math.inf:
            raise ModelError(f'lr is {self.lr}: expected more than 0')
        if not 0 <= self.sigreg_weight < math.inf:
            raise ModelError(f'sigreg_weight is {self.sigreg_weight}: expected 0 or more')
        if self.objective != 'lewm' and self.sigreg_weight != TrainConfig.sigreg_weight:
            raise ModelError(
                f'sigreg_weight is {self.sigreg_weight}: there is no SIGReg with objective '
                f'{self.objective}, as with a frozen encoder'
            )
        if not 0 <= self.colour_jitter < math.inf:
            raise ModelError(f'colour_jitter is {self.colour_jitter}: expected 0 or more')

    def model(
        self, architecture: str, action_size: int, frozen: FrozenEncoder | None = None
    ) -> ModelConfig:
        """Return an architecture. Raises ModelError for an image size that it cannot have."""
        config = ARCHITECTURES[architecture](action_size)
        if frozen is not None:
            if self.image_size not in (None, frozen.image_size):
                raise ModelError(
                    f'image_size is {self.image_size}: encoder {frozen.path} reads '
                    f'{frozen.image_size} px'
                )
            sizes = {'image_size': frozen.image_size, 'latent_size': frozen.latent_size}
            config = replace(config, encoder='onnx', **sizes)
            if replace(frozen.architecture(config), encoder='onnx') != config:
                raise ModelError(
                    f'encoder {frozen.path}: the architecture of its bundle is not that of model '
                    f'{architecture} with {action_size} action dimensions; to take its encoder '
                    'alone, give the file'
                )
            return config
        if self.image_size is None:
            return config
        try:
            return replace(config, image_size=self.image_size)
        except CheckError as error:
            raise ModelError(str(error)) from error


CONFIGS = {
    # le-wm config/train/lewm.yaml; steps stand for 10 epochs of about 1.9 M clips.
    'paper': TrainConfig(batch=128, steps=150_000, lr=5e-5, num_projections=1024),
    'small': TrainConfig(batch=64, steps=12_000, lr=5e-4, num_projections=256, refine=True),
}
