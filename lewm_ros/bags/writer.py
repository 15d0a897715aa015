# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Writer of a rosbag2 folder of MCAP files that loses at most the last second when killed.

Every chunk is compressed (zstd) and has a CRC. :meth:`BagFolder.flush` ends the current chunk and
syncs it to the disk: a kill leaves a file without an index, whose chunks any MCAP tool can still
read (``mcap recover``, or :mod:`lewm_ros.bags.repair`). Closed files are complete and listed in
``metadata.yaml``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
import fcntl
from functools import cache
import os
from pathlib import Path
from typing import Any

import yaml

from lewm_ros import __version__
from lewm_ros.bags.layout import METADATA, SET_BACK
from lewm_ros.errors import BagError
from lewm_ros.files import atomic_write
from lewm_ros.install import how_to_install
from lewm_ros.time import NS_PER_S

try:
    from mcap.writer import CompressionType, Writer
    from rosbags.typesys import TypesysError

    from lewm_ros.bags.message_types import TYPES
except ModuleNotFoundError as error:
    raise BagError(
        f"recording needs the Python package '{error.name}': {how_to_install('record')}"
    ) from error

#: Messages are compressed together up to this size [bytes].
CHUNK = 1 << 20
#: Layout of metadata.yaml: ROS 2 Jazzy and newer.
VERSION = 9

_FOREVER = {'sec': 9223372036, 'nsec': 854775807}


@dataclass(frozen=True)
class Channel:
    """A recorded topic: full name, type, and the QoS offered by its publisher."""

    topic: str
    type: str
    reliable: bool = True
    latched: bool = False

    @property
    def qos(self) -> list[dict[str, Any]]:
        """Offered quality of service as rosbag2 writes it; `ros2 bag play` publishes with it."""
        return [
            {
                'history': 'keep_last',
                'depth': 1 if self.latched else 10,
                'reliability': 'reliable' if self.reliable else 'best_effort',
                'durability': 'transient_local' if self.latched else 'volatile',
                'deadline': _FOREVER,
                'lifespan': _FOREVER,
                'liveliness': 'automatic',
                'liveliness_lease_duration': _FOREVER,
                'avoid_ros_namespace_conventions': False,
            }
        ]

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of the channel in an MCAP file."""
        return {
            'offered_qos_profiles': _dump(self.qos),
            'topic_type_hash': definition(self.type)[1],
        }


@cache
def definition(kind: str) -> tuple[str, str]:
    """Return the full message definition and the hash of a type. Raises BagError."""
    try:
        return TYPES.generate_msgdef(kind, ros_version=2)[0], TYPES.hash_rihs01(kind)
    except TypesysError as error:
        raise BagError(
            f'message type {kind} is unknown: expected one of the standard messages of ROS 2'
        ) from error


@dataclass
class Part:
    """Entry of one file in metadata.yaml: log times of first and last message [ns], counts."""

    name: str
    start: int = 0
    end: int = 0
    counts: Counter[Channel] = field(default_factory=Counter)

    @property
    def messages(self) -> int:
        """Messages in the file."""
        return self.counts.total()

    def add(self, channel: Channel, stamp: int) -> None:
        """Count a message logged at ``stamp`` [ns]."""
        self.start = min(stamp, self.start) if self.counts else stamp
        self.end = max(stamp, self.end)
        self.counts[channel] += 1


class PartWriter:
    """One MCAP file. Raises OSError where it cannot be written."""

    def __init__(self, path: Path) -> None:
        self.part = Part(path.name)
        self._stream = path.open('xb')
        with suppress(OSError):  # some network file systems have no locks
            fcntl.flock(self._stream, fcntl.LOCK_EX)  # until closed, or killed
        self._writer = Writer(self._stream, CHUNK, CompressionType.ZSTD)
        self._writer.start('ros2', f'lewm_ros {__version__}')
        self._schemas: dict[str, int] = {}
        self._channels: dict[Channel, int] = {}

    @property
    def size(self) -> int:
        """Bytes in the file, without the current chunk."""
        return self._stream.tell()

    def write(self, channel: Channel, stamp: int, data: bytes) -> None:
        """Append a serialised message that was received at ``stamp`` [ns]."""
        number = self._channels.get(channel)
        if number is None:
            number = self._channels[channel] = self._register(channel)
        self._writer.add_message(number, stamp, data, stamp)
        self.part.add(channel, stamp)

    def flush(self) -> None:
        """End the current chunk and sync it to the disk."""
        self._writer.flush()
        os.fdatasync(self._stream.fileno())

    def close(self) -> Part:
        """Write the index, which completes the file."""
        try:
            self._writer.flush()
            about = information([self.part], {})['rosbag2_bagfile_information']
            self._writer.add_metadata('rosbag2', {'serialized_metadata': _dump(about)})
            self._writer.finish()
            self._stream.flush()
            os.fsync(self._stream.fileno())
        finally:
            self._stream.close()
        return self.part

    def _register(self, channel: Channel) -> int:
        if channel.type not in self._schemas:
            text, _ = definition(channel.type)
            self._schemas[channel.type] = self._writer.register_schema(
                channel.type, 'ros2msg', text.encode()
            )
        return self._writer.register_channel(
            channel.topic, 'cdr', self._schemas[channel.type], channel.metadata
        )


class BagFolder:
    """A bag being written: files of ``split_seconds`` [s] or ``split_bytes``, and metadata.yaml.

    Not thread safe. Raises BagError if the folder exists, OSError where it cannot be written.
    ``metadata`` is its custom data.
    """

    def __init__(
        self,
        path: Path,
        metadata: Mapping[str, str] | None = None,
        split_seconds: float = 60.0,
        split_bytes: float = 4e9,
    ) -> None:
        if path.exists():
            raise BagError(f'bag {path}: exists already; choose another name or remove it')
        try:
            path.mkdir(parents=True)
        except OSError as error:
            raise BagError(f'bag {path}: cannot be created ({error.strerror})') from error
        self.path = path
        self.metadata = dict(metadata or {})
        self._split_time = split_seconds * NS_PER_S
        self._split_bytes = split_bytes
        self._parts: list[Part] = []
        self._writer: PartWriter | None = None
        self._failure: OSError | None = None
        # Opened at once, so that an error is raised before the first message.
        self._open()

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(p.stat().st_size for p in self.path.iterdir())

    def write(self, channel: Channel, stamp: int, data: bytes) -> None:
        """Append a serialised message that was received at ``stamp`` [ns]."""
        writer = self._writer or self._open()
        part = writer.part
        if part.counts and (
            stamp - part.start >= self._split_time
            or stamp < part.end - SET_BACK
            or writer.size >= self._split_bytes
        ):
            self.close()
            writer = self._open()
        writer.write(channel, stamp, data)

    def flush(self) -> None:
        """Sync everything written so far to the disk."""
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Close the current file and list it in metadata.yaml.

        Safe to call twice. An OSError is raised again: then the bag has to be repaired.
        """
        if self._failure is not None:
            raise self._failure
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                self._parts.append(writer.close())
                write_metadata(self.path, self._parts, self.metadata)
            except OSError as error:
                self._failure = error
                raise

    def _open(self) -> PartWriter:
        name = f'{self.path.name}_{len(self._parts)}.mcap'
        self._writer = PartWriter(self.path / name)
        return self._writer


