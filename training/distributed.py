# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Distributed training of one model by processes of ``torchrun``; each has a part of each batch.

Without torchrun there is one process and no process group, and every function here returns its
input. Tensors on the CPU use gloo, tensors on a GPU use NCCL.
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

#: Longest wait for the other processes, one of which may be reading bags. If a process ends,
#: torchrun ends the others at once.
TIMEOUT = timedelta(days=1)


def world_size() -> int:
    """Return the number of processes that train together."""
    return distributed.get_world_size() if _started() else 1


def rank() -> int:
    """Return the rank of this process; rank 0 writes the files."""
    return distributed.get_rank() if _started() else 0


def begin(device: str, batch: int) -> None:
    """Join the process group if torchrun has started several processes; only rank 0 logs.

    Args:
        device: 'cpu' or 'cuda'; each process of a machine has a GPU of its own.
        batch: windows of the batch that they share.

    Raises ModelError if it cannot be split equally, or if there are too few GPUs.
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
    """Leave the process group, after which each process works alone.

    Do not call it after an error: other processes may then be waiting for this one.
    """
    if _started():
        distributed.destroy_process_group()


def any_rank(flag: bool) -> bool:
    """Whether ``flag`` is set in any process; all wait for each other.

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
    """Run the block in rank 0 first, then in the other processes."""
    if rank() > 0:
        any_rank(False)
    yield
    if rank() == 0:
        any_rank(False)


def part(windows: np.ndarray) -> np.ndarray:
    """Return this process's part of a batch; parts are equal, so their mean is the batch's."""
    size = len(windows) // world_size()
    return windows[rank() * size :][:size]


def of_first_rank(x: torch.Tensor) -> torch.Tensor:
    """Return the tensor of the first process."""
    if _started():
        distributed.broadcast(x, 0)
    return x


def mean_over_ranks(x: torch.Tensor) -> torch.Tensor:
    """Return the mean over the processes; gradients flow back to all of them.

    With DistributedDataParallel, which averages gradients, they are those of the mean loss.
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
    """All-reduce sum. The backward pass sums the gradients of all processes, too."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        total = x.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        return _Sum.forward(ctx, gradient)
