# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Several processes, started by ``torchrun``, that train one model; each has a part of each batch.

Without it there is one process and no process group, and every function here returns what it is
given. Tensors on the CPU go through gloo, those on a GPU through NCCL.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
import logging
import os
from typing import Any

import numpy as np
import torch
from torch import distributed
from torch.autograd.function import once_differentiable

from lewm_ros.errors import ModelError

#: Longest wait for the others, of which one may be reading bags. Where a process has ended,
#: torchrun ends the others at once.
TIMEOUT = timedelta(days=1)


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if _started() else 1


def rank() -> int:
    """Return the number of this process; 0 is the one that writes files."""
    return distributed.get_rank() if _started() else 0


def begin(device: str, batch: int) -> None:
    """Join the other processes, where torchrun has started several; only the first one logs.

    Args:
        device: 'cpu' or 'cuda'; each process of a machine has a GPU of its own.
        batch: windows of the batch that they share.

    Raises ModelError where it cannot be shared equally, or where GPUs are too few.
    """
    if not distributed.is_available() or not distributed.is_torchelastic_launched():
        return
    size, local = int(os.environ['WORLD_SIZE']), int(os.environ['LOCAL_RANK'])
    if size == 1:
        return
    if batch % size:
        raise ModelError(
            f'{size} processes cannot share a batch of {batch} windows equally: start a number of '
            'processes that divides it'
        )
    if device == 'cuda':
        if local >= torch.cuda.device_count():
            raise ModelError(
                f'{os.environ["LOCAL_WORLD_SIZE"]} processes on a machine of '
                f'{torch.cuda.device_count()} GPUs: start at most one for each'
            )
        torch.cuda.set_device(local)
    backend = 'cpu:gloo,cuda:nccl' if device == 'cuda' else 'gloo'
    distributed.init_process_group(backend, timeout=TIMEOUT)
    if rank() > 0:
        logging.getLogger('lewm').setLevel(logging.ERROR)


def end() -> None:
    """Part from the other processes, after which each is alone.

    Not after an error: others may be waiting for this process then, which ends as they do.
    """
    if _started():
        distributed.destroy_process_group()


def any_rank(flag: bool) -> bool:
    """Whether it is set in any process; all wait for each other.

    Raises ModelError where another one has ended.
    """
    if not _started():
        return flag
    number = torch.tensor(int(flag))
    try:
        distributed.all_reduce(number, distributed.ReduceOp.MAX)
    except RuntimeError as error:
        raise ModelError('another process of this training has ended') from error
    return bool(number)


@contextmanager
def first_rank_first() -> Iterator[None]:
    """Let the others into the block after the first one has left it."""
    if rank() > 0:
        any_rank(False)
    yield
    if rank() == 0:
        any_rank(False)


def part(windows: np.ndarray) -> np.ndarray:
    """Return what this process reads of a batch: equal parts, so that their mean is the batch's."""
    size = len(windows) // world_size()
    return windows[rank() * size :][:size]


def of_first_rank(x: torch.Tensor) -> torch.Tensor:
    """Return the tensor of the first process."""
    if _started():
        distributed.broadcast(x, 0)
    return x


def mean_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """Return the mean over the processes, through which gradients flow to all of them.

    With DistributedDataParallel, which averages gradients, that gives those of the mean loss.
    """
    return _Sum.apply(x) / world_size() if _started() else x


def gathered(x: torch.Tensor) -> torch.Tensor:
    """Return the parts (n, ...) of all processes as one (processes · n, ...), with gradients."""
    if not _started():
        return x
    whole = x.new_zeros(world_size(), *x.shape)
    whole[rank()] = x
    return _Sum.apply(whole).flatten(0, 1)


def _started() -> bool:
    return distributed.is_available() and distributed.is_initialized()


class _Sum(torch.autograd.Function):
    """Sum over the processes. Each one's sum has a gradient, so these are summed, too."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _Sum.forward(ctx, gradient)
