# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Interface of bag files: topics, and serialised messages in file order."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

#: Memory that one message or chunk may take beyond the size of its file [bytes].
ROOM = 32 << 20


def room(file_size: int) -> int:
    """Largest decompressed size [bytes] of a chunk or message in a file of this size.

    More is damage or a decompression bomb: a real chunk that large makes a large file.
    """
    return ROOM + file_size


class Topic(NamedTuple):
    """A topic of a bag, with its full type name, such as sensor_msgs/msg/Image."""

    name: str
    type: str


class RawFile(ABC):
    """A file of a bag.

    Attributes:
        path: the file.
        topics: topics by their number in the file; CDR ones only.
        foreign: names and reasons by number, for topics in another serialisation.
        damage: found while looking for topics, by reason; reading messages finds it again.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topics: dict[int, Topic] = {}
        self.foreign: dict[int, tuple[str, str]] = {}
        self.damage: Counter[str] = Counter()

    def add_topic(self, number: int, name: str, kind: str, encoding: str) -> None:
        """Register a topic; the first description of a number counts."""
        if number in self.topics or number in self.foreign:
            return
        if encoding != 'cdr':
            self.foreign[number] = name, f'serialised as {encoding!r}, expected cdr'
            return
        package, _, rest = kind.partition('/')
        if rest and '/' not in rest:  # as the first distributions wrote it
            kind = f'{package}/msg/{rest}'
        self.topics[number] = Topic(name, kind)

    @abstractmethod
    def counts(self) -> Counter[int]:
        """Messages by number of the topic."""

    @abstractmethod
    def messages(
        self, wanted: Collection[int], problems: Counter[str]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield (number, log time [ns], data) of the wanted topics in file order.

        ``problems`` counts what is left out, by reason; damage raises nothing.
        """

    def close(self) -> None:  # noqa: B027 (most files are open only while they are read)
        """Close what was opened."""
