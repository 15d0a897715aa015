# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Bags as a bundle sees them: their episodes, and which of them it was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lewm_ros.bags.episodes import Episode, ReadReport, check_view, read_episodes
from lewm_ros.bags.hashes import bag_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.progress import progress

#: Keys of a bag in a manifest: prediction loss on its held-out windows with a full context, as in
#: planning, and their number.
FULL_CONTEXT, HELD_OUT_WINDOWS = 'validation_prediction_full_context', 'held_out_windows'


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
    """Read the episodes of some bags, each with whether the bundle was not trained on it.

    Raises BagError as :func:`read_bags`.
    """
    report = report or ReadReport()
    for bag in find_bags(bags):
        hashes, unseen = bag_hashes(bag), None
        for used in seen_bags(bundle):
            if not set(hashes).isdisjoint(used.get('sha256', ())):
                same = used['sha256'] == hashes
                held_out = set(used.get('held_out_episodes', ()) if same else ())
                unseen = held_out if unseen is None else unseen & held_out
        source = progress(_read(bundle, bag, report), desc=f'read {bag.name}', unit='episode')
        for number, episode in enumerate(source):
            yield episode, unseen is None or number in unseen


def read_bags(bundle: Bundle, bags: Sequence[Path]) -> Iterator[Episode]:
    """Read the episodes of some bags as the model sees them.

    Raises BagError for a bag whose images are of another view than those of the training data, or,
    where the bundle does not know those, than those of the first bag.
    """
    report = ReadReport()
    for bag in find_bags(bags):
        yield from _read(bundle, bag, report)


def _read(bundle: Bundle, bag: Path, report: ReadReport) -> Iterator[Episode]:
    contract, first = bundle.contract, report.camera_size
    before = bundle.spec.camera_size or first
    whose = 'the training data' if bundle.spec.camera_size else 'the first bag'
    report.camera_size = None  # becomes that of this bag's first image
    for episode in read_episodes([bag], contract, bundle.spec.image_size, report):
        check_view(bag, report.camera_size, before, contract.camera, whose)
        yield episode
    report.camera_size = first or report.camera_size
