# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Train encoders of model `small` to regress the recorded state: what can they learn to see?

    .venv/bin/python benchmarks/supervised.py BAG --held-out BAG --contract FILE
        [--fields 0 1 2 3] [--angles 4] [--steps 450] [--out FILE.onnx]

Prints, for the encoder with BatchNorm and without, the R² of each target on the held-out bag while
training goes on. Of an angle the targets are sine and cosine. An encoder that cannot learn this
from labels does not learn it from predictions either. With --out, the encoder with BatchNorm alone
is trained, and written for `lewm train --frozen-encoder`: how far does a planner get that sees the
state?
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.errors import BagError
from lewm_ros.model.config import small
from lewm_ros.model.encoder import ConvEncoder
from lewm_ros.robot.contract import Contract
from lewm_ros.training.export import export_graph
from lewm_ros.training.loader import normalised

EVERY = 4  #: frames of a bag are used
SIZE = 64  #: of an image [px]
BATCH, LR, REPORT = 128, 1e-3, 150


def main() -> None:
    """Train both encoders in turn."""
    args = _arguments()
    torch.set_num_threads(1)
    images, target = read(args, args.bag)
    unseen, truth = read(args, args.held_out)
    config = small(action_size=1)
    for kind in ('conv_bn',) if args.out else ('conv_bn', 'conv'):
        torch.manual_seed(0)
        encoder = ConvEncoder(replace(config, encoder=kind))
        network = nn.Sequential(
            encoder, nn.GELU(), nn.Linear(config.encoder_width, target.shape[1])
        )
        train(network, args.steps, images, target, unseen, truth, kind)
        if args.out:
            batch = {'pixels': torch.zeros(2, 3, SIZE, SIZE)}
            sizes: dict[str, dict[int, object]] = {'pixels': {0: torch.export.Dim('batch')}}
            args.out.write_bytes(export_graph(network.eval(), batch, ['state'], sizes))


def read(args: argparse.Namespace, bag: Path) -> tuple[np.ndarray, np.ndarray]:
    """Frames (N, S, S, 3) uint8 of a bag and their standardised targets (N, X)."""
    images, states = [], []
    for episode in read_episodes([bag], Contract.load(args.contract), SIZE):
        if episode.states is None:
            raise BagError(f'{bag} holds no state: expected one in the contract and in the bag')
        images.append(episode.images[::EVERY].copy())
        states.append(episode.states[::EVERY])
    state = np.concatenate(states)
    angles = state[:, args.angles]
    target = np.concatenate([state[:, args.fields], np.sin(angles), np.cos(angles)], axis=1)
    target = (target - target.mean(axis=0)) / target.std(axis=0)
    return np.concatenate(images), target.astype(np.float32)


def train(
    network: nn.Module,
    steps: int,
    images: np.ndarray,
    target: np.ndarray,
    unseen: np.ndarray,
    truth: np.ndarray,
    name: str,
) -> None:
    """Regress, and print R² (X,) on unseen frames as training goes on."""
    rng = np.random.default_rng(0)
    optimiser = torch.optim.AdamW(network.parameters(), LR, weight_decay=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LR, steps)
    for step in range(1, steps + 1):
        rows = rng.integers(0, len(images), BATCH)
        loss = nn.functional.mse_loss(network(pixels(images[rows])), torch.tensor(target[rows]))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % REPORT == 0:
            network.eval()
            with torch.no_grad():
                parts = np.array_split(unseen, len(unseen) // BATCH + 1)
                found = np.concatenate([network(pixels(part)).numpy() for part in parts])
            network.train()
            r2 = 1 - np.square(found - truth).mean(axis=0) / truth.var(axis=0)
            print(name, step, *(f'{value:.3f}' for value in r2), flush=True)


def pixels(frames: np.ndarray) -> torch.Tensor:
    """Frames (N, S, S, 3) uint8 as the encoder reads them, (N, 3, S, S)."""
    return normalised(torch.from_numpy(frames))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('bag', type=Path)
    parser.add_argument('--held-out', type=Path, required=True, help='bag to measure R² on')
    parser.add_argument('--contract', type=Path, required=True)
    parser.add_argument('--fields', type=int, nargs='*', default=[0, 1, 2, 3], help='of the state')
    parser.add_argument('--angles', type=int, nargs='*', default=[4], help='fields that turn')
    parser.add_argument('--steps', type=int, default=450)
    parser.add_argument('--out', type=Path, help='file for the encoder with BatchNorm')
    return parser.parse_args()


if __name__ == '__main__':
    main()
