# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Trains a decoder from the latents of a trained model to images, for display.

The model and its hash do not change.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from lewm_ros.bags.hashes import data_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle, add_file, check_writable
from lewm_ros.engines import Engine
from lewm_ros.errors import BagError
from lewm_ros.evaluation.bags import read_bags
from lewm_ros.progress import progress
from lewm_ros.robot.imaging import prepare
from lewm_ros.training.descent import HELD_OUT_EVERY, descend
from lewm_ros.training.device import has_bfloat16
from lewm_ros.training.export import export_graph

SIZE = 64  #: of the decoded images, whatever size the model reads [px]
FRAMES = 12_000  #: largest number of frames to train on, drawn at random
STEPS, BATCH, LR = 3000, 64, 3e-3
_CHANNELS = 128, 64, 48, 32  #: at 4, 8, 16 and 32 px


class DecoderNetwork(nn.Module):
    """latents (n, D) → images (n, 3, SIZE, SIZE) of values near [0, 1].

    It adds the mean image, so that it need not learn the static background.
    """

    def __init__(self, latent_size: int, mean: torch.Tensor) -> None:
        super().__init__()
        layers: list[nn.Module] = [
            nn.Linear(latent_size, _CHANNELS[0] * 16),
            nn.Unflatten(1, (_CHANNELS[0], 4, 4)),
        ]
        for inputs, outputs in zip(_CHANNELS, (*_CHANNELS[1:], 3)):
            layers += [nn.ReLU(), nn.ConvTranspose2d(inputs, outputs, 4, 2, 1)]
        self.layers = nn.Sequential(*layers)
        self.mean = nn.Buffer(mean)

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode."""
        return self.layers(latents) + self.mean


class DecoderGraph(nn.Module):
    """latents (n, D) → images (n, SIZE, SIZE, 3) of values in [0, 255]."""

    def __init__(self, network: DecoderNetwork) -> None:
        super().__init__()
        self.network = network

    def forward(self, latents: torch.Tensor) -> torch.Tensor:
        """Decode."""
        return 255 * self.network(latents).clamp(0, 1).permute(0, 2, 3, 1)


def train_decoder(
    bundle: Bundle,
    engine: Engine,
    data: Sequence[Path],
    steps: int = STEPS,
    device: str = 'cpu',
    threads: int = 1,
) -> Bundle:
    """Train a decoder on the frames of bags and put it into the bundle.

    Args:
        bundle: written anew, its model unchanged.
        engine: encodes; runs the bundle.
        data: bags; best those that the model was trained on.
        steps: of the optimiser.
        device: 'cpu' or 'cuda'.
        threads: of the processor.

    Raises BagError where the bags have no usable frames, ModelError where the bundle cannot be
    written.

    """
    check_writable(bundle.path)
    bags = find_bags(data)
    latents, images, held_out = _encoded(bundle, engine, bags)
    torch.set_num_threads(threads)
    network = fit(latents[~held_out], images[~held_out], steps, device)
    error, spread = _errors(network, latents[held_out], images[held_out])
    graph = export_graph(
        DecoderGraph(network),
        {'latents': torch.zeros(2, latents.shape[1])},
        ['images'],
        {'latents': {0: torch.export.Dim('n', min=1, max=65536)}},
    )
    return add_file(
        bundle,
        'decoder',
        graph,
        size=SIZE,
        frames=int((~held_out).sum()),
        error=error,
        spread=spread,
        data=data_hashes(bags),
    )


def fit(latents: np.ndarray, images: np.ndarray, steps: int, device: str = 'cpu') -> DecoderNetwork:
    """Train a network on latents (n, D) and images (n, SIZE, SIZE, 3) uint8; it is on the CPU."""
    targets = torch.from_numpy(images).movedim(-1, 1)
    inputs = torch.from_numpy(latents)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        mean = torch.from_numpy(images.mean(axis=0, dtype=np.float32) / 255).movedim(-1, 0)
        network = DecoderNetwork(latents.shape[1], mean).to(device)

        def loss() -> torch.Tensor:
            chosen = torch.randint(len(inputs), (BATCH,))
            target = targets[chosen].to(device).float() / 255
            with torch.autocast(device, torch.bfloat16, enabled=has_bfloat16(device)):
                decoded = network(inputs[chosen].to(device))
            return (decoded.float() - target).square().mean()

        def shown(error: float) -> str:
            return f'{255 * error**0.5:.1f}'

        descend(network, loss, steps, LR, 'decoder', shown, fused=device == 'cuda')
    return network.cpu().eval().requires_grad_(False)


def _encoded(
    bundle: Bundle, engine: Engine, bags: Sequence[Path]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Frames of bags, drawn at random: latents, small images, which of them are held out."""
    spec, rng = bundle.spec, np.random.default_rng(0)
    latents = np.empty((FRAMES, spec.latent_size), np.float32)
    images = np.empty((FRAMES, SIZE, SIZE, 3), np.uint8)
    held_out, numbers = np.zeros(FRAMES, bool), np.zeros(FRAMES, int)
    count = 0
    source = read_bags(bundle, bags)
    for number, episode in enumerate(progress(source, desc='encode', unit='episode')):
        for image in episode.images:
            place = count if count < FRAMES else int(rng.integers(count + 1))
            count += 1
            if place < FRAMES:
                latents[place] = engine.encode(image)
                images[place] = prepare(image, SIZE)
                held_out[place] = number % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
                numbers[place] = count
    kept = slice(min(count, FRAMES))
    if not count:
        raise BagError(f'{[str(b) for b in bags]}: no frames that the contract can read')
    if not held_out[kept].any():  # few episodes: hold out the last frames
        last = max(1, len(numbers[kept]) // HELD_OUT_EVERY)
        held_out[np.argsort(numbers[kept])[-last:]] = True
    return latents[kept], images[kept], held_out[kept]


def _errors(
    network: DecoderNetwork, latents: np.ndarray, images: np.ndarray
) -> tuple[float, float]:
    """Root mean squares of the decoder's error and of the mean image's, of values in [0, 255]."""
    graph, mean = DecoderGraph(network), 255 * network.mean.movedim(0, -1)
    squares = np.zeros(2)
    for at in range(0, len(latents), BATCH):
        here = slice(at, at + BATCH)
        seen = torch.from_numpy(images[here]).float()
        for index, image in enumerate((graph(torch.from_numpy(latents[here])), mean)):
            squares[index] += (image - seen).square().sum().item()
    error, spread = np.sqrt(squares / images.size)
    return float(error), float(spread)
