# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How much of the recorded state a latent holds, and how latents move (paper section 5)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.errors import BagError
from lewm_ros.evaluation.bags import read_bags
from lewm_ros.evaluation.latents import effective_rank, straightness
from lewm_ros.progress import progress
from lewm_ros.robot.history import frames_in

#: Of the network of a probe: width, steps, rows in a batch, learning rate.
WIDTH, STEPS, BATCH, LR = 256, 2000, 512, 1e-3


def linear_probe(
    train: np.ndarray, train_target: np.ndarray, test: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """R² of a ridge regression from latents (N, D) to targets (N, X), (X,) float64."""
    mean, middle = train.mean(axis=0), train_target.mean(axis=0)
    x = (train - mean).astype(np.float64)
    ridge = 1e-3 * len(x) * np.eye(x.shape[1])
    weights = np.linalg.solve(x.T @ x + ridge, x.T @ (train_target - middle))
    return _r2((test - mean) @ weights + middle, target)


def mlp_probe(
    train: np.ndarray, train_target: np.ndarray, test: np.ndarray, target: np.ndarray
) -> np.ndarray:
    """R² of a network with two hidden layers, as :func:`linear_probe`; it needs torch."""
    import torch
    from torch import nn

    middle, spread = train_target.mean(axis=0), train_target.std(axis=0) + 1e-9
    x = torch.tensor(train, dtype=torch.float32)
    y = torch.tensor((train_target - middle) / spread, dtype=torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        sizes = [x.shape[1], WIDTH, WIDTH, y.shape[1]]
        network = nn.Sequential(
            *(m for a, b in zip(sizes, sizes[1:]) for m in (nn.Linear(a, b), nn.GELU()))
        )[:-1]
        optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
        for _ in range(STEPS):
            rows = torch.randint(len(x), (BATCH,))
            optimiser.zero_grad()
            nn.functional.mse_loss(network(x[rows]), y[rows]).backward()
            optimiser.step()
            schedule.step()
    with torch.no_grad():
        found = network(torch.tensor(test, dtype=torch.float32)).double().numpy()
    return _r2(found * spread + middle, target)


def _r2(predicted: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Share of the variance of targets (N, X) that is explained, (X,)."""
    residual = np.square(predicted - target).sum(axis=0)
    return np.asarray(1 - residual / np.square(target - target.mean(axis=0)).sum(axis=0))


def probe_bags(bundle: Bundle, engine: Engine, bags: list[Path]) -> dict[str, Any]:
    """Probe every field of the contract's state; fitted on 4 of 5 episodes.

    Returns ``probe_r2``, by field the R² of ``linear`` and ``mlp`` for the number itself, and
    ``linear_sin_cos`` and ``mlp_sin_cos``, means for its sine and cosine, to be read for an angle
    that wraps around; ``straightness`` over blocks, and ``effective_rank``. A field that is not
    finite in all of the bags, or constant, is left out, and so is the network without torch.

    Raises BagError where the bags hold no state or fewer than five episodes.
    """
    latents: list[np.ndarray] = []
    states: list[np.ndarray] = []
    paths: list[np.ndarray] = []
    for episode in progress(read_bags(bundle, bags), desc='probe', unit='episode'):
        if episode.states is not None:
            z = np.stack([engine.encode(image) for image in episode.images])
            known = np.isfinite(episode.states).any(axis=1)  # recorded at that time
            latents.append(z[known])
            states.append(episode.states[known])
            if len(episode.stamps) > 1:
                step = frames_in(bundle.block, episode.stamps)
                starts = np.arange(max(0, len(z) - 2 * step))
                paths.append(z[starts[:, None] + step * np.arange(3)])
    if len(latents) < 5 or bundle.contract.state is None:
        raise BagError(
            f'{len(latents)} episodes with the state of the contract in '
            f'{[str(b) for b in bags]}: probes need at least 5'
        )
    cut = len(latents) * 4 // 5
    halves = np.concatenate(latents[:cut]), np.concatenate(latents[cut:])
    x = np.concatenate(states[:cut]), np.concatenate(states[cut:])
    usable = np.isfinite(np.concatenate(x)).all(axis=0) & (np.ptp(x[1], axis=0) > 0)
    x = x[0][:, usable], x[1][:, usable]
    fields = [name for name, use in zip(bundle.contract.state.fields, usable) if use]
    probes: dict[str, Callable[..., np.ndarray]] = {'linear': linear_probe}
    if find_spec('torch'):
        probes['mlp'] = mlp_probe
    found: dict[str, dict[str, float]] = {name: {} for name in fields}
    for probe, fit in probes.items():
        targets = [np.concatenate([v, np.sin(v), np.cos(v)], axis=1) for v in x]
        number, sine, cosine = np.split(fit(halves[0], targets[0], halves[1], targets[1]), 3)
        for name, a, b, c in zip(fields, number, sine, cosine):
            found[name] |= {probe: float(a), f'{probe}_sin_cos': float((b + c) / 2)}
    return {
        'probe_r2': found,
        'straightness': straightness(np.concatenate(paths)),
        'effective_rank': effective_rank(np.concatenate(latents)),
    }
