# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""rosbag2 bags in and out: the one path from recorded data to training.

Simulated episodes are written to, and read from, the same kind of bag that a robot records.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import (
    CompressionFormat,
    CompressionMode,
    ReaderError,
    StoragePlugin,
    Writer,
)
from rosbags.typesys import Stores, get_typestore
import yaml

from lewm_ros.contract import Contract
from lewm_ros.errors import BagError, ObservationError
from lewm_ros.fields import read_fields
from lewm_ros.history import NANOSECOND, nearest
from lewm_ros.imaging import from_message, prepare

#: A pause between frames longer than this [s] starts a new episode.
GAP = 1.0
#: Key of a bag's metadata that says how it was made.
COMMAND = 'lewm_command'
TYPES = get_typestore(Stores.ROS2_JAZZY)


@dataclass(frozen=True)
class Episode:
    """One uninterrupted piece of a recording; stamps are int64 [ns]."""

    stamps: np.ndarray  #: (n,) of the frames, ascending
    images: np.ndarray  #: (n, S, S, 3) uint8, as imaging.prepare makes them
    action_stamps: np.ndarray  #: (m,) when each command takes effect, ascending
    actions: np.ndarray  #: (m, A) float64, contract units
    states: np.ndarray | None  #: (n, X) float64, the state nearest to each frame


@dataclass
class ReadReport:
    """What a reader met; ``refused`` counts messages left out, by reason."""

    frames: int = 0
    episodes: int = 0
    refused: Counter[str] = field(default_factory=Counter)


def read_episodes(
    bags: Iterable[str | Path], contract: Contract, size: int, report: ReadReport | None = None
) -> Iterator[Episode]:
    """Read every episode of some bags, in order.

    Args:
        bags: rosbag2 folders (MCAP or sqlite3).
        contract: names the topics and fields, and the crop.
        size: image size S [px].
        report: filled along the way.

    Raises:
        BagError: a bag cannot be read, or lacks a topic of the contract.

    """
    report = ReadReport() if report is None else report
    for bag in bags:
        path = Path(bag)
        if not path.exists():
            raise BagError(f'bag {path}: no such file or folder')
        try:
            with AnyReader([path], default_typestore=TYPES) as reader:
                yield from _read_bag(reader, path, contract, size, report)
        except (AnyReaderError, ReaderError, OSError) as error:
            raise BagError(f'bag {path}: cannot be read as rosbag2 ({error})') from error


class _Collector:
    """Gathers the messages of one episode until it is cut."""

    def __init__(self, action_size: int) -> None:
        self.action_size = action_size
        self.frames: list[tuple[int, np.ndarray]] = []
        self.actions: list[tuple[int, np.ndarray]] = []
        self.states: list[tuple[int, np.ndarray]] = []

    def episode(self) -> Episode | None:
        if not self.frames or not self.actions:
            return None
        stamps = np.array([s for s, _ in self.frames], dtype=np.int64)
        action_stamps = np.array([s for s, _ in self.actions], dtype=np.int64)
        states = None
        if self.states:
            state_stamps = np.array([s for s, _ in self.states], dtype=np.int64)
            states = np.array([v for _, v in self.states])[nearest(state_stamps, stamps)]
        return Episode(
            stamps,
            np.stack([i for _, i in self.frames]),
            action_stamps,
            np.array([a for _, a in self.actions]).reshape(-1, self.action_size),
            states,
        )


def _read_bag(
    reader: AnyReader, path: Path, contract: Contract, size: int, report: ReadReport
) -> Iterator[Episode]:
    camera = _connection(reader, path, contract.camera.topic, contract.camera.type)
    applied = contract.action.applied
    action = _connection(reader, path, applied.topic, applied.type)
    wanted = [camera, action]
    state = None
    if contract.state is not None:
        state = _find(reader, contract.state.topic, contract.state.type)
        wanted += [state] if state else []
    episodes = _find(reader, 'episode', 'std_msgs/msg/UInt32')
    wanted += [episodes] if episodes else []

    delay = round(contract.action.delay * NANOSECOND)
    number = None
    current = _Collector(contract.action.size)

    def cut() -> Iterator[Episode]:
        nonlocal current
        episode = current.episode()
        current = _Collector(contract.action.size)
        if episode is not None:
            report.episodes += 1
            yield episode

    for connection, logged, raw in reader.messages(wanted):
        message: Any = reader.deserialize(raw, connection.msgtype)
        if connection.topic == camera.topic:
            stamp = _stamp(message, logged)
            if current.frames:
                step = stamp - current.frames[-1][0]
                if step == 0:
                    report.refused['duplicate stamp'] += 1
                    continue
                if step < 0 or step > GAP * NANOSECOND:
                    yield from cut()
            try:
                image = from_message(message)
                current.frames.append((stamp, prepare(image, size, contract.camera.crop)))
                report.frames += 1
            except ObservationError as error:
                report.refused[str(error)] += 1
        elif connection.topic == action.topic:
            stamp = _stamp(message, logged + delay)
            value = read_fields(message, applied.fields)
            if not np.isfinite(value).all():
                report.refused['action not finite'] += 1
            elif not current.actions or stamp > current.actions[-1][0]:
                current.actions.append((stamp, value))
            else:
                report.refused['action out of order'] += 1
        elif state is not None and connection.topic == state.topic:
            value = read_fields(message, contract.state.fields)  # type: ignore[union-attr]
            current.states.append((_stamp(message, logged), value))
        elif message.data != number:
            number = message.data
            yield from cut()
    yield from cut()


