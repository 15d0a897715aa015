# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reader of MCAP files that recovers every complete chunk of a truncated or damaged file.

The ``mcap`` package parses the records. Its readers stop at the first damaged byte and trust
every size, so this module follows the chain of records itself, searches for the next chunk where
the chain breaks, and limits the size of decompressed chunks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
import re
import struct
from typing import BinaryIO
import zlib

import lz4.frame
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.reader import make_reader
from mcap.records import Channel, Chunk, Footer, McapRecord, Message, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, breakup_chunk
from mcap.summary import Summary
import zstandard

from lewm_ros.bags.raw import RawFile, room

MAGIC = b'\x89MCAP0\r\n'
#: Reason counted for a file whose recorder was killed.
NO_END = 'the end is missing'
_RECORD = struct.Struct('<BQ')  # opcode, length of the body
_CHUNK = struct.Struct('<QQQII')  # first and last time, size, CRC, length of the compression's name
_FOOTER_SIZE = 20
#: Records of a fixed size; any other size is damage.
_SIZES = {Opcode.FOOTER: _FOOTER_SIZE, Opcode.DATA_END: 4}
_COMPRESSIONS = (b'', b'lz4', b'zstd')
#: Pattern of the head of a chunk shorter than 1 TB; candidates are checked by their sizes.
_CHUNK_START = re.compile(rb'\x06.{5}\0\0\0', re.DOTALL)
_BLOCK = 1 << 20


class _DamageError(Exception):
    """Damaged bytes; the text is the reason."""


