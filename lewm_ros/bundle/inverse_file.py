# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The inverse model of a bundle: arrays in an npz file, the rest in the manifest."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from lewm_ros.bundle.bundle import Bundle, add_file
from lewm_ros.bundle.manifest import INVERSE
from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.planning.inverse import LAYERS, InverseModel

_NAMES = [f'{kind}{layer}' for kind in ('weight', 'bias') for layer in range(LAYERS)]


def read_inverse(bundle: Bundle) -> InverseModel:
    """Return the inverse model of a bundle.

    Raises ConfigError where it has none, ModelError for one that is of another model, damaged or
    not of the model's sizes.
    """
    entry, spec = bundle.manifest.inverse, bundle.spec
    if entry is None:
        raise ConfigError(
            f'bundle {bundle.path} has no inverse model for the policy idm: run '
            f'`lewm inverse {bundle.path} --data BAG...`'
        )
    arrays = tuple(bundle.read_arrays('inverse', _NAMES).values())
    sizes = 3 * spec.latent_size, entry.blocks * spec.contract.action.size
    try:
        return InverseModel(arrays[:LAYERS], arrays[LAYERS:], entry.blocks, *sizes)
    except ModelError as error:
        raise ModelError(f'bundle {bundle.path}: {INVERSE}: {error}') from error


def write_inverse(
    bundle: Bundle,
    model: InverseModel,
    frames: int,
    error: float,
    spread: float,
    data: tuple[str, ...],
) -> Bundle:
    """Put an inverse model into a bundle, in place of one that it has; the model stays the same.

    The other arguments are those of :class:`lewm_ros.bundle.InverseEntry`. Raises ModelError if
    the folder holds another model by now.
    """
    file = io.BytesIO()
    arrays: dict[str, Any] = dict(zip(_NAMES, (*model.weights, *model.biases)))
    np.savez(file, **arrays)
    figures = {'frames': frames, 'error': error, 'spread': spread, 'data': data}
    return add_file(bundle, 'inverse', file.getvalue(), blocks=model.blocks, **figures)
