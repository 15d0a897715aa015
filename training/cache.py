# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bag that is read once into a folder of memory-mapped arrays.

The folder's name is a hash of what it was made of: the bytes of the bag's files, the contract,
the size of the images and the window. It may be deleted whenever nothing trains from it.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
import hashlib
import json
import logging
import os
from pathlib import Path
import shutil

import numpy as np

from lewm_ros.bags.episodes import ReadReport, episode_windows, read_episodes
from lewm_ros.bags.hashes import file_hash
from lewm_ros.bags.reader import bag_files
from lewm_ros.files import atomic_write, locked
from lewm_ros.progress import progress
from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S

#: Increased when the layout or the meaning of a cache changes.
VERSION = 5
ARRAYS = ('frames.npy', 'blocks.npy', 'episodes.npy')
log = logging.getLogger('lewm')


@dataclass(frozen=True)
class BagSummary:
    """What reading a bag gave."""

    episodes: int
    frames: int
    windows: int
    late: int  #: out-of-order frames and commands, which were sorted
    refused: dict[str, int]  #: messages left out, by reason
    camera_period: float  #: median time between frames [s]; 0 without frames
    clocks: list[str]  #: how those of images and commands differ
    joints: dict[str, list[str]]  #: joints that are read by index, by contract section
    camera_size: tuple[int, int] | None  #: width and height of the images [px]


@dataclass(frozen=True)
class CachedBag:
    """A bag's frames and windows.

    Attributes:
        path: the bag.
        hashes: SHA-256 of the bag's files.
        key: of the cache, a hash of them and of the window's settings.
        summary: what reading it gave.
        images: (n, S, S, 3) uint8, every frame of every episode, on disk.
        frames: (w, F) int64 indices into ``images``, F = H + 1, on disk.
        blocks: (w, F − 1, k·A) float32 action blocks, contract units, on disk.
        episodes: (w,) int32, the episode of each window, on disk.

    """

    path: Path
    hashes: list[str]
    key: str
    summary: BagSummary
    images: np.ndarray
    frames: np.ndarray
    blocks: np.ndarray
    episodes: np.ndarray


def cached_bag(
    path: Path,
    hashes: list[str],
    contract: Contract,
    size: int,
    history: int,
    frameskip: int,
    cache: Path,
) -> CachedBag:
    """Open a bag's folder in the cache, reading the bag if it is not there yet.

    Args:
        path: the bag.
        hashes: of its files, from :func:`hash_bags`.
        contract: the robot.
        size: image size S [px].
        history: H; a window has H + 1 frames.
        frameskip: k; a block lasts k control periods.
        cache: folder that holds one sub-folder for each bag.

    Raises:
        BagError: the bag cannot be read at all.

    """
    settings = [VERSION, contract.to_dict(), size, history, frameskip, hashes]
    text = json.dumps(settings, sort_keys=True)
    key = hashlib.sha256(text.encode()).hexdigest()[:24]
    folder = cache / key
    with _locked(cache):
        for partial in cache.glob('partial-*'):  # left by a run that was killed
            shutil.rmtree(partial)
        if not folder.exists():
            partial = cache / f'partial-{key}'
            partial.mkdir()
            try:
                _build(partial, path, contract, size, history, frameskip)
                os.replace(partial, folder)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
    found = json.loads((folder / 'summary.json').read_text())
    found['camera_size'] = found['camera_size'] and tuple(found['camera_size'])
    summary = BagSummary(**found)
    images = np.empty((0, size, size, 3), dtype=np.uint8)
    if summary.frames:
        images = np.memmap(folder / 'images.u8', np.uint8, 'r').reshape(-1, size, size, 3)
    frames, blocks, episodes = (np.load(folder / name, mmap_mode='r') for name in ARRAYS)
    return CachedBag(path, hashes, key, summary, images, frames, blocks, episodes)


def _build(
    folder: Path, bag: Path, contract: Contract, size: int, history: int, frameskip: int
) -> None:
    length, report, count = history + 1, ReadReport(logged=False), 0
    frames = [np.empty((0, length), dtype=np.int64)]
    blocks = [np.empty((0, history, frameskip * contract.action.size), dtype=np.float32)]
    episodes = [np.empty(0, dtype=np.int32)]
    steps = [np.empty(0, dtype=np.int64)]
    with (folder / 'images.u8').open('w+b', buffering=0) as file:
        source = read_episodes([bag], contract, size, report, spill=file)
        for number, episode in enumerate(progress(source, desc=f'read {bag.name}', unit='episode')):
            found, actions = episode_windows(episode, contract, history, frameskip)
            frames.append(found + count)
            blocks.append(actions.astype(np.float32))
            episodes.append(np.full(len(found), number, dtype=np.int32))
            steps.append(np.diff(episode.stamps))
            count += len(episode.stamps)
    arrays: tuple[np.ndarray, ...] = (
        np.concatenate(frames),
        np.concatenate(blocks),
        np.concatenate(episodes),
    )
    for name, array in zip(ARRAYS, arrays):
        np.save(folder / name, array)
    times = np.concatenate(steps)
    summary = BagSummary(
        report.episodes,
        count,
        sum(map(len, frames)),
        report.late,
        dict(report.refused),
        float(np.median(times)) / NS_PER_S if len(times) else 0.0,
        report.clocks,
        report.joints,
        report.camera_size,
    )
    (folder / 'summary.json').write_text(json.dumps(asdict(summary), indent=1))


def hash_bags(paths: list[Path], cache: Path) -> list[tuple[Path, list[str]]]:
    """Pair each bag with the SHA-256 of its files, in the order of recording.

    Hashes are stored in the cache folder by path, size, inode and ctime, so that big files are not
    read at every start.
    """
    memory = cache / 'hashes.json'
    with _locked(cache):
        try:
            known = json.loads(memory.read_text())
        except (FileNotFoundError, ValueError):  # lost hashes only cost time
            known = {}
        hashes = [(path, [_hash(file, known) for file in bag_files(path)]) for path in paths]
        with atomic_write(memory) as partial:
            partial.write_text(json.dumps(known, indent=1))
    return hashes


def _hash(file: Path, known: dict[str, list[object]]) -> str:
    stat = file.stat()
    state = [stat.st_size, stat.st_ino, stat.st_ctime_ns]
    name = str(file.resolve())
    if name not in known or known[name][:-1] != state:
        known[name] = [*state, file_hash(file)]
    return str(known[name][-1])


def _locked(folder: Path) -> AbstractContextManager[None]:
    """Create a folder and hold its lock; waits for another process that holds it."""
    message = 'waiting for another run that reads bags into %s'
    return locked(folder / 'lock', lambda: log.warning(message, folder))
