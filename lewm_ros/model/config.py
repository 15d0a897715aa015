# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Architecture settings of a LeWorldModel, and two named architectures."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from lewm_ros.errors import ModelError
from lewm_ros.robot import checks


@dataclass(frozen=True)
class ModelConfig:
    """Architecture of a LeWorldModel. Sizes are in elements, ``image_size`` in [px]."""

    image_size: int
    #: 'vit' (published), 'conv_bn' (small CPUs), 'conv' (the same without BatchNorm, of older
    #: bundles) or 'onnx' (a graph, not in the weights).
    encoder: str
    encoder_width: int
    latent_size: int
    projector_hidden: int
    predictor_width: int
    predictor_depth: int
    predictor_heads: int
    predictor_head_size: int
    predictor_mlp: int
    action_size: int
    frameskip: int = 5  #: k, control ticks in a block
    history: int = 3  #: H, frames of context
    action_smoothed: int = 10
    action_hidden: int = 768
    dropout: float = 0.1  #: of the predictor, while it is trained
    patch_size: int = 14  #: ViT only
    encoder_depth: int = 12  #: ViT only
    encoder_heads: int = 3  #: ViT only
    encoder_mlp: int = 768  #: ViT only

    def __post_init__(self) -> None:
        checks.one_of('encoder', self.encoder, ('vit', 'conv_bn', 'conv', 'onnx'))
        checks.number('dropout', self.dropout, low=0, high=1, below=True)
        for key, value in asdict(self).items():
            if key not in ('encoder', 'dropout'):
                most = 64 if key in ('predictor_depth', 'encoder_depth') else 65536
                checks.whole(key, value, low=1, high=most)
        step = {'vit': self.patch_size, 'onnx': 1}.get(self.encoder, 16)
        if self.image_size % step:
            raise checks.CheckError(
                f'image_size is {self.image_size}: expected a multiple of {step} for the '
                f'{self.encoder} encoder'
            )

    @classmethod
    def parse(cls, data: Any) -> ModelConfig:
        """Build from plain data (a manifest). Raises ModelError naming what is wrong."""
        found = checks.Findings()
        try:
            values = checks.section('architecture', data, cls, found)
            found.report()
            return cls(**values or {})
        except checks.CheckError as error:
            raise ModelError(f'architecture does not fit this version: {error}') from error

    @property
    def block_size(self) -> int:
        """Length of a flattened action block, k·A."""
        return self.frameskip * self.action_size

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`parse` reads back."""
        return asdict(self)


def paper(action_size: int) -> ModelConfig:
    """Return the published network (arXiv 2603.19312 section 3.1; 18.0 M parameters)."""
    return ModelConfig(
        image_size=224,
        encoder='vit',
        encoder_width=192,
        latent_size=192,
        projector_hidden=2048,
        predictor_width=192,
        predictor_depth=6,
        predictor_heads=16,
        predictor_head_size=64,
        predictor_mlp=2048,
        action_size=action_size,
    )


def small(action_size: int) -> ModelConfig:
    """Return a network that trains on one CPU core in an hour or two (64 px)."""
    return ModelConfig(
        image_size=64,
        encoder='conv_bn',  # without BatchNorm it learns slowly: docs/results.md
        encoder_width=192,
        latent_size=64,
        projector_hidden=512,
        predictor_width=128,
        predictor_depth=3,
        predictor_heads=4,
        predictor_head_size=32,
        predictor_mlp=512,
        action_size=action_size,
        action_hidden=256,
        dropout=0.0,  # 0.1 doubles the prediction error: docs/results.md
    )


ARCHITECTURES = {'paper': paper, 'small': small}