def _find(reader: AnyReader, topic: str, kind: str) -> Connection | None:
    """Find a topic by its full name, or by the end of it where the contract's is relative."""
    tail = '/' + topic.lstrip('/')
    found = [
        c
        for c in reader.connections
        if c.msgtype == kind
        and (c.topic == tail or (not topic.startswith('/') and c.topic.endswith(tail)))
    ]
    if len({c.topic for c in found}) > 1:
        raise BagError(
            f'{kind} {topic} could be any of {sorted({c.topic for c in found})}: give the whole '
            'name in the contract, or record one robot'
        )
    return found[0] if found else None


def _connection(reader: AnyReader, path: Path, topic: str, kind: str) -> Connection:
    found = _find(reader, topic, kind)
    if found is None:
        present = ', '.join(sorted(f'{c.topic} ({c.msgtype})' for c in reader.connections))
        raise BagError(
            f'bag {path}: no topic {topic} ({kind}) as the contract says; it has: '
            f'{present or "nothing"}'
        )
    return found


def _stamp(message: Any, logged: int) -> int:
    """Header stamp [ns]; log time where there is no header or a zero stamp."""
    header = getattr(message, 'header', None)
    if header is None:
        return logged
    return (header.stamp.sec * NANOSECOND + header.stamp.nanosec) or logged


def recording_command(bag: str | Path) -> str:
    """How a bag was made, as its metadata says; its name where it does not."""
    try:
        data = yaml.safe_load((Path(bag) / 'metadata.yaml').read_text())
        custom = data['rosbag2_bagfile_information']['custom_data'] or {}
        return custom.get(COMMAND) or Path(bag).name
    except (OSError, KeyError, TypeError, yaml.YAMLError):
        return Path(bag).name


class BagWriter:
    """Writes a rosbag2 MCAP bag with zstd chunks; use as a context manager.

    ``command`` goes into the metadata, so that a model can say what it was trained on. The bag
    is closed on an exception too, so that what was recorded until then is a whole bag.
    """

    def __init__(self, path: str | Path, command: str = '') -> None:
        path = Path(path)
        if path.exists():
            raise BagError(f'bag {path}: exists already; choose another name or remove it')
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        # Chunk compression: the one mode that generic MCAP tools read.
        self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.set_custom_data(COMMAND, command)
        self._connections: dict[str, Connection] = {}

    def __enter__(self) -> BagWriter:
        self._writer.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()

    def write(
        self, topic: str, kind: str, stamp: int, latched: bool = False, **values: Any
    ) -> None:
        """Append a message of type ``kind`` with these field values, logged at ``stamp`` [ns]."""
        if topic not in self._connections:
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=TYPES, offered_qos_profiles=[_qos(latched)]
            )
        message = self.make(kind, **values)
        self._writer.write(self._connections[topic], stamp, TYPES.serialize_cdr(message, kind))

    def header(self, stamp: int, frame_id: str = '') -> Any:
        """Make a std_msgs/Header."""
        seconds, rest = divmod(stamp, NANOSECOND)
        time = self.make('builtin_interfaces/msg/Time', sec=seconds, nanosec=rest)
        return self.make('std_msgs/msg/Header', stamp=time, frame_id=frame_id)

    @staticmethod
    def make(kind: str, **values: Any) -> Any:
        """Make a message of type ``kind`` to put inside another."""
        return TYPES.types[kind](**values)


def _qos(latched: bool) -> Qos:
    forever = QosTime(2147483647, 4294967295)
    return Qos(
        QosHistory.KEEP_LAST,
        1 if latched else 10,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )
