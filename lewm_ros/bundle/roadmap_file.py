# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The roadmap of a bundle: arrays in an npz file, the rest in the manifest."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from lewm_ros.bundle.bundle import Bundle, add_file
from lewm_ros.bundle.manifest import ROADMAP
from lewm_ros.errors import ModelError
from lewm_ros.planning.roadmap import Roadmap

#: Arrays of the file, and their types. Nodes are rounded by far less than their radius.
ARRAYS = {'nodes': np.float16, 'edges': np.int32, 'seconds': np.float32}


def read_roadmap(bundle: Bundle) -> Roadmap | None:
    """Return the roadmap of a bundle, None where it has none.

    Raises ModelError if it is from another model, is damaged or has another latent size.
    """
    entry, manifest = bundle.manifest.roadmap, bundle.manifest
    if entry is None:
        return None
    where = f'bundle {bundle.path}: {ROADMAP}'
    arrays = bundle.read_arrays('roadmap', list(ARRAYS))
    for name, kind in ARRAYS.items():
        if arrays[name].dtype != kind:
            raise ModelError(f'{where}: {name} are {arrays[name].dtype}, expected {np.dtype(kind)}')
    arrays['nodes'] = arrays['nodes'].astype(np.float32)
    try:
        roadmap = Roadmap(
            **arrays, radius=entry.radius, speed=entry.speed, gap_limit=entry.gap_limit
        )
    except ModelError as error:
        raise ModelError(f'{where}: {error}') from error
    if roadmap.nodes.shape[1] != manifest.latent_size:
        raise ModelError(
            f'{where}: nodes have {roadmap.nodes.shape[1]} numbers, latents of the model '
            f'{manifest.latent_size}'
        )
    return roadmap


def write_roadmap(bundle: Bundle, roadmap: Roadmap, **figures: Any) -> Bundle:
    """Add a roadmap to a bundle, replacing an existing one; the model stays the same.

    Args:
        bundle: rewritten as a whole.
        roadmap: built from latents of this model.
        **figures: ``frames``, ``covered``, ``connected`` and ``data`` of
            :class:`lewm_ros.bundle.RoadmapEntry`.

    Raises ModelError if the folder holds another model by now.

    """
    file = io.BytesIO()
    arrays = {name: getattr(roadmap, name).astype(kind) for name, kind in ARRAYS.items()}
    np.savez_compressed(file, **arrays)
    return add_file(
        bundle,
        'roadmap',
        file.getvalue(),
        radius=roadmap.radius,
        speed=roadmap.speed,
        gap_limit=roadmap.gap_limit,
        nodes=len(roadmap.nodes),
        edges=len(roadmap.edges),
        **figures,
    )
