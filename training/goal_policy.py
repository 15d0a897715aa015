# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Shared by both trainings of a goal-conditioned policy: windows of bags, network, optimiser.

The model and its hash do not change.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from lewm_ros.bags.hashes import data_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle, check_writable
from lewm_ros.bundle.policy_file import write_policy
from lewm_ros.errors import BagError
from lewm_ros.evaluation.bags import Encoded
from lewm_ros.planning.goal_policy import LAYERS, GoalPolicy
from lewm_ros.robot.history import block_actions, frame_period, frames_in, on_grid
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.training.descent import HELD_OUT_EVERY, descend

BLOCKS = 4  #: n, by default: largest distance of goals, and length of the predicted commands
WIDTH = 384
LR = 1e-3


class Windows(NamedTuple):
    """Training windows. N frames: the rows of all episodes, concatenated."""

    latents: np.ndarray  #: (N, D) float32
    blocks: np.ndarray  #: (N, k, A) float32 normalised, that begin at each frame; NaN: unknown
    starts: np.ndarray  #: (w,) rows with n known blocks after and ``past`` known blocks before
    held_out: np.ndarray  #: (w,)
    step: int  #: frames in a block
    ahead: int  #: n

    def commands(self, rows: np.ndarray) -> torch.Tensor:
        """Mean commands (B, n, A) of the n blocks from rows (B,) on."""
        after = rows[:, None] + self.step * np.arange(self.ahead)
        return torch.from_numpy(self.blocks[after].mean(axis=2))

    def inputs(self, rows: np.ndarray, goals: np.ndarray) -> torch.Tensor:
        """Inputs (B, 3 D) of a policy for frames and goals, by their rows (B,)."""
        z = self.latents
        now = z[rows]
        parts = now, now - z[rows - self.step], z[goals] - now
        return torch.from_numpy(np.concatenate(parts, axis=1))


