# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""rosbag2 recordings on disk: the files of a bag, and its messages in the order of log times.

A bag is a folder with MCAP or sqlite3 files (any of them zstd compressed), or such a file
alone. metadata.yaml is read for the order of split files only; everything else is in the files.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
import heapq
from pathlib import Path, PurePosixPath
import tempfile
from typing import Any

import zstandard

from lewm_ros.bags.layout import METADATA, SET_BACK, natural
from lewm_ros.bags.mcap_reader import McapFile
from lewm_ros.bags.raw import RawFile, Topic, room
from lewm_ros.bags.sqlite_reader import SqliteFile
from lewm_ros.errors import BagError, ConfigError
from lewm_ros.robot.yaml_reader import read_yaml

_KINDS: dict[str, type[McapFile] | type[SqliteFile]] = {'.mcap': McapFile, '.db3': SqliteFile}
_ZSTD = '.zstd'
_ZSTD_MAGIC = b'\x28\xb5\x2f\xfd'
#: Look-ahead for sorting by log time: messages, and bytes.
_AHEAD, _AHEAD_BYTES = 64, 8 << 20
#: A compressed file may grow to this many bytes on disk plus this many times its size.
_INFLATED, _RATIO = 1 << 30, 50
_LATEST = 1 << 62


def find_bags(paths: Iterable[str | Path]) -> list[Path]:
    """List the bags among files and folders; bags inside a folder in order of name.

    Raises BagError where a path does not exist or has no bag in it.
    """
    found: dict[Path, Path] = {}
    for path in map(Path, paths):
        if not path.exists():
            raise BagError(f'bag {path}: no such file or folder')
        bags = _bags_in(path)
        if not bags:
            raise BagError(
                f'bag {path}: cannot be read as rosbag2 (no .mcap or .db3 file in it, nor in its '
                'folders)'
            )
        found |= {bag.resolve(): bag for bag in bags if bag.resolve() not in found}
    return list(found.values())


def _bags_in(path: Path) -> list[Path]:
    if path.is_file() or (path / METADATA).exists() or _storage_files(path):
        return [path]
    folders = sorted((p for p in path.iterdir() if p.is_dir()), key=natural)
    return [bag for folder in folders for bag in _bags_in(folder)]


def _storage_files(folder: Path) -> list[Path]:
    files = [p for p in folder.iterdir() if p.is_file() and _kind(p)]
    return sorted(files, key=natural)


def _kind(path: Path) -> str | None:
    suffix = Path(path.name.removesuffix(_ZSTD)).suffix
    return suffix if suffix in _KINDS else None


class Bag:
    """A recording.

    Args:
        path: a bag's folder or a single file.
        problems: counts what is left out, by reason.

    Attributes:
        damage: found while looking for topics, by reason; reading messages finds it again.
        foreign: why topics in another serialisation are not read, by name.

    Raises:
        BagError: nothing in it can be read; the text has the reasons.

    """

    def __init__(self, path: Path, problems: Counter[str]) -> None:
        self.path = path
        self.damage: Counter[str] = Counter()
        self.foreign: dict[str, str] = {}
        self._problems = problems
        self._files = bag_files(path)
        self._topics: dict[Topic, None] = {}
        reasons: Counter[str] = Counter()
        for file in self._files:
            with self._open(file, reasons) as opened:
                if opened is not None:
                    self._topics |= dict.fromkeys(opened.topics.values())
                    self.foreign |= dict(opened.foreign.values())
                    self.damage += opened.damage
        reasons.update(f'{name}: {why}' for name, why in self.foreign.items())
        problems.update(reasons)
        if not self._topics:
            why = '; '.join(reasons) or 'no messages were recorded'
            raise BagError(f'bag {path}: cannot be read as rosbag2 ({why})')

    @property
    def topics(self) -> list[Topic]:
        """Every topic, in order of name."""
        return sorted(self._topics)

    def counts(self) -> Counter[Topic]:
        """Messages by topic."""
        counts = Counter(dict.fromkeys(self.topics, 0))
        for file in self._files:
            with self._open(file, Counter()) as opened:
                if opened is not None:
                    found = opened.counts()
                    for number, topic in opened.topics.items():
                        counts[topic] += found[number]
        return counts

    def messages(self, topics: Collection[Topic]) -> Iterator[tuple[Topic, int, bytes]]:
        """Yield (topic, log time [ns], CDR data) of some topics, in the order of log times."""
        return _in_order(self._recorded(topics))

    def _recorded(self, topics: Collection[Topic]) -> Iterator[tuple[Topic, int, bytes]]:
        for file in self._files:
            with self._open(file, Counter()) as opened:
                if opened is None:
                    continue
                wanted = {number: t for number, t in opened.topics.items() if t in topics}
                most = room(opened.path.stat().st_size)
                for number, logged, packed in opened.messages(wanted, self._problems):
                    data = self._unpack(packed, most)
                    if not 0 <= logged < _LATEST:
                        self._problems['message with an impossible log time'] += 1
                    elif data is not None:
                        yield wanted[number], logged, data

    def _unpack(self, data: bytes, most: int) -> bytes | None:
        """Decompress a message; if that fails, count it and return None.

        CDR begins with a zero byte, so the first bytes tell whether data is compressed.
        """
        if not data.startswith(_ZSTD_MAGIC):
            return data
        try:
            size = zstandard.frame_content_size(data)  # -1 where it is not given
            if 0 <= size <= most:
                return zstandard.ZstdDecompressor().decompress(data)
            claim = (
                'does not say its size' if size < 0 else 'claims more bytes than its file can hold'
            )
            self._problems[f'compressed message that {claim}'] += 1
        except zstandard.ZstdError:
            self._problems['message that cannot be decompressed'] += 1
        return None

    @contextmanager
    def _open(self, path: Path, problems: Counter[str]) -> Iterator[RawFile | None]:
        """Open one file; if that fails, count it and yield None."""
        with tempfile.TemporaryDirectory(prefix='lewm-bag-') as folder:
            opened: RawFile | None = None
            try:
                kind = _kind(path)
                if kind is None:
                    raise BagError(f'{path.name} is neither .mcap nor .db3')
                if path.name.endswith(_ZSTD):
                    path = _inflate(path, Path(folder) / path.name.removesuffix(_ZSTD), problems)
                opened = _KINDS[kind](path, problems)
            except BagError as error:
                problems[str(error)] += 1
            try:
                yield opened
            finally:
                if opened is not None:
                    opened.close()