class McapFile(RawFile):
    """One MCAP file. ``problems`` counts what is left out, by reason."""

    def __init__(self, path: Path, problems: Counter[str]) -> None:
        super().__init__(path)
        self._counts: Counter[int] = Counter()
        with path.open('rb') as file:
            if file.read(len(MAGIC)) != MAGIC:
                problems[f'{path.name} does not begin with the MCAP magic'] += 1
        summary = read_summary(path)
        if summary is not None and summary.statistics is not None and describes_all(summary):
            self._counts.update(summary.statistics.channel_message_counts)
            for channel in summary.channels.values():
                self._add_channel(channel, summary.schemas)
        if not self.topics:
            self._scan()
        if not self.topics:
            problems.update(self.damage)

    def counts(self) -> Counter[int]:
        """Messages by channel, from the summary, or counted where there is none."""
        return self._counts

    def messages(
        self, wanted: Collection[int], problems: Counter[str]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield (channel, log time [ns], data) of the wanted channels in file order."""
        missing = Counter({channel: self._counts[channel] for channel in wanted})
        for record in read_records(self.path, problems):
            if not isinstance(record, Message):
                continue
            channel = record.channel_id
            if channel in wanted:
                missing[channel] -= 1
                yield channel, record.log_time, record.data
            elif channel not in self.topics and channel not in self.foreign:
                problems[f'{self.path.name}: message of an unknown channel'] += 1
        if lost := (+missing).total():
            problems[f'{self.path.name}: message counted in the summary was not found'] += lost

    def _scan(self) -> None:
        """Find the channels and count their messages by reading the whole file."""
        self._counts.clear()
        self.foreign.clear()
        schemas: dict[int, Schema] = {}
        for record in read_records(self.path, self.damage):
            if isinstance(record, Message):
                self._counts[record.channel_id] += 1
            elif isinstance(record, Schema):
                schemas.setdefault(record.id, record)
            elif isinstance(record, Channel):
                self._add_channel(record, schemas)

    def _add_channel(self, channel: Channel, schemas: dict[int, Schema]) -> None:
        schema = schemas.get(channel.schema_id)
        kind = '' if schema is None else schema.name
        self.add_topic(channel.id, channel.topic, kind, channel.message_encoding)


def describes_all(summary: Summary) -> bool:
    """Whether a summary repeats the channels and schemas of all messages, which is optional."""
    channels = summary.channels
    counted = () if summary.statistics is None else summary.statistics.channel_message_counts
    return channels.keys() >= set(counted) and all(
        channel.schema_id in (0, *summary.schemas)  # 0: without a schema, such as JSON
        for channel in channels.values()
    )


def read_summary(path: Path) -> Summary | None:
    """Read the summary at the end of a file; None where it is missing or damaged."""
    with path.open('rb') as file:
        try:
            file.seek(-(_RECORD.size + _FOOTER_SIZE + len(MAGIC)), 2)
            footer = next(StreamReader(file, skip_magic=True).records)
            if not isinstance(footer, Footer) or not footer.summary_start:
                return None
            file.seek(footer.summary_start)
            # The CRC covers everything up to itself (4 bytes) and the magic.
            section = file.read()[: -4 - len(MAGIC)]
            if footer.summary_crc and zlib.crc32(section) != footer.summary_crc:
                return None
            file.seek(0)
            return make_reader(file).get_summary()
        except Exception:  # McapError, struct.error, and whatever damaged bytes may cause
            return None


def read_records(path: Path, problems: Counter[str]) -> Iterator[McapRecord]:
    """Yield schemas, channels and messages in file order, including those inside chunks.

    Chunks with a wrong size or CRC are left out; ``problems`` counts what is left out, by reason.
    """
    with path.open('rb') as file:
        size = file.seek(0, 2)
        at = trusted = len(MAGIC)  # end of the last chunk: the chain is intact up to there
        while True:
            try:
                opcode, length = _read_head(file, at, size)
                if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                    return
                end = at + _RECORD.size + length
                if opcode == Opcode.CHUNK:
                    # A chunk gives its length twice, so the next record is found even if it is bad.
                    trusted = end
                    try:
                        yield from _open_chunk(_read(file, at + _RECORD.size, length), room(size))
                    except _DamageError as damage:
                        problems[f'{path.name}: {damage}'] += 1
                elif opcode in (Opcode.SCHEMA, Opcode.CHANNEL, Opcode.MESSAGE):
                    yield from _parse(Chunk('', _read(file, at, end - at), 0, 0, 0, end - at))
                at = end
            except _DamageError as damage:
                problems[f'{path.name}: {damage}'] += 1
                found = _find_chunk(file, trusted, size)
                if found is None:
                    return
                at = trusted = found


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _read_head(file: BinaryIO, at: int, size: int) -> tuple[int, int]:
    """Opcode and length of the record at an offset. Raises _DamageError if there is none."""
    head = _read(file, at, _RECORD.size)
    if len(head) < _RECORD.size:
        raise _DamageError(NO_END)
    opcode, length = _RECORD.unpack(head)
    if length > size - at - _RECORD.size:
        raise _DamageError('record that runs past the end of the file')
    if _chunk_length(file, at) == length:  # accepted even if the opcode is damaged
        return Opcode.CHUNK, length
    if opcode in (0, Opcode.CHUNK) or length != _SIZES.get(opcode, length):
        raise _DamageError('bytes that are no record')
    return opcode, length


def _chunk_length(file: BinaryIO, at: int) -> int | None:
    """Length of a chunk computed from its inner sizes; None where they are invalid."""
    head = _read(file, at + _RECORD.size, _CHUNK.size + 12)
    if len(head) < _CHUNK.size + 8:
        return None
    name = _CHUNK.unpack_from(head)[4]
    if name > 4 or head[_CHUNK.size :][:name] not in _COMPRESSIONS:
        return None
    inner = head[_CHUNK.size + name :][:8]
    return _CHUNK.size + name + 8 + int.from_bytes(inner, 'little')


def _find_chunk(file: BinaryIO, start: int, size: int) -> int | None:
    """Offset of the first complete chunk from ``start`` on, or None."""
    while start + _RECORD.size <= size:
        block = _read(file, start, _BLOCK)
        for match in _CHUNK_START.finditer(block):
            at = start + match.start()
            length = _RECORD.unpack_from(block, match.start())[1]
            if length <= size - at - _RECORD.size and _chunk_length(file, at) == length:
                return at
        start += max(len(block) - _RECORD.size + 1, 1)
    return None


def _open_chunk(body: bytes, most: int) -> list[McapRecord]:
    """Records of a chunk of at most ``most`` bytes uncompressed. Raises _DamageError."""
    chunk = Chunk.read(ReadDataStream(BytesIO(body)))
    size = chunk.uncompressed_size
    if size > most:
        raise _DamageError(f'chunk that claims {size} bytes')
    try:
        if chunk.compression == 'zstd':
            if zstandard.frame_content_size(chunk.data) not in (-1, size):
                raise _DamageError('chunk whose size is not the one it claims')
            data = zstandard.decompress(chunk.data, size)
        elif chunk.compression == 'lz4':
            data = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=size)
        else:
            data = chunk.data
    except (zstandard.ZstdError, RuntimeError, EOFError) as error:
        raise _DamageError('chunk that cannot be decompressed') from error
    if len(data) != size:
        raise _DamageError('chunk whose size is not the one it claims')
    return _parse(replace(chunk, compression='', data=data))


def _parse(chunk: Chunk) -> list[McapRecord]:
    """Records of an uncompressed chunk. Raises _DamageError."""
    if not chunk.uncompressed_crc:  # mcap does not notice that the last record is truncated
        at = 0
        while at + _RECORD.size <= len(chunk.data):
            at += _RECORD.size + _RECORD.unpack_from(chunk.data, at)[1]
        if at != len(chunk.data):
            raise _DamageError('chunk that ends inside a record')
    try:
        return breakup_chunk(chunk, validate_crc=True)
    except CRCValidationError as error:
        raise _DamageError('chunk with a wrong CRC') from error
    except (McapError, struct.error, ValueError, OverflowError) as error:
        raise _DamageError('record with inconsistent sizes') from error
