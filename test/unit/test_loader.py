# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Batches are read ahead, in order, and images are normalised as at run time."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from lewm_ros.robot.imaging import normalise
from lewm_ros.training.loader import READ_AHEAD, READER_THREADS, normalised, read_ahead


def test_batches_come_in_order_and_are_read_before_they_are_asked_for() -> None:
    """Batches come in order and are read ahead, but no more of them than READ_AHEAD allows."""
    begun: list[int] = []
    ready = threading.Event()

    def read(key: int) -> int:
        begun.append(key)
        if len(begun) == READ_AHEAD + 1:
            ready.set()
        return key * key

    batches = read_ahead(read, range(100))
    assert next(batches) == 0
    assert ready.wait(10)
    assert len(begun) <= 1 + READ_AHEAD + READER_THREADS
    assert list(batches) == [key * key for key in range(1, 100)]
    assert sorted(begun) == list(range(100))


def test_a_failed_read_is_raised_where_its_batch_would_have_come() -> None:
    """A failed read raises where its batch would have come; batches before it are complete."""

    def read(key: int) -> int:
        if key == 7:
            raise OSError('no such frame')
        return key

    batches = read_ahead(read, range(20))
    assert [next(batches) for _ in range(7)] == list(range(7))
    with pytest.raises(OSError, match='no such frame'):
        next(batches)


def test_images_are_normalised_as_by_the_runtime() -> None:
    """Training normalises all 256 values of each channel as the runtime does, to rounding."""
    frames = np.random.default_rng(0).permutation(np.arange(2 * 3 * 16 * 16 * 3) % 256)
    frames = frames.astype(np.uint8).reshape(2, 3, 16, 16, 3)
    found = normalised(torch.from_numpy(frames))
    assert found.dtype == torch.float32 and found.is_contiguous()
    np.testing.assert_allclose(found.numpy(), normalise(frames), atol=2e-6)
