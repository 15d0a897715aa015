# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Linear probes: how much of the recorded state a latent holds (paper section 5)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.errors import BagError
from lewm_ros.progress import progress


def linear_probe(
    train: np.ndarray, train_target: np.ndarray, test: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """R² of a ridge regression from latents (N, D) to targets (N, X), (X,) float64."""
    mean, middle = train.mean(axis=0), train_target.mean(axis=0)
    x = (train - mean).astype(np.float64)
    ridge = 1e-3 * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + ridge, x.T @ (train_target - middle))
    predicted = (test - mean) @ weights + middle
    residual = np.square(predicted - target).sum(axis=0)
    return 1 - residual / np.square(target - target.mean(axis=0)).sum(axis=0)


def probe_bags(bundle: Bundle, engine: Engine, bags: list[Path]) -> dict[str, dict[str, float]]:
    """R² for every field of the contract's state, by name; fitted on 4 of 5 episodes.

    A field that is not finite in all of the bags is left out.

    ``linear`` is for the number itself, ``sin_cos`` the mean for its sine and cosine: the one
    to read for an angle that wraps around.

    Raises BagError where the bags hold no state or fewer than five episodes.
    """
    latents: list[np.ndarray] = []
    states: list[np.ndarray] = []
    source = read_episodes(bags, bundle.contract, bundle.manifest.image_size)
    for episode in progress(source, desc='probe', unit='episode'):
        if episode.states is not None:
            latents.append(np.stack([engine.encode(image) for image in episode.images]))
            states.append(episode.states)
    if len(latents) < 5 or bundle.contract.state is None:
        raise BagError(
            f'{len(latents)} episodes with the state of the contract in '
            f'{[str(b) for b in bags]}: probes need at least 5'
        )
    cut = len(latents) * 4 // 5
    z = np.concatenate(latents[:cut]), np.concatenate(latents[cut:])
    known = np.isfinite(np.concatenate(states)).all(axis=0)
    x = np.concatenate(states[:cut])[:, known], np.concatenate(states[cut:])[:, known]
    fields = [name for name, finite in zip(bundle.contract.state.fields, known) if finite]
    linear, sine, cosine = (
        linear_probe(z[0], f(x[0]), z[1], f(x[1])) for f in (np.array, np.sin, np.cos)
    )
    return {
        name: {'linear': float(a), 'sin_cos': float((b + c) / 2)}
        for name, a, b, c in zip(fields, linear, sine, cosine)
    }