def read_metadata(folder: Path) -> dict[str, Any]:
    """Return what metadata.yaml says of a bag; empty where it cannot be read."""
    try:
        data = read_yaml(folder / METADATA)['rosbag2_bagfile_information']
    except (KeyError, TypeError, ConfigError):
        return {}
    return data if isinstance(data, dict) else {}


def bag_files(path: Path) -> list[Path]:
    """List a bag's files in the order of recording: as metadata.yaml says, else by name.

    Raises BagError where metadata.yaml names one that is not there.
    """
    if path.is_file():
        return [path]
    present = _storage_files(path)
    try:
        names = read_metadata(path)['relative_file_paths']
        # Some versions wrote the name with the bag's folder.
        listed = [path / PurePosixPath(name).name for name in names]
    except (KeyError, TypeError):
        return present
    missing = [p.name for p in listed if not p.is_file()]
    if missing:
        raise BagError(
            f'bag {path}: cannot be read as rosbag2 (metadata.yaml lists {", ".join(missing)}, '
            'which is missing; restore the file, or remove it from metadata.yaml)'
        )
    # A recorder that was killed has not listed its last file. A compressed and an uncompressed
    # copy of a file are the same file.
    known = {p.name.removesuffix(_ZSTD) for p in listed}
    return listed + [p for p in present if p.name.removesuffix(_ZSTD) not in known]


def _inflate(path: Path, target: Path, problems: Counter[str]) -> Path:
    """Decompress a file, up to the first damage."""
    most = _INFLATED + _RATIO * path.stat().st_size
    with path.open('rb') as source, target.open('wb') as file:
        reader = zstandard.ZstdDecompressor().stream_reader(source, read_across_frames=True)
        try:
            while block := reader.read(1 << 20):
                if file.tell() + len(block) > most:
                    problems[f'{path.name}: expands to over {most} bytes, the rest is skipped'] += 1
                    break
                file.write(block)
        except zstandard.ZstdError:
            problems[f'{path.name}: zstd data is damaged, the rest is lost'] += 1
    return target


def _in_order(messages: Iterator[tuple[Topic, int, bytes]]) -> Iterator[tuple[Topic, int, bytes]]:
    """Sort by log time within a bounded look-ahead, not across a clock that was set back."""
    waiting: list[tuple[int, int, Topic, bytes]] = []
    held = newest = 0
    for place, (topic, logged, data) in enumerate(messages):
        if logged < newest - SET_BACK:
            yield from _sorted(waiting)
            waiting, held, newest = [], 0, logged
        newest = max(newest, logged)
        heapq.heappush(waiting, (logged, place, topic, data))
        held += len(data)
        while len(waiting) > _AHEAD or held > _AHEAD_BYTES:
            first = heapq.heappop(waiting)
            held -= len(first[3])
            yield first[2], first[0], first[3]
    yield from _sorted(waiting)


def _sorted(waiting: list[tuple[int, int, Topic, bytes]]) -> Iterator[tuple[Topic, int, bytes]]:
    for logged, _, topic, data in sorted(waiting):
        yield topic, logged, data
