# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From bags to the roadmap of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from lewm_ros.bags.hashes import data_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle, check_writable
from lewm_ros.bundle.roadmap_file import read_roadmap, write_roadmap
from lewm_ros.errors import BagError, ModelError
from lewm_ros.evaluation.bags import Encoded
from lewm_ros.planning.roadmap import build, extend, measure

#: Largest number of nodes; a plan compares each predicted latent with all of them.
NODES = 10_000


def build_roadmap(
    bundle: Bundle,
    encoded: Iterable[Encoded],
    data: Sequence[Path],
    nodes: int = NODES,
    add: bool = False,
) -> Bundle:
    """Make a roadmap of the latents of some bags and put it into the bundle.

    Args:
        bundle: written anew, its model unchanged.
        encoded: from ``encode_bags``, read after the other arguments are checked.
        data: the bags; best those that the model was trained on.
        nodes: most nodes.
        add: extend the bundle's roadmap instead of building a new one.

    Raises BagError where the bags have no usable frames or are in the roadmap already, ModelError
    where no roadmap can be made of them or the bundle cannot be written.

    """
    if nodes < 1:
        raise ModelError(f'--nodes is {nodes}: expected 1 or more')
    check_writable(bundle.path)
    bags = find_bags(data)
    hashes = data_hashes(bags)
    old, roadmap = bundle.manifest.roadmap, read_roadmap(bundle) if add else None
    if add:
        if old is None:
            raise ModelError(f'bundle {bundle.path} has no roadmap to add to: leave --add out')
        if set(hashes) & set(old.data):
            raise BagError(f'{[str(b) for b in bags]}: the roadmap already contains some of these')
    spec, recorded = bundle.spec, [(e.episode.stamps, e.latents) for e in encoded]
    frames = sum(len(stamps) for stamps, _ in recorded)
    if not frames:
        raise BagError(f'{[str(b) for b in bags]}: no frames that the contract can read')
    if not all(np.isfinite(latents).all() for _, latents in recorded):
        raise ModelError(f'bundle {bundle.path}: latents of frames are not finite')
    if roadmap is None or old is None:
        roadmap, figures = build(recorded, spec.block, spec.frameskip, nodes)
    else:
        figures = measure(roadmap, np.concatenate([latents for _, latents in recorded]))
        roadmap = extend(roadmap, recorded, roadmap.speed, spec.block, nodes)
        hashes, frames = (*old.data, *hashes), old.frames + frames
    return write_roadmap(bundle, roadmap, **figures, frames=frames, data=hashes)
