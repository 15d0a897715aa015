# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Repair of a bag whose recorder was killed: adds the missing index and metadata.

Truncated chunks and chunks with a wrong CRC are left out. Works on bags of other recorders too,
as long as their files are not compressed and their topics have standard types in CDR.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
import fcntl
from pathlib import Path
from typing import Any

from mcap.records import Channel as ChannelRecord
from mcap.records import Message, Schema

from lewm_ros.bags.layout import METADATA, natural
from lewm_ros.bags.mcap_reader import NO_END, describes_all, read_records, read_summary
from lewm_ros.bags.reader import read_metadata
from lewm_ros.bags.writer import Channel, Part, PartWriter, write_metadata
from lewm_ros.errors import BagError, ConfigError
from lewm_ros.files import atomic_write
from lewm_ros.robot.yaml_reader import parse_yaml


@dataclass
class Repaired:
    """Result of the repair of a file."""

    path: Path
    whole: bool  #: it was complete and is unchanged
    messages: int
    damaged: int  #: pieces left out: truncated, or with a wrong CRC

    def __str__(self) -> str:
        if self.whole:
            return f'{self.path}: intact, {self.messages} messages'
        left_out = f', {self.damaged} truncated or damaged chunks left out' if self.damaged else ''
        return f'{self.path}: repaired, {self.messages} messages saved{left_out}'


def repair(folder: Path) -> list[Repaired]:
    """Repair a bag in place; a complete bag is not changed.

    A metadata.yaml that cannot be read is kept as ``metadata.yaml.damaged``.

    Raises BagError if it has no MCAP file, if it is still being recorded, or if it has what would
    be lost: compressed files, topics in other formats than CDR or without a schema.
    """
    if packed := sorted(path.name for path in folder.glob('*.mcap.*')):
        raise BagError(
            f'bag {folder}: {", ".join(packed)}: decompress these first (`zstd -d --rm`); the '
            'metadata of a repaired bag lists MCAP files only'
        )
    files = sorted(folder.glob('*.mcap'), key=natural)
    if not files:
        raise BagError(f'bag {folder}: no .mcap file in it: expected the folder of a bag')
    parts, report = [], []
    for path in files:
        part = _read_index(path)
        whole = part is not None
        damaged = 0
        if part is None:
            part, damaged = _rewrite(path)
        parts.append(part)
        report.append(Repaired(path, whole, part.messages, damaged))
    metadata = read_metadata(folder)
    if all(found.whole for found in report) and _listed(metadata) == [path.name for path in files]:
        return report
    if not metadata and (folder / METADATA).exists():
        (folder / METADATA).rename(folder / f'{METADATA}.damaged')
    custom = metadata.get('custom_data')
    known = custom if isinstance(custom, dict) else {}
    write_metadata(folder, parts, {str(key): str(value) for key, value in known.items()})
    return report


def _read_index(path: Path) -> Part | None:
    """Return what a file holds according to its index, or None where it has none."""
    summary = read_summary(path)
    if summary is None or summary.statistics is None:
        return None
    channels, schemas = summary.channels, summary.schemas
    if not describes_all(summary):
        records = list(_definitions(path))
        channels = {r.id: r for r in records if isinstance(r, ChannelRecord)}
        schemas = {r.id: r for r in records if isinstance(r, Schema)}
    statistics = summary.statistics
    part = Part(path.name, statistics.message_start_time, statistics.message_end_time)
    for number, count in statistics.channel_message_counts.items():
        record = channels[number]
        part.counts[_channel(path, record, schemas.get(record.schema_id))] += count
    return part


def _definitions(path: Path) -> Iterator[ChannelRecord | Schema]:
    for record in read_records(path, Counter()):
        if isinstance(record, ChannelRecord | Schema):
            yield record


def _listed(metadata: dict[str, Any]) -> list[str]:
    """Return the files that a bag's metadata lists."""
    names = metadata.get('relative_file_paths')
    listed = map(str, names if isinstance(names, list) else [])
    return sorted(listed, key=lambda name: natural(Path(name)))


def _rewrite(path: Path) -> tuple[Part, int]:
    """Replace an unfinished file by a complete one with the same messages."""
    _check_abandoned(path)
    with atomic_write(path) as partial:
        return _copy(path, PartWriter(partial))


def _copy(path: Path, writer: PartWriter) -> tuple[Part, int]:
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    damage: Counter[str] = Counter()
    for record in read_records(path, damage):
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, ChannelRecord):
            channels[record.id] = _channel(path, record, schemas.get(record.schema_id))
        elif isinstance(record, Message) and record.channel_id in channels:
            writer.write(channels[record.channel_id], record.log_time, record.data)
    del damage[f'{path.name}: {NO_END}']  # expected after a kill
    writer.part.name = path.name
    return writer.close(), damage.total()


def _check_abandoned(path: Path) -> None:
    with path.open('rb') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BagError(f'{path}: is being recorded: stop the recorder first') from error
        except OSError:
            pass  # a file system without locks


def _channel(path: Path, record: ChannelRecord, schema: Schema | None) -> Channel:
    if schema is None or record.message_encoding != 'cdr':
        how = 'no schema' if schema is None else f"messages in '{record.message_encoding}'"
        raise BagError(
            f'{path}: {record.topic} has {how}: expected cdr messages with a schema; repair it '
            'with the tools of its recorder'
        )
    try:
        first = dict(parse_yaml(record.metadata.get('offered_qos_profiles', ''))[0])
    except (ConfigError, LookupError, TypeError, ValueError):  # missing or unknown
        first = {}
    return Channel(
        record.topic,
        schema.name,
        # As names, or as numbers of older recorders.
        reliable=first.get('reliability', 'reliable') in ('reliable', 1),
        latched=first.get('durability', 'volatile') in ('transient_local', 1),
    )
