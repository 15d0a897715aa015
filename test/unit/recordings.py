# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Small recordings for tests: lists of messages, and bags of every form made from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
import struct
from typing import Any
import zlib

import lz4.frame
import numpy as np
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
import zstandard

from lewm_ros.bags.message_types import TYPES
from lewm_ros.time import NS_PER_S

MCAP, SQLITE3 = StoragePlugin.MCAP, StoragePlugin.SQLITE3
FRAME = NS_PER_S // 20
SIZE = 16
make = TYPES.types.__getitem__


@dataclass(frozen=True)
class Recorded:
    """A message, and when it was logged [ns]."""

    topic: str
    type: str
    logged: int
    message: Any


def header(stamp: int) -> Any:
    """std_msgs/Header of a stamp [ns]."""
    seconds, rest = divmod(stamp, NS_PER_S)
    time = make('builtin_interfaces/msg/Time')(sec=seconds, nanosec=rest)
    return make('std_msgs/msg/Header')(stamp=time, frame_id='camera_optical')


def frame(
    stamp: int,
    rows: np.ndarray,
    encoding: str = 'rgb8',
    width: int | None = None,
    logged: int | None = None,
    topic: str = '/lewm/camera/image',
    big_endian: bool = False,
) -> Recorded:
    """An Image whose rows of bytes are ``rows`` (height, step) or pixels (height, width, C)."""
    height = len(rows)
    step = rows[0].nbytes
    message = make('sensor_msgs/msg/Image')(
        header=header(stamp),
        height=height,
        width=rows.shape[1] if width is None else width,
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=step,
        data=np.frombuffer(rows.tobytes(), dtype=np.uint8),
    )
    return Recorded(topic, 'sensor_msgs/msg/Image', stamp if logged is None else logged, message)


def compressed(stamp: int, data: bytes, form: str = 'any') -> Recorded:
    """A CompressedImage."""
    message = make('sensor_msgs/msg/CompressedImage')(
        header=header(stamp), format=form, data=np.frombuffer(data, dtype=np.uint8)
    )
    return Recorded('/lewm/camera/image', 'sensor_msgs/msg/CompressedImage', stamp, message)


def command(logged: int, *values: float) -> Recorded:
    """An unstamped Float64MultiArray."""
    layout = make('std_msgs/msg/MultiArrayLayout')(dim=[], data_offset=0)
    message = make('std_msgs/msg/Float64MultiArray')(
        layout=layout, data=np.array(values, dtype=float)
    )
    return Recorded('/lewm/action', 'std_msgs/msg/Float64MultiArray', logged, message)


def joints(stamp: int, *positions: float) -> Recorded:
    """A JointState of two joints that do not move."""
    message = make('sensor_msgs/msg/JointState')(
        header=header(stamp),
        name=['shoulder', 'elbow'],
        position=np.array(positions, dtype=float),
        velocity=np.zeros(2),
        effort=np.empty(0),
    )
    return Recorded('/lewm/joint_states', 'sensor_msgs/msg/JointState', stamp, message)


def episode(logged: int, number: int) -> Recorded:
    """The start of an episode."""
    message = make('std_msgs/msg/UInt32')(data=number)
    return Recorded('/lewm/episode', 'std_msgs/msg/UInt32', logged, message)


def noise(index: int, size: int = SIZE) -> np.ndarray:
    """An incompressible image (size, size, 3) uint8, different for each index."""
    return np.random.default_rng(index).integers(0, 256, (size, size, 3), dtype=np.uint8)


def drive(frames: int = 30, episodes: int = 2, size: int = SIZE) -> list[Recorded]:
    """Episodes of noise at 20 Hz with commands between the frames and joint states."""
    messages = []
    for number in range(1, episodes + 1):
        start = number * 10 * NS_PER_S
        messages.append(episode(start - 2, number))
        for index in range(frames):
            stamp = start + index * FRAME
            messages += [
                command(stamp - 1, number + index / 100, -index / 100),
                joints(stamp, index, number),
                frame(stamp, noise(100 * number + index, size)),
            ]
    return messages


def write(
    path: Path,
    messages: list[Recorded],
    storage: StoragePlugin = MCAP,
    compression: CompressionMode = CompressionMode.NONE,
) -> Path:
    """Write a bag in the order of the list; returns its folder."""
    writer = Writer(path, version=9, storage_plugin=storage)
    if compression != CompressionMode.NONE:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        links: dict[tuple[str, str], Any] = {}
        for item in messages:
            key = (item.topic, item.type)
            if key not in links:
                links[key] = writer.add_connection(*key, typestore=TYPES)
            data = item.message
            if not isinstance(data, bytes):
                data = TYPES.serialize_cdr(data, item.type)
            writer.write(links[key], item.logged, data)
    return path


def record(kind: int, body: bytes) -> bytes:
    """A record of an MCAP file."""
    return struct.pack('<BQ', kind, len(body)) + body


def text(value: str) -> bytes:
    """A string with a length prefix."""
    return struct.pack('<I', len(value)) + value.encode()


def chunk(
    records: bytes, compression: str = '', size: int | None = None, crc: bool = True
) -> bytes:
    """A chunk record; ``size`` is the uncompressed size that it claims [bytes]."""
    pack = {'': bytes, 'zstd': zstandard.compress, 'lz4': lz4.frame.compress}[compression]
    packed = pack(records)
    size = len(records) if size is None else size
    head = struct.pack('<QQQI', 0, 0, size, zlib.crc32(records) if crc else 0)
    return record(6, head + text(compression) + struct.pack('<Q', len(packed)) + packed)


def write_mcap(
    path: Path,
    messages: list[Recorded],
    compression: str | None = 'zstd',
    chunk_bytes: int = 20_000,
    summary: bool = True,
    crc: bool = True,
) -> list[list[Recorded]]:
    """Write an MCAP file with small chunks, as rosbag2's recorder lays it out.

    rosbags' writer has chunks of 1 MB, and no CRC. Without ``compression`` (None) there are no
    chunks. Returns the messages of each chunk.
    """
    described, pending, data = b'', b'', b''
    channels: dict[tuple[str, str], int] = {}
    counts: Counter[int] = Counter()
    chunks: list[list[Recorded]] = [[]]
    for item in [*messages, None]:
        if item is None or len(pending) > chunk_bytes:
            data += pending if compression is None else chunk(pending, compression, crc=crc)
            # What rosbag2 writes after a chunk: an index of one channel.
            index = struct.pack('<HI', 1, 16) + bytes(16)
            data += b'' if compression is None else record(7, index)
            pending = b''
            chunks.append([])
        if item is None:
            break
        key = (item.topic, item.type)
        if key not in channels:
            number = channels[key] = len(channels) + 1
            schema = struct.pack('<H', number) + text(item.type) + text('ros2msg') + text('')
            channel = struct.pack('<HH', number, number) + text(item.topic) + text('cdr') + text('')
            pending += record(3, schema) + record(4, channel)
            described += record(3, schema) + record(4, channel)
        body = item.message
        if not isinstance(body, bytes):
            body = bytes(TYPES.serialize_cdr(body, item.type))
        head = struct.pack('<HIQQ', channels[key], 0, item.logged, item.logged)
        pending += record(5, head + body)
        counts[channels[key]] += 1
        chunks[-1].append(item)
    magic = b'\x89MCAP0\r\n'
    start = magic + record(1, text('ros2') + text('test')) + data + record(15, bytes(4))
    by_channel = b''.join(struct.pack('<HQ', *c) for c in counts.items())
    described += record(11, bytes(42) + struct.pack('<I', len(by_channel)) + by_channel)
    foot = struct.pack('<QQ', len(start) if summary else 0, 0)
    described = described if summary else b''
    total = zlib.crc32(described + struct.pack('<BQ', 2, 20) + foot) if summary else 0
    path.write_bytes(start + described + record(2, foot + struct.pack('<I', total)) + magic)
    return chunks[:-1]


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    """Assert that episodes are bitwise equal."""
    assert [len(e.stamps) for e in found] == [len(e.stamps) for e in expected]
    for one, other in zip(found, expected):
        for name in ('stamps', 'images', 'action_stamps', 'actions', 'states'):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
