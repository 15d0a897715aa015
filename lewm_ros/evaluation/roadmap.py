# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From bags to the roadmap of a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lewm_ros.bags.episodes import Episode, ReadReport, read_episodes
from lewm_ros.bags.hashes import bag_hashes, data_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle, check_writable
from lewm_ros.bundle.roadmap_file import read_roadmap, write_roadmap
from lewm_ros.engines import Engine
from lewm_ros.errors import BagError, ModelError
from lewm_ros.planning.roadmap import build, extend, measure
from lewm_ros.progress import progress

#: Keys of a bag in a manifest: prediction loss on its held-out windows with a full context, as in
#: planning, and their number.
FULL_CONTEXT, HELD_OUT_WINDOWS = 'validation_prediction_full_context', 'held_out_windows'
#: Largest number of nodes; a plan compares each predicted latent with all of them.
NODES = 10_000


class Encoded(NamedTuple):
    """An episode of a bag."""

    episode: Episode
    latents: np.ndarray  #: (n, D) float32, of its frames
    held_out: bool  #: the model was not trained on it


def trained_bags(bundle: Bundle) -> list[dict[str, Any]]:
    """Return what the manifest says of each bag that the model was trained on."""
    return _bags(bundle, 'bags')


def seen_bags(bundle: Bundle) -> list[dict[str, Any]]:
    """Return these, and likewise the bags that its frozen encoder had been trained on."""
    return trained_bags(bundle) + _bags(bundle, 'encoder_bags')


def _bags(bundle: Bundle, key: str) -> list[dict[str, Any]]:
    bags = bundle.manifest.provenance.get(key)
    return [bag for bag in bags if isinstance(bag, dict)] if isinstance(bags, list) else []


def encode_bags(
    bundle: Bundle,
    engine: Engine,
    bags: Sequence[Path],
    held_out: bool = False,
    report: ReadReport | None = None,
) -> Iterator[Encoded]:
    """Encode the episodes of some bags, or only those ``held_out``; ``report`` is updated."""
    for episode, fresh in read_marked(bundle, bags, report):
        if fresh or not held_out:
            latents = np.stack([engine.encode(image) for image in episode.images])
            yield Encoded(episode, latents, fresh)


def read_marked(
    bundle: Bundle, bags: Sequence[Path], report: ReadReport | None = None
) -> Iterator[tuple[Episode, bool]]:
    """Read the episodes of some bags, each with whether the bundle was not trained on it."""
    for bag in find_bags(bags):
        hashes, unseen = bag_hashes(bag), None
        for used in seen_bags(bundle):
            if not set(hashes).isdisjoint(used.get('sha256', ())):
                same = used['sha256'] == hashes
                held_out = set(used.get('held_out_episodes', ()) if same else ())
                unseen = held_out if unseen is None else unseen & held_out
        source = read_episodes([bag], bundle.contract, bundle.spec.image_size, report)
        source = progress(source, desc=f'read {bag.name}', unit='episode')
        for number, episode in enumerate(source):
            yield episode, unseen is None or number in unseen


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
        encoded: from :func:`encode_bags`, read after the other arguments are checked.
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
