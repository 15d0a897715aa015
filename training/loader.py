# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reads batches ahead of the training steps, and normalises images on the device."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

from lewm_ros.robot.imaging import MEAN, STD

#: Reader threads, and batches that are ready or being read. Reading releases the GIL.
READER_THREADS, READ_AHEAD = 2, 4
Key = TypeVar('Key')
Batch = TypeVar('Batch')


def read_ahead(read: Callable[[Key], Batch], keys: Iterable[Key]) -> Iterator[Batch]:
    """Yield ``read(key)`` of each key in order, while threads read the next ones.

    An exception of ``read`` is raised in place of its batch.
    """
    with ThreadPoolExecutor(READER_THREADS) as pool:
        pending: deque[Future[Batch]] = deque()
        for key in keys:
            pending.append(pool.submit(read, key))
            if len(pending) > READ_AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()


def normalised(frames: torch.Tensor) -> torch.Tensor:
    """Turn images (..., S, S, 3) uint8 into (..., 3, S, S) float32 on the device they are on.

    As :func:`lewm_ros.robot.imaging.normalise`, up to the rounding of float32.
    """
    mean, std = (torch.from_numpy(255 * x).to(frames.device)[:, None, None] for x in (MEAN, STD))
    planes = frames.movedim(-1, -3).to(torch.float32, memory_format=torch.contiguous_format)
    return planes.sub_(mean).div_(std)
