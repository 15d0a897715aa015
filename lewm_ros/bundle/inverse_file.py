# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The inverse model of a bundle: arrays in an npz file, the rest in the manifest."""

from __future__ import annotations

import hashlib
import io
from typing import Any
import zipfile

import numpy as np

from lewm_ros.bundle.bundle import Bundle, add_file
from lewm_ros.bundle.manifest import INVERSE, InverseEntry
from lewm_ros.errors import ConfigError, ModelError, one_line
from lewm_ros.planning.inverse import LAYERS, InverseModel

_NAMES = [f'{kind}{layer}' for kind in ('weight', 'bias') for layer in range(LAYERS)]


def read_inverse(bundle: Bundle) -> InverseModel:
    """Return the inverse model of a bundle.

    Raises ConfigError where it has none, ModelError for one that is of another model, damaged or
    not of the model's sizes.
    """
    entry, spec = bundle.manifest.inverse, bundle.spec
    where = f'bundle {bundle.path}: {INVERSE}'
    again = f'run `lewm inverse {bundle.path} --data BAG...`'
    if entry is None:
        raise ConfigError(f'bundle {bundle.path} has no inverse model for the policy idm: {again}')
    if entry.model_hash != bundle.hash:
        raise ModelError(
            f'{where} is of model {entry.model_hash[:12]}, the bundle is {bundle.hash[:12]}: '
            f'{again} again'
        )
    data = bundle.read(INVERSE)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            arrays = [file[name] for name in _NAMES]
        sizes = 3 * spec.latent_size, entry.blocks * spec.contract.action.size
        return InverseModel(tuple(arrays[:LAYERS]), tuple(arrays[LAYERS:]), entry.blocks, *sizes)
    except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f'{where}: {one_line(error)}; expected arrays {_NAMES}') from error
    except ModelError as error:
        raise ModelError(f'{where}: {error}') from error


def write_inverse(
    bundle: Bundle,
    model: InverseModel,
    frames: int,
    error: float,
    spread: float,
    data: tuple[str, ...],
) -> Bundle:
    """Put an inverse model into a bundle, in place of one that it has; the model stays the same.

    The other arguments are those of :class:`InverseEntry`. Raises ModelError if the folder holds
    another model by now.
    """
    file = io.BytesIO()
    arrays: dict[str, Any] = dict(zip(_NAMES, (*model.weights, *model.biases)))
    np.savez(file, **arrays)
    entry = InverseEntry(
        sha256=hashlib.sha256(file.getvalue()).hexdigest(),
        model_hash=bundle.hash,
        blocks=model.blocks,
        frames=frames,
        error=error,
        spread=spread,
        data=data,
    )
    return add_file(bundle, 'inverse', file.getvalue(), entry)
