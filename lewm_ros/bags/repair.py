# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Makes a bag whole whose recorder was killed: unfinished files get an index, the bag metadata.

Chunks are complete or cut; a complete one is checked by its CRC. Works on bags of other
recorders too, as long as their topics have standard types.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
import fcntl
from pathlib import Path

from mcap.reader import make_reader
from mcap.records import Channel as ChannelRecord
from mcap.records import Chunk, Message, Schema
from mcap.stream_reader import StreamReader, breakup_chunk

from lewm_ros.bags.layout import natural
from lewm_ros.bags.writer import METADATA, Channel, Part, PartWriter, write_metadata
from lewm_ros.errors import BagError, YamlError
from lewm_ros.files import atomic_write
from lewm_ros.yaml_reader import parse_yaml, read_yaml


@dataclass
class Repaired:
    """What was done to a file."""

    path: Path
    whole: bool  #: it was, and has not been touched
    messages: int
    damaged: int  #: chunks that were left out: cut at the end, or with a wrong CRC

    def __str__(self) -> str:
        if self.whole:
            return f'{self.path}: whole, {self.messages} messages'
        left_out = f', {self.damaged} cut or damaged chunks left out' if self.damaged else ''
        return f'{self.path}: repaired, {self.messages} messages saved{left_out}'


def repair(folder: Path) -> list[Repaired]:
    """Repair a bag in place; a bag that is whole stays as it is.

    Metadata that cannot be read are kept beside the new ones, as ``metadata.yaml.damaged``.

    Raises BagError if there is no MCAP file in it, or if it is still being recorded.
    """
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
    notes = _notes(folder)
    if notes is None:
        (folder / METADATA).rename(folder / f'{METADATA}.damaged')
    write_metadata(folder, parts, notes or {})
    return report


def _read_index(path: Path) -> Part | None:
    """Return what a file holds by its index, or None where it has none."""
    try:
        with path.open('rb') as stream:
            summary = make_reader(stream, validate_crcs=True).get_summary()
    except Exception:  # McapError, struct.error, and what else cut bytes may come to mean
        return None
    if summary is None or summary.statistics is None:
        return None
    figures = summary.statistics
    part = Part(path.name, figures.message_start_time, figures.message_end_time)
    for number, count in figures.channel_message_counts.items():
        record = summary.channels[number]
        part.counts[_channel(record, summary.schemas[record.schema_id])] += count
    return part


def _rewrite(path: Path) -> tuple[Part, int]:
    """Copy the chunks of an unfinished file into a whole one that takes its place."""
    _check_abandoned(path)
    with atomic_write(path) as partial:
        return _copy(path, PartWriter(partial))


def _copy(path: Path, writer: PartWriter) -> tuple[Part, int]:
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    damaged = 0
    for chunk in _chunks(path):
        try:
            records = breakup_chunk(chunk, validate_crc=True)
        except Exception:  # zstd, CRC, struct: this chunk is lost, the next need not be
            damaged += 1
            continue
        for record in records:
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, ChannelRecord):
                channels[record.id] = _channel(record, schemas[record.schema_id])
            elif isinstance(record, Message) and record.channel_id in channels:
                writer.write(channels[record.channel_id], record.log_time, record.data)
    writer.part.name = path.name
    return writer.close(), damaged


def _check_abandoned(path: Path) -> None:
    with path.open('rb') as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BagError(f'{path}: is being recorded: stop the recorder first') from error
        except OSError:
            pass  # a file system without locks


def _chunks(path: Path) -> Iterator[Chunk]:
    """Yield the chunks of a file up to where it was cut off."""
    with path.open('rb') as stream:
        records = StreamReader(stream, emit_chunks=True).records
        while True:
            try:
                record = next(records)
            except Exception:  # the end, or bytes cut anywhere
                return
            if isinstance(record, Chunk):
                # The reader takes what is there of a chunk that was cut.
                yield record


def _channel(record: ChannelRecord, schema: Schema) -> Channel:
    try:
        first = dict(parse_yaml(record.metadata.get('offered_qos_profiles', ''))[0])
    except (YamlError, LookupError, TypeError, ValueError):  # it says nothing, or nothing known
        first = {}
    return Channel(
        record.topic,
        schema.name,
        # As names, or as the numbers that older recorders write.
        reliable=first.get('reliability', 'reliable') in ('reliable', 1),
        latched=first.get('durability', 'volatile') in ('transient_local', 1),
    )


def _notes(folder: Path) -> dict[str, str] | None:
    """Return the custom data of a bag's metadata; None where they exist and cannot be read."""
    path = folder / METADATA
    if not path.exists():
        return {}
    try:
        notes = read_yaml(path)['rosbag2_bagfile_information']['custom_data'] or {}
        return {str(key): str(value) for key, value in notes.items()}
    except (AttributeError, KeyError, TypeError, YamlError):
        return None
