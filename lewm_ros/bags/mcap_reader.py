# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""MCAP files, read from the front, so that a cut or damaged one gives all its whole chunks.

A recorder that is killed leaves no summary and a file that ends anywhere; a bad sector turns
bytes inside. Nothing here trusts an index: records are followed from the first byte, a chunk
counts where its size and its CRC are right, and where the chain of records breaks the next
chunk is searched for. No allocation is larger than what the file holds, or than a chunk may
claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
import re
import struct
from struct import Struct
import zlib

import lz4.frame
import zstandard

from lewm_ros.bags.raw import RawFile, room

MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _STATISTICS, _DATA_END = 2, 3, 4, 5, 6, 11, 15
#: Records of a fixed size; a different one is damage, not a record.
_SIZES = {_FOOTER: 20, _DATA_END: 4}
_RECORD = Struct('<BQ')  # kind, length of the body
_CHUNK_HEAD = Struct('<QQQII')  # first and last time, size, CRC, length of the compression's name
_MESSAGE_HEAD = Struct('<HIQQ')  # channel, sequence, log time, publish time
_COMPRESSIONS = (b'', b'lz4', b'zstd')
#: What the head of a chunk shorter than 1 TB looks like; its sizes decide.
_CHUNK_START = re.compile(rb'\x06.{5}\0\0\0', re.DOTALL)
_BLOCK = 1 << 20


class _Damage(Exception):
    """Bytes that are not what they should be; the text says why."""


