# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Interface of the engines, and the input checks that all of them share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
import re
from typing import Any, Protocol

import numpy as np

from lewm_ros.bundle import Manifest
from lewm_ros.errors import EngineError, ModelError

PRECISIONS = ('auto', 'f32', 'bf16')
_BF16_FLAGS = {'amx_bf16', 'avx512_bf16', 'bf16'}


class Engine(Protocol):
    """Runs one bundle. S samples, N' blocks, H frames of context, D latent size, k·A a block."""

    name: str  #: one of ``lewm_ros.engines.ENGINES``
    provider: str  #: what computes, e.g. 'CPUExecutionProvider' or 'cuda'
    precision: str  #: of the matrix products of a rollout, 'f32' or 'bf16'
    captures: bool = False  #: runs graphs captured by shape: a call with new shapes takes seconds

    def encode(self, image: np.ndarray) -> np.ndarray:
        """(S, S, 3) uint8 from ``imaging.prepare`` → latent (D,) float32; always in f32."""
        ...

    def rollout(
        self, context: np.ndarray, past: np.ndarray, actions: np.ndarray, exact: bool = True
    ) -> np.ndarray:
        """Predict the latents that candidate plans lead to.

        The first call with a new number of samples may take seconds: call once with each number
        before timing matters.

        Args:
            context: (H, D) latents, oldest first.
            past: (H − 1, k·A) normalised blocks between them.
            actions: (S, N', k·A) normalised blocks, 1 ≤ N' ≤ the engine's horizon; the first
                leaves the newest frame.
            exact: compute in f32 whatever the engine's precision.

        Returns:
            (S, N', D) float32, the latent after each block.

        Raises ModelError if a shape does not match.

        """
        ...

    def costs(
        self,
        context: np.ndarray,
        past: np.ndarray,
        actions: np.ndarray,
        cost: Callable[..., Any],
        arrays: Sequence[np.ndarray],
        exact: bool = True,
    ) -> np.ndarray:
        """Return the costs (S,) of candidate plans, computed on the device of the rollout.

        Args:
            context: see :meth:`rollout`.
            past: see :meth:`rollout`.
            actions: see :meth:`rollout`.
            cost: function of the latents (S, N', D) and ``arrays`` that returns (S,). It accepts
                numpy arrays and torch tensors, such as :func:`lewm_ros.planning.goal_cost`.
            arrays: its other arguments.
            exact: see :meth:`rollout`; a GPU computes the cost in f32.

        """
        return np.asarray(cost(self.rollout(context, past, actions, exact), *arrays))


def check_image(manifest: Manifest, image: np.ndarray) -> None:
    """Raise ModelError unless the image is what ``imaging.prepare`` makes for this model."""
    size = manifest.image_size
    if image.shape != (size, size, 3) or image.dtype != np.uint8:
        raise ModelError(
            f'image has shape {image.shape}, {image.dtype}: the model reads {(size, size, 3)}, '
            'uint8'
        )


def check_rollout(
    manifest: Manifest, horizon: int, context: np.ndarray, past: np.ndarray, actions: np.ndarray
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
        or not 1 <= actions.shape[1] <= horizon
        or actions.shape[2] != block
    ):
        raise ModelError(
            f'actions have shape {actions.shape}: the model reads (S, N, {block}) with S at least '
            f'1 and N in [1, {horizon}]'
        )


def choose_precision(asked: str, native: bool, who: str) -> str:
    """Resolve 'auto' to bf16 where the hardware multiplies it natively, to f32 elsewhere.

    Raises EngineError for bf16 without such hardware: it would be slower than f32.
    """
    if asked == 'bf16' and not native:
        raise EngineError(
            f"precision is 'bf16': {who} has no native bfloat16, so f32 is both faster and "
            "more accurate; use 'f32' or 'auto'"
        )
    return 'f32' if asked == 'f32' or not native else 'bf16'


def cpu_has_bf16(info: str | None = None) -> bool:
    """Whether the processor multiplies bfloat16 (AMX, AVX-512 BF16, Arm BF16).

    Args:
        info: text in the form of Linux's /proc/cpuinfo; None reads that file.

    """
    if info is None:
        try:
            info = Path('/proc/cpuinfo').read_text()
        except OSError:
            return False
    flags = re.search(r'^(?:flags|Features)\s*:(.*)$', info, re.MULTILINE)
    return flags is not None and not _BF16_FLAGS.isdisjoint(flags[1].split())