def information(parts: Iterable[Part], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the content of metadata.yaml for these files, as plain data."""
    parts = list(parts)
    filled = [p for p in parts if p.counts]
    start = min((p.start for p in filled), default=0)
    counts = sum((p.counts for p in parts), Counter[Channel]())
    return {
        'rosbag2_bagfile_information': {
            'version': VERSION,
            'storage_identifier': 'mcap',
            'duration': {'nanoseconds': max((p.end for p in filled), default=0) - start},
            'starting_time': {'nanoseconds_since_epoch': start},
            'message_count': counts.total(),
            'topics_with_message_count': [
                {
                    'topic_metadata': {
                        'name': channel.topic,
                        'type': channel.type,
                        'serialization_format': 'cdr',
                        'offered_qos_profiles': channel.qos,
                        'type_description_hash': definition(channel.type)[1],
                    },
                    'message_count': count,
                }
                for channel, count in sorted(counts.items(), key=lambda item: item[0].topic)
            ],
            'compression_format': '',
            'compression_mode': '',
            'relative_file_paths': [p.name for p in parts],
            'files': [
                {
                    'path': p.name,
                    'starting_time': {'nanoseconds_since_epoch': p.start},
                    'duration': {'nanoseconds': p.end - p.start},
                    'message_count': p.messages,
                }
                for p in parts
            ],
            'custom_data': dict(metadata) or None,
            'ros_distro': os.environ.get('ROS_DISTRO', 'unknown'),
        }
    }


def write_metadata(folder: Path, parts: Iterable[Part], metadata: Mapping[str, str]) -> None:
    """Write metadata.yaml of a bag, atomically."""
    with atomic_write(folder / METADATA) as partial:
        partial.write_text(_dump(information(parts, metadata)))


class _Dumper(yaml.SafeDumper):
    """YAML without anchors, which other readers may not support."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=False)
