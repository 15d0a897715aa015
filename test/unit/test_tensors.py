# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Our reader and writer of tensors agree with the format's own package."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from lewm_ros.bundle.tensors import check_tensors, read_tensors, write_tensors
from lewm_ros.errors import BundleError

MODELS = Path(__file__).resolve().parents[2] / 'models'
ARRAYS = {
    'weight': np.arange(6, dtype=np.float32).reshape(2, 3),
    'count': np.array(7, dtype=np.int64),
    'strided': np.arange(8, dtype=np.float32)[::2],
    'größe': np.full(3, np.nan, np.float32),
}


def same(one: dict[str, np.ndarray], other: dict[str, np.ndarray]) -> None:
    """Compare names, types, shapes and bits."""
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert array.dtype == other[name].dtype
        np.testing.assert_array_equal(array, other[name])


def test_what_is_written_is_read_by_both() -> None:
    """By us and by the package; the arrays can be written to."""
    data = write_tensors(ARRAYS)
    same(load(data), ARRAYS)
    same(read_tensors(data), ARRAYS)
    check_tensors(io.BytesIO(data), len(data))
    read_tensors(data)['weight'][0, 0] = 5


def test_what_the_package_writes_is_read() -> None:
    """With texts in its header too."""
    arrays = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items()}
    same(read_tensors(save(arrays, metadata={'made': 'by hand'})), ARRAYS)


@pytest.mark.parametrize('name', ['reacher', 'push'])
def test_shipped_weights_are_written_alike(name: str) -> None:
    """Byte for byte as the package wrote them: hashes of bundles do not change."""
    data = (MODELS / name / 'weights.safetensors').read_bytes()
    assert write_tensors(read_tensors(data)) == data


def test_another_number_type_is_not_written() -> None:
    """It could not be read back."""
    with pytest.raises(BundleError, match='a is of float64: expected float32 or int64'):
        write_tensors({'a': np.zeros(3)})