class McapFile(RawFile):
    """One MCAP file. ``problems`` of :meth:`messages` counts what was left out, by reason."""

    def __init__(self, path: Path, problems: Counter[str]) -> None:
        super().__init__(path)
        self._file = path.open('rb')
        self._size = self._file.seek(0, 2)
        self._schemas: dict[int, str] = {}
        self._counts: Counter[int] = Counter()
        try:
            if self._read(0, len(MAGIC)) != MAGIC:
                problems[f'{path.name} does not begin as an MCAP file'] += 1
            if not self._read_summary():
                self._survey()
            if not self.topics:
                problems.update(self.damage)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def counts(self) -> Counter[int]:
        """Messages by channel, as the summary says, or counted where there is none."""
        return self._counts

    def messages(
        self, wanted: Collection[int], problems: Counter[str]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield (channel, log time [ns], data) of the wanted channels as they lie in the file."""
        for kind, body in self._records(problems):
            if kind != _MESSAGE:
                continue
            channel, _, logged, _ = _MESSAGE_HEAD.unpack_from(body)
            if channel in wanted:
                # A copy: a view would keep the whole chunk.
                yield channel, logged, bytes(body[_MESSAGE_HEAD.size :])
            elif channel not in self.topics and channel not in self.foreign:
                problems[f'{self.path.name}: message of a channel that is not described'] += 1

    def _read(self, start: int, length: int) -> bytes:
        self._file.seek(start)
        return self._file.read(length)

    def _read_summary(self) -> bool:
        """Learn the channels from the summary; False where it is missing or damaged."""
        tail = self._read(max(self._size - 37, 0), 37)
        if len(tail) < 37 or tail[29:] != MAGIC or _RECORD.unpack_from(tail) != (_FOOTER, 20):
            return False
        start, _, crc = Struct('<QQI').unpack_from(tail, 9)
        if not 0 < start <= self._size - 37:
            return False
        summary = self._read(start, self._size - 37 - start)
        if crc and zlib.crc32(tail[:25], zlib.crc32(summary)) != crc:
            return False
        try:
            for kind, body in _walk(memoryview(summary)):
                self._learn(kind, body)
        except _Damage:
            return False
        return bool(self.topics)

    def _survey(self) -> None:
        """Learn the channels and count their messages by reading everything."""
        self._counts.clear()
        self._schemas.clear()
        self.topics.clear()
        self.foreign.clear()
        for kind, body in self._records(self.damage):
            if kind == _MESSAGE:
                self._counts[_MESSAGE_HEAD.unpack_from(body)[0]] += 1
            else:
                try:
                    self._learn(kind, body)
                except _Damage:  # messages of a channel that stays unknown are counted
                    continue

    def _learn(self, kind: int, body: memoryview) -> None:
        try:
            if kind == _SCHEMA:
                (number,) = Struct('<H').unpack_from(body)
                self._schemas.setdefault(number, _string(body, 2)[0])
            elif kind == _CHANNEL:
                number, schema = Struct('<HH').unpack_from(body)
                name, at = _string(body, 4)
                encoding, _ = _string(body, at)
                self.add_topic(number, name, self._schemas.get(schema, ''), encoding)
            elif kind == _STATISTICS:
                for channel, count in Struct('<HQ').iter_unpack(body[46:]):
                    self._counts[channel] = count
        except (struct.error, UnicodeDecodeError) as error:
            raise _Damage('record with sizes that disagree') from error

    def _records(self, problems: Counter[str]) -> Iterator[tuple[int, memoryview]]:
        """Yield kind and body of schemas, channels and messages, those inside chunks too."""
        at = trusted = len(MAGIC)  # where the last chunk ended: the chain is right up to there
        while True:
            try:
                kind, length = self._head(at)
                if kind in (_DATA_END, _FOOTER):
                    return
                if kind == _CHUNK:
                    # The head of a chunk names its length twice, so the chain goes on after it.
                    end = trusted = at + _RECORD.size + length
                    try:
                        yield from _walk(self._unpack(at + _RECORD.size, length))
                    except _Damage as damage:
                        problems[f'{self.path.name}: {damage}'] += 1
                else:
                    end = at + _RECORD.size + length
                    if kind in (_SCHEMA, _CHANNEL, _MESSAGE):
                        yield kind, memoryview(self._read(at + _RECORD.size, length))
                at = end
            except _Damage as damage:
                problems[f'{self.path.name}: {damage}'] += 1
                found = self._search(max(trusted, len(MAGIC)))
                if found is None:
                    return
                at = trusted = found

    def _head(self, at: int) -> tuple[int, int]:
        """Kind and length of the record at a byte. Raises _Damage where there can be none."""
        head = self._read(at, _RECORD.size)
        if len(head) < _RECORD.size:
            raise _Damage('the end is missing')
        kind, length = _RECORD.unpack(head)
        if length > self._size - at - _RECORD.size:
            raise _Damage('record that runs past the end of the file')
        if self._chunk_length(at) == length:  # so exact that the kind need not be right
            return _CHUNK, length
        if kind in (0, _CHUNK) or length != _SIZES.get(kind, length):
            raise _Damage('bytes that are no record')
        if kind == _MESSAGE and length < _MESSAGE_HEAD.size:
            raise _Damage('message without a head')
        return kind, length

    def _chunk_length(self, at: int) -> int | None:
        """Length of a chunk as its inner sizes give it; None where they make no sense."""
        head = self._read(at + _RECORD.size, _CHUNK_HEAD.size + 12)
        if len(head) < _CHUNK_HEAD.size + 8:
            return None
        name = _CHUNK_HEAD.unpack_from(head)[4]
        if name > 4 or head[_CHUNK_HEAD.size :][:name] not in _COMPRESSIONS:
            return None
        inner = head[_CHUNK_HEAD.size + name :][:8]
        return _CHUNK_HEAD.size + name + 8 + int.from_bytes(inner, 'little')

    def _unpack(self, at: int, length: int) -> memoryview:
        """Records of a chunk whose body begins at a byte. Raises _Damage."""
        body = memoryview(self._read(at, length))
        _, _, size, crc, name = _CHUNK_HEAD.unpack_from(body)
        compression = bytes(body[_CHUNK_HEAD.size :][:name])
        packed = body[_CHUNK_HEAD.size + name + 8 :]
        if size > room(self._size):
            raise _Damage(f'chunk that claims {size} bytes')
        data = _decompress(compression, packed, size)
        if len(data) != size:
            raise _Damage('chunk of another size than it claims')
        if crc and zlib.crc32(data) != crc:
            raise _Damage('chunk with a wrong CRC')
        return memoryview(data)

    def _search(self, start: int) -> int | None:
        """First byte from ``start`` on where a whole chunk begins, or None."""
        overlap = _RECORD.size - 1
        while start + _RECORD.size <= self._size:
            block = self._read(start, _BLOCK)
            match = _CHUNK_START.search(block)
            while match:
                at = start + match.start()
                length = _RECORD.unpack_from(block, match.start())[1]
                fits = length <= self._size - at - _RECORD.size
                if fits and self._chunk_length(at) == length:
                    return at
                match = _CHUNK_START.search(block, match.start() + 1)
            start += max(len(block) - overlap, 1)
        return None


def _decompress(compression: bytes, data: memoryview, size: int) -> bytes | memoryview:
    try:
        if compression == b'zstd':
            if zstandard.frame_content_size(data) not in (-1, size):
                raise _Damage('chunk of another size than it claims')
            return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
        if compression == b'lz4':
            return lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size)
    except (zstandard.ZstdError, RuntimeError, EOFError) as error:
        raise _Damage('chunk that cannot be decompressed') from error
    return data


def _walk(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Kind and body of the records that lie one after the other. Raises _Damage."""
    at, end = 0, len(data)
    while at < end:
        if end - at < _RECORD.size:
            raise _Damage('chunk that ends inside a record')
        kind, length = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        if length > end - at or (kind == _MESSAGE and length < _MESSAGE_HEAD.size):
            raise _Damage('chunk that ends inside a record')
        yield kind, data[at : at + length]
        at += length


def _string(data: memoryview, at: int) -> tuple[str, int]:
    """Text that its length comes before, and where it ends. Raises struct.error."""
    (length,) = Struct('<I').unpack_from(data, at)
    if length > len(data) - at - 4:
        raise struct.error('text that runs past its record')
    return str(data[at + 4 : at + 4 + length], 'utf-8'), at + 4 + length
