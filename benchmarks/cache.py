# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How fast training batches come from the cache: `python benchmarks/cache.py`.

Bags of noise are recorded and read into a cache. Batches of random windows are then made as in
training: uint8 frames of the memory-mapped file become normalised float32 tensors, with the
normalised action blocks. One thread, files in the page cache, best of five. The last figures are
the duration of a training step of preset `small` and the share of it spent on loading the batch.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
import tempfile
import time

import cv2
import numpy as np
import torch

from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.sim.collect import write_action, write_episode, write_image
from lewm_ros.time import NS_PER_S
from lewm_ros.training.config import CONFIGS
from lewm_ros.training.device import keep_memory
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import batches, load_windows

HISTORY, FRAMESKIP, PERIOD = 3, 5, NS_PER_S // 20


def record(path: Path, contract: Contract, frames: int, size: int) -> Path:
    """Write two episodes of noise with a command for each frame."""
    rng = np.random.default_rng(0)
    with BagWriter(path) as bag:
        for number in (1, 2):
            start = number * 100_000 * NS_PER_S
            write_episode(bag, start, number)
            for index in range(frames // 2):
                stamp = start + 1 + index * PERIOD
                write_action(bag, contract, stamp, rng.uniform(-1, 1, 2))
                image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
                write_image(bag, contract, stamp, image)
    return path


def best(work: Callable[[], object], repeats: int) -> float:
    """Duration of one call in the best of five rounds [s]."""
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(repeats):
            work()
        rounds.append((time.perf_counter() - start) / repeats)
    return min(rounds)


def measure(contract: Contract, size: int, frames: int, bags: int, folder: Path) -> None:
    """Print the duration of loading a batch and, at 64 px, of a training step."""
    paths = [record(folder / f'{size}-{n}', contract, frames // bags, size) for n in range(bags)]
    windows = load_windows(paths, contract, size, HISTORY, FRAMESKIP, folder / 'cache')
    trainer = Trainer(windows, contract, 'small', CONFIGS['small'], 'cpu', 0)
    source = batches(trainer.train, trainer.config.batch, seed=0)
    count = trainer.config.batch * (HISTORY + 1)
    took = best(lambda: trainer.batch(next(source)), 5)
    print(
        f'{size:4} px, {bags} bags: {count / took:8.0f} frames/s, a batch of {count} frames '
        f'{1000 * took:.1f} ms'
    )
    if size == 64:
        list(trainer.run(3))
        step = best(lambda: list(trainer.run(trainer.step + 4)), 1) / 4
        print(
            f'         a step of preset small: {1000 * step:.0f} ms, {took / step:.1%} of it '
            'for the batch'
        )


def main() -> None:
    """Measure one bag and several, at 64 and at 224 px."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--frames', type=int, default=6000, help='in all bags together')
    args = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    keep_memory()
    contract = Contract.load(find('contract', 'reacher'))
    for size in (64, 224):
        for bags in (1, 5):
            with tempfile.TemporaryDirectory() as folder:
                measure(contract, size, args.frames, bags, Path(folder))


if __name__ == '__main__':
    main()
