# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Learns which commands led from one latent of a trained model to another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lewm_ros.bundle import Bundle, check_writable
from lewm_ros.evaluation.roadmap import Encoded
from lewm_ros.training.goal_policy import BLOCKS, Windows, find_windows, fit, store

STEPS, BATCH = 3000, 384


def train_inverse(
    bundle: Bundle,
    encoded: Iterable[Encoded],
    data: Sequence[Path],
    steps: int = STEPS,
    threads: int = 1,
) -> Bundle:
    """Train an inverse model on encoded episodes and put it into the bundle.

    Args:
        bundle: written anew, its model unchanged.
        encoded: from :func:`lewm_ros.evaluation.roadmap.encode_bags`.
        data: the bags.
        steps: of the optimiser.
        threads: of the processor.

    Raises BagError where no episode is long enough, ModelError where the bundle cannot be written.

    """
    check_writable(bundle.path)
    windows = find_windows(bundle.spec, encoded, past=0)
    torch.set_num_threads(threads)
    network = fit(windows, steps, BATCH, partial(_loss, windows), 'inverse model')
    rows = windows.starts[windows.held_out]
    ahead = np.random.default_rng(0).integers(1, BLOCKS * windows.step + 1, len(rows))
    wanted = windows.commands(rows)
    found = network(windows.inputs(rows, rows + ahead)).reshape(wanted.shape)
    error, spread = ((told - wanted)[:, 0].square().mean().item() for told in (found, 0))
    return store(bundle, 'idm', network, windows, data, error=error, spread=spread)


def _loss(
    windows: Windows, network: nn.Module, rows: np.ndarray, rng: np.random.Generator
) -> torch.Tensor:
    """Squared error towards goals 1 frame to n blocks ahead; only commands before them count."""
    ahead = rng.integers(1, BLOCKS * windows.step + 1, len(rows))
    before = torch.from_numpy(ahead[:, None] > windows.step * np.arange(BLOCKS))
    wanted = windows.commands(rows)
    found = network(windows.inputs(rows, rows + ahead)).reshape(wanted.shape)
    return (found - wanted)[before].square().mean()
