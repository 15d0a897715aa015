# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Learns which commands led from one latent of a trained model to another.

The model is only read: what it computes, and its hash, stay the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from lewm_ros.bags.hashes import bag_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle, check_writable
from lewm_ros.bundle.inverse_file import write_inverse
from lewm_ros.errors import BagError
from lewm_ros.evaluation.roadmap import Encoded
from lewm_ros.planning.inverse import LAYERS, InverseModel
from lewm_ros.progress import progress
from lewm_ros.robot.history import frames_in, held_average
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.time import NS_PER_S

BLOCKS = 4  #: n: how far goals are at most, and how far commands reach
WIDTH = 384
STEPS, BATCH, LR = 3000, 384, 1e-3
HELD_OUT = 10  #: every so many episodes, one


class _Windows(NamedTuple):
    """Where goals may follow. F frames in n blocks; rows of all episodes after each other."""

    latents: np.ndarray  #: (N, D) float32
    commands: np.ndarray  #: (N, A) normalised, mean over the block that begins at each frame
    starts: np.ndarray  #: (w,) rows with a block before them and n blocks after
    held_out: np.ndarray  #: (w,)
    step: int  #: frames in a block


def train_inverse(
    bundle: Bundle, encoded: Iterable[Encoded], data: Sequence[Path], steps: int = STEPS
) -> Bundle:
    """Train an inverse model on encoded episodes and put it into the bundle.

    Args:
        bundle: written anew, its model unchanged.
        encoded: from :func:`lewm_ros.evaluation.roadmap.encode_bags`.
        data: the bags.
        steps: of the optimiser.

    Raises BagError where no episode is long enough, ModelError where the bundle cannot be written.

    """
    check_writable(bundle.path)
    windows = _windows(bundle.spec, encoded)
    size = bundle.spec.contract.action.size
    network = _fit(windows, size, steps)
    rows = windows.starts[windows.held_out]
    ahead = np.random.default_rng(0).integers(1, BLOCKS * windows.step + 1, len(rows))
    with torch.no_grad():
        found = network(_inputs(windows, rows, ahead))[:, :size].numpy()
    wanted = windows.commands[rows]
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    model = InverseModel(
        tuple(m.weight.detach().numpy().T.copy() for m in layers),
        tuple(m.bias.detach().numpy().copy() for m in layers),
        BLOCKS,
        3 * bundle.spec.latent_size,
        BLOCKS * size,
    )
    return write_inverse(
        bundle,
        model,
        frames=int((~windows.held_out).sum()),
        error=float(np.square(found - wanted).mean()),
        spread=float(np.square(wanted).mean()),
        data=tuple(digest for bag in find_bags(data) for digest in bag_hashes(bag)),
    )


def _windows(spec: ModelSpec, encoded: Iterable[Encoded]) -> _Windows:
    latents, commands, starts, held_out = [], [], [], []
    count = step = 0
    for number, (episode, z, _) in enumerate(encoded):
        stamps = episode.stamps
        if len(stamps) < 2:
            continue
        step = frames_in(spec.block, stamps)
        if len(stamps) <= (BLOCKS + 1) * step:
            continue
        seconds = np.diff(stamps)[:, None] / NS_PER_S
        each = spec.normalise(held_average(episode.action_stamps, episode.actions, stamps))
        unknown = np.isnan(each).any(axis=1)
        total = np.cumsum(np.nan_to_num(each) * seconds, axis=0)
        total = np.concatenate([np.zeros_like(total[:1]), total])
        block = (total[step:] - total[:-step]) / (stamps[step:] - stamps[:-step])[:, None]
        block *= NS_PER_S
        rows = np.arange(step, len(stamps) - BLOCKS * step)
        gaps = np.concatenate([[0], np.cumsum(unknown)])
        rows = rows[gaps[rows + BLOCKS * step] == gaps[rows]]
        latents.append(z)
        commands.append(np.concatenate([block, np.zeros((step, block.shape[1]))]))
        starts.append(count + rows)
        held_out.append(np.full(len(rows), number % HELD_OUT == HELD_OUT - 1))
        count += len(z)
    if not starts or not len(np.concatenate(starts)):
        raise BagError(
            f'no episode has {BLOCKS + 1} blocks of {spec.block:g} s with a command throughout: '
            'an inverse model needs them'
        )
    kept = np.concatenate(held_out)
    if kept.all() or not kept.any():  # few episodes: their last frames
        kept = np.arange(len(kept)) >= len(kept) - max(1, len(kept) // HELD_OUT)
    rows = np.concatenate(starts)
    return _Windows(np.concatenate(latents), np.concatenate(commands), rows, kept, step)


def _inputs(windows: _Windows, rows: np.ndarray, ahead: np.ndarray) -> torch.Tensor:
    """Inputs (B, 3 D) for frames and goals some frames ahead of them."""
    z = windows.latents
    now = z[rows]
    return torch.from_numpy(
        np.concatenate([now, now - z[rows - windows.step], z[rows + ahead] - now], axis=1)
    )


def _fit(windows: _Windows, size: int, steps: int) -> nn.Module:
    """Train on goals 1 frame to n blocks ahead; only commands before the goal count."""
    rng = np.random.default_rng(0)
    rows, step = windows.starts[~windows.held_out], windows.step
    sizes = [3 * windows.latents.shape[1], *[WIDTH] * (LAYERS - 1), BLOCKS * size]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pairs = zip(sizes, sizes[1:])
        network = nn.Sequential(*(m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU())))[:-1]
    optimiser = torch.optim.AdamW(network.parameters(), lr=LR, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, steps, pct_start=0.1)
    blocks = step * np.arange(BLOCKS)
    bar = progress(range(steps), desc='inverse model', unit='step')
    for at in bar:
        chosen = rng.choice(rows, BATCH)
        ahead = rng.integers(1, BLOCKS * step + 1, BATCH)
        wanted = torch.from_numpy(windows.commands[chosen[:, None] + blocks]).float()
        counted = torch.from_numpy(ahead[:, None] > blocks)[..., None].float().expand_as(wanted)
        found = network(_inputs(windows, chosen, ahead)).reshape(wanted.shape)
        loss = ((found - wanted).square() * counted).sum() / counted.sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if at % 50 == 0:
            bar.set_postfix(error=f'{loss.item():.3f}')
    return network
