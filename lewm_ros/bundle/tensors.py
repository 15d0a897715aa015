# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Named arrays in a file, in the safetensors layout: it holds numbers and cannot hold code.

The length of a JSON header in 8 bytes, the header (for each array its type, shape and place),
then the numbers (https://huggingface.co/docs/safetensors). Of its number types only those of
our networks are read, which numpy has too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
import io
import json
import math
import struct
from typing import Any, BinaryIO

import numpy as np

from lewm_ros.bundle.json_reader import parse_json
from lewm_ros.errors import BundleError, one_line, shown

HEADER_LIMIT = 1 << 22  #: longest header [bytes]; a network of 300 tensors has 30 kB
_TYPES: dict[str, np.dtype[Any]] = {'F32': np.dtype('<f4'), 'I64': np.dtype('<i8')}
_NAMES = {dtype: name for name, dtype in _TYPES.items()}
_DIMENSIONS = 8


@dataclass(frozen=True)
class _Entry:
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int  #: [bytes] from the end of the header
    end: int


def check_tensors(file: BinaryIO, size: int) -> None:
    """Check a file of ``size`` bytes by its header, the only part that is read.

    Raises BundleError unless the arrays lie in it one after the other, none over another, and
    fill it to its end.
    """
    _read_header(file, size)


def read_tensors(data: bytes) -> dict[str, np.ndarray]:
    """Return the arrays of a file. Raises BundleError as :func:`check_tensors`."""
    file = io.BytesIO(data)
    entries = _read_header(file, len(data))
    begin = file.tell()
    return {
        name: np.frombuffer(data, entry.dtype, math.prod(entry.shape), begin + entry.start)
        .reshape(entry.shape)
        .copy()
        for name, entry in entries.items()
    }


def write_tensors(arrays: Mapping[str, np.ndarray]) -> bytes:
    """Return the content of a file that :func:`read_tensors` reads back.

    Raises BundleError for an array of another number type.
    """
    wrong = [f'{name} is of {a.dtype}' for name, a in arrays.items() if a.dtype not in _NAMES]
    if wrong:
        raise BundleError(f'{wrong[0]}: expected float32 or int64')
    header, parts, at = {}, [], 0
    # The wider type first: all numbers are aligned then.
    for name, array in sorted(arrays.items(), key=lambda item: -item[1].itemsize):
        parts.append(array.tobytes())
        end = at + len(parts[-1])
        header[name] = {
            'dtype': _NAMES[array.dtype],
            'shape': array.shape,
            'data_offsets': (at, end),
        }
        at = end
    text = json.dumps(header, separators=(',', ':')).encode()
    text += b' ' * (-len(text) % 8)
    return struct.pack('<Q', len(text)) + text + b''.join(parts)


def _read_header(file: BinaryIO, size: int) -> dict[str, _Entry]:
    start = file.read(8)
    length = struct.unpack('<Q', start)[0] if len(start) == 8 else size
    if length > min(size - 8, HEADER_LIMIT):
        raise BundleError(f'is no safetensors file (a header of {length} bytes in {size})')
    try:
        found = parse_json(file.read(length))
    except ValueError as error:
        raise BundleError(f'is no safetensors file (header: {one_line(error)})') from error
    if not isinstance(found, dict):
        raise BundleError('is no safetensors file (the header is no JSON object)')
    found.pop('__metadata__', None)  # texts, which nothing here reads
    entries = {name: _entry(name, given) for name, given in found.items()}
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].end)):
        if entry.start != at:
            raise BundleError(
                f'{shown(name)} begins at byte {entry.start}, what comes before it ends at {at}: '
                'expected one after the other'
            )
        at = entry.end
    if at != size - 8 - length:
        raise BundleError(f'has {size - 8 - length} bytes of numbers, its header describes {at}')
    return entries


def _entry(name: str, given: Any) -> _Entry:
    if not isinstance(given, dict) or set(given) != {'dtype', 'shape', 'data_offsets'}:
        raise BundleError(f'{shown(name)} is {shown(given)}: expected dtype, shape, data_offsets')
    kind, shape, place = given['dtype'], given['shape'], given['data_offsets']
    if not isinstance(kind, str) or kind not in _TYPES:
        raise BundleError(f'{shown(name)} is of type {shown(kind)}: expected one of {list(_TYPES)}')
    if not _are_sizes(shape, 1) or len(shape) > _DIMENSIONS:
        raise BundleError(f'{shown(name)} has shape {shown(shape)}: expected up to 8 sizes')
    if not _are_sizes(place, 0) or len(place) != 2:
        raise BundleError(f'{shown(name)} has data_offsets {shown(place)}: expected begin and end')
    entry = _Entry(_TYPES[kind], tuple(shape), *place)
    expected = math.prod(entry.shape) * entry.dtype.itemsize
    if entry.end - entry.start != expected:
        raise BundleError(
            f'{shown(name)} of shape {list(entry.shape)} takes {expected} bytes, its '
            f'data_offsets {place} hold {entry.end - entry.start}'
        )
    return entry


def _are_sizes(value: Any, low: int) -> bool:
    return isinstance(value, list) and all(type(v) is int and low <= v < 1 << 63 for v in value)