def find_windows(spec: ModelSpec, encoded: Iterable[Encoded], past: int, ahead: int) -> Windows:
    """Find the frames of encoded episodes with known blocks: ``past`` before, ``ahead`` after.

    There is a latent one block before each.

    Episodes with other frame rates than the model's are left out. Raises BagError where none
    of the others is long enough.
    """
    latents, blocks, starts, held_out = [], [], [], []
    before = max(past, 1)
    count, step = 0, max(1, round(spec.block / spec.camera_period))
    for number, (episode, z, _) in enumerate(encoded):
        stamps = episode.stamps
        if len(stamps) <= (before + ahead) * step or frames_in(spec.block, stamps) != step:
            continue
        pairs = np.stack([stamps[:-step], stamps[step:]], axis=1)
        sent, hold = (episode.action_stamps, episode.actions), spec.contract.action.hold
        known = block_actions(*sent, pairs, spec.frameskip, hold)[:, 0]
        each = np.full((len(stamps), known.shape[1]), np.nan, np.float32)
        each[:-step] = spec.normalise_block(known)
        rows = np.arange(before * step, len(stamps) - ahead * step)
        apart = step * np.arange(-before, ahead + 1)
        period = frame_period(stamps)
        off = stamps[rows[:, None] + apart] - stamps[rows][:, None] - period * apart
        rows = rows[on_grid(off, period).all(axis=1)]
        needed = rows[:, None] + step * np.arange(-past, ahead)
        rows = rows[~np.isnan(each[needed]).any(axis=(1, 2))]
        latents.append(z)
        blocks.append(each.reshape(len(stamps), spec.frameskip, -1))
        starts.append(count + rows)
        held_out.append(np.full(len(rows), number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1))
        count += len(z)
    if sum(map(len, starts)) < 2:  # one is held out
        raise BagError(
            f'there are fewer than two spans of {before + ahead} blocks of {spec.block:g} s with a '
            f'command throughout and frames {spec.camera_period:g} s apart: this training '
            'needs them'
        )
    kept = np.concatenate(held_out)
    if kept.all() or not kept.any():  # few episodes: hold out the last frames
        kept = np.arange(len(kept)) >= len(kept) - max(1, len(kept) // HELD_OUT_EVERY)
    return Windows(
        np.concatenate(latents), np.concatenate(blocks), np.concatenate(starts), kept, step, ahead
    )


class Learner(ABC):
    """Base class: how one kind of policy learns from windows of bags.

    Args:
        bundle: whose model's latents it reads.
        windows: with :meth:`past` known blocks before each start.

    """

    kind: str  #: as of :func:`lewm_ros.bundle.policy_file.read_policy`
    name: str  #: for people
    steps: int  #: of the optimiser, by default
    batch: int

    @abstractmethod
    def __init__(self, bundle: Bundle, windows: Windows) -> None: ...

    @staticmethod
    @abstractmethod
    def past(spec: ModelSpec) -> int:
        """Return how many known blocks it needs before a frame."""

    @abstractmethod
    def loss(self, network: nn.Module, rows: np.ndarray, rng: np.random.Generator) -> torch.Tensor:
        """Return the loss of a network (B, 3 D) → (B, n A) on a batch of rows (B,)."""

    @abstractmethod
    def errors(self, network: nn.Module, rows: np.ndarray) -> dict[str, float]:
        """Return the errors of its :class:`lewm_ros.bundle.PolicyEntry`, on held-out rows."""


def train_policy(
    learner: type[Learner],
    bundle: Bundle,
    encoded: Iterable[Encoded],
    data: Sequence[Path],
    steps: int,
    blocks: int,
    threads: int = 1,
) -> Bundle:
    """Train a policy on encoded episodes and put it into the bundle.

    Args:
        learner: what it learns.
        bundle: written anew, its model unchanged.
        encoded: from :func:`lewm_ros.evaluation.roadmap.encode_bags`.
        data: the bags.
        steps: of the optimiser.
        blocks: largest distance of goals, and length of the predicted commands.
        threads: of the processor.

    Raises BagError where no episode is long enough, ModelError where the bundle cannot be written.

    """
    check_writable(bundle.path)
    recorded = replace(bundle.spec, contract=bundle.contract)
    windows = find_windows(recorded, encoded, learner.past(bundle.spec), blocks)
    torch.set_num_threads(threads)
    learning = learner(bundle, windows)
    network = fit(windows, steps, learner.batch, learning.loss, learner.name)
    errors = learning.errors(network, windows.starts[windows.held_out])
    layers = [m for m in network.modules() if isinstance(m, nn.Linear)]
    weights = tuple(m.weight.numpy().T.copy() for m in layers)
    biases = tuple(m.bias.numpy().copy() for m in layers)
    return write_policy(
        bundle,
        learner.kind,
        GoalPolicy(weights, biases, windows.ahead, len(weights[0]), len(biases[-1])),
        frames=int((~windows.held_out).sum()),
        data=data_hashes(find_bags(data)),
        **errors,
    )


def fit(
    windows: Windows,
    steps: int,
    batch: int,
    loss: Callable[[nn.Module, np.ndarray, np.random.Generator], torch.Tensor],
    name: str,
) -> nn.Module:
    """Train a network (B, 3 D) → (B, n A) by a loss of a batch of rows (B,)."""
    rng = np.random.default_rng(0)
    rows = windows.starts[~windows.held_out]
    outputs = windows.ahead * windows.blocks.shape[2]
    sizes = [3 * windows.latents.shape[1], *[WIDTH] * (LAYERS - 1), outputs]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        pairs = zip(sizes, sizes[1:])
        network = nn.Sequential(*(m for a, b in pairs for m in (nn.Linear(a, b), nn.ReLU())))[:-1]

    def of_batch() -> torch.Tensor:
        return loss(network, rng.choice(rows, batch), rng)

    descend(network, of_batch, steps, LR, name, '{:.3f}'.format, weight_decay=1e-3)
    return network.requires_grad_(False)
