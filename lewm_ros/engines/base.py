# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What every engine offers, and the checks of its inputs that all of them share."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from lewm_ros.bundle import Manifest
from lewm_ros.errors import ModelError


class Engine(Protocol):
    """Runs one bundle. S samples, N' blocks, H frames of context, D latent size, k·A a block."""

    name: str  #: one of ``lewm_ros.engines.ENGINES``
    provider: str  #: what computes, e.g. 'CPUExecutionProvider' or 'cuda'

    def encode(self, image: np.ndarray) -> np.ndarray:
        """(S, S, 3) uint8 from ``imaging.prepare`` → latent (D,) float32."""
        ...

    def rollout(self, context: np.ndarray, past: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Predict the latents that candidate plans lead to.

        Args:
            context: (H, D) latents, oldest first.
            past: (H − 1, k·A) normalised blocks between them.
            actions: (S, N', k·A) normalised blocks, 1 ≤ N' ≤ the bundle's horizon; the first
                leaves the newest frame.

        Returns:
            (S, N', D) float32, the latent after each block.

        """
        ...


def check_image(manifest: Manifest, image: np.ndarray) -> None:
    """Raise ModelError unless the image is what ``imaging.prepare`` makes for this model."""
    size = manifest.image_size
    if image.shape != (size, size, 3) or image.dtype != np.uint8:
        raise ModelError(
            f'image has shape {image.shape}, {image.dtype}: the model reads {(size, size, 3)}, '
            'uint8'
        )


def check_rollout(
    manifest: Manifest, context: np.ndarray, past: np.ndarray, actions: np.ndarray
) -> None:
    """Raise ModelError, naming both shapes, unless a rollout's inputs fit the model."""
    block = manifest.frameskip * manifest.contract.action.size
    for name, array, shape in (
        ('context', context, (manifest.history, manifest.latent_size)),
        ('past', past, (manifest.history - 1, block)),
    ):
        if array.shape != shape:
            raise ModelError(f'{name} has shape {array.shape}: the model reads {shape}')
    if (
        actions.ndim != 3
        or len(actions) == 0
        or not 1 <= actions.shape[1] <= manifest.horizon
        or actions.shape[2] != block
    ):
        raise ModelError(
            f'actions have shape {actions.shape}: the model reads (S, N, {block}) with S at least '
            f'1 and N in [1, {manifest.horizon}]'
        )
