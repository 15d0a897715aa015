# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Training windows: bags read once into a memory-mapped cache, then sampled in any order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import hashlib
import json
import logging
import os
from pathlib import Path
import shutil
import tempfile

import numpy as np
from tqdm import tqdm

from lewm_ros.contract import Contract
from lewm_ros.errors import BagError
from lewm_ros.history import NANOSECOND, block_actions, window_indices
from lewm_ros.imaging import normalise
from lewm_training.bags import Episode, ReadReport, read_episodes

#: Raised when the layout or the meaning of a cache changes.
VERSION = 1
log = logging.getLogger('lewm')


@dataclass(frozen=True)
class Windows:
    """Windows of F = H + 1 frames over a memory-mapped cache.

    Attributes:
        images: (n, S, S, 3) uint8, every frame of every episode, on disk.
        frames: (w, F) int64 indices into ``images``.
        blocks: (w, F − 1, k·A) float32 action blocks, contract units.
        episodes: (w,) int32, the episode of each window.
        states: (n, X) float64 or None.
        camera_period: median time between frames [s].

    """

    images: np.ndarray
    frames: np.ndarray
    blocks: np.ndarray
    episodes: np.ndarray
    states: np.ndarray | None
    camera_period: float

    def split(self, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Window indices for training and validation, whole episodes apart.

        Raises BagError where there are not at least two episodes.
        """
        numbers = np.unique(self.episodes)
        if len(numbers) < 2:
            raise BagError(
                f'{len(numbers)} episode with usable windows: training needs at least 2, so that '
                'one can be held out for validation'
            )
        count = min(max(1, round(held_out * len(numbers))), len(numbers) - 1)
        chosen = np.random.default_rng(seed).permutation(numbers)[:count]
        validation = np.isin(self.episodes, chosen)
        return np.flatnonzero(~validation), np.flatnonzero(validation)

    def pixels(self, windows: np.ndarray) -> np.ndarray:
        """Normalised pictures of some windows, (b, F, 3, S, S) float32."""
        return normalise(self.images[self.frames[windows]])

    def action_statistics(self, windows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of one tick's action over windows, each (A,) float64."""
        ticks = self.blocks[windows].reshape(-1, size).astype(np.float64)
        return ticks.mean(axis=0), ticks.std(axis=0)


def batches(windows: np.ndarray, size: int, seed: int, start: int = 0) -> Iterator[np.ndarray]:
    """Endless batches of window indices, a fresh order each epoch.

    Batch i depends on ``seed`` and i alone, so a resumed run continues with batch ``start``.
    """
    per_epoch = len(windows) // size
    if per_epoch == 0:
        raise BagError(f'{len(windows)} training windows: a batch needs {size}; record more')
    epoch, first = divmod(start, per_epoch)
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(windows)
        for i in range(first, per_epoch):
            yield order[i * size : (i + 1) * size]
        epoch, first = epoch + 1, 0


def load_windows(
    bags: list[Path], contract: Contract, size: int, history: int, frameskip: int, cache: Path
) -> Windows:
    """Windows of some bags, from the cache if their content was read before.

    Args:
        bags: rosbag2 folders.
        contract: the robot.
        size: image size S [px].
        history: H.
        frameskip: k; a block lasts k control periods.
        cache: folder that holds one sub-folder per content.

    Raises:
        BagError: nothing usable, with the reasons counted.

    """
    folder = cache / _key(bags, contract, size, history, frameskip)
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix='partial-', dir=cache))
        try:
            _build(partial, bags, contract, size, history, frameskip)
            os.replace(partial, folder)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    with np.load(folder / 'index.npz') as index:
        states = index['states']
        return Windows(
            np.memmap(folder / 'images.u8', dtype=np.uint8, mode='r').reshape(-1, size, size, 3),
            index['frames'],
            index['blocks'],
            index['episodes'],
            states if states.size else None,
            float(index['camera_period']),
        )


def episode_windows(
    episode: Episode, contract: Contract, history: int, frameskip: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the usable windows of an episode: frames one block apart, the commands known.

    Returns indices of the frames (w, H + 1) and action blocks (w, H, k·A) float64.
    """
    step = np.diff(episode.stamps)
    period = int(np.median(step)) if len(step) else 0
    block = round(frameskip * contract.period * NANOSECOND)
    found = window_indices(episode.stamps, block, history + 1, period)
    actions = block_actions(
        episode.action_stamps, episode.actions, episode.stamps[found], frameskip
    )
    known = ~np.isnan(actions).any(axis=(1, 2))
    return found[known], actions[known]


def _build(
    folder: Path, bags: list[Path], contract: Contract, size: int, history: int, frameskip: int
) -> None:
    block = round(frameskip * contract.period * NANOSECOND)
    frames, blocks, episodes, states, steps = [], [], [], [], []
    count = unusable = 0
    report = ReadReport()
    with open(folder / 'images.u8', 'wb') as file:
        source = read_episodes(bags, contract, size, report)
        for number, episode in enumerate(tqdm(source, desc='read', unit='episode')):
            found, actions = episode_windows(episode, contract, history, frameskip)
            unusable += len(episode.stamps) - len(found)
            frames.append(found + count)
            blocks.append(actions.astype(np.float32))
            episodes.append(np.full(len(found), number, dtype=np.int32))
            steps.append(np.diff(episode.stamps))
            if episode.states is not None:
                states.append(episode.states)
            file.write(episode.images.tobytes())
            count += len(episode.stamps)
    for reason, times in report.refused.items():
        log.warning('refused %d messages: %s', times, reason)
    total = sum(map(len, frames))
    log.info(
        '%d episodes, %d frames, %d windows (%d frames start none)',
        report.episodes,
        count,
        total,
        unusable,
    )
    if total == 0:
        reasons = '; '.join(f'{n} x {r}' for r, n in report.refused.items())
        raise BagError(
            f'no usable window in {[str(b) for b in bags]}: {count} frames read; a window needs '
            f'{history + 1} frames {block / NANOSECOND:g} s apart with commands in between'
            + (f'; refused: {reasons}' if reasons else '')
        )
    whole = states and sum(map(len, states)) == count
    np.savez(
        folder / 'index.npz',
        frames=np.concatenate(frames),
        blocks=np.concatenate(blocks),
        episodes=np.concatenate(episodes),
        states=np.concatenate(states) if whole else np.empty(0),
        camera_period=np.median(np.concatenate(steps)) / NANOSECOND,
    )


def _key(bags: list[Path], contract: Contract, size: int, history: int, frameskip: int) -> str:
    """Hash of everything that the cache depends on: the bags' bytes and the settings."""
    settings = [VERSION, contract.to_dict(), size, history, frameskip]
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for bag in bags:
        if not bag.exists():
            raise BagError(f'bag {bag}: no such file or folder')
        for file in sorted(bag.rglob('*')) if bag.is_dir() else [bag]:
            if file.is_file():
                with open(file, 'rb') as stream:
                    digest.update(hashlib.file_digest(stream, 'sha256').digest())
    return digest.hexdigest()[:24]
