# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What every kind of bag file gives: topics, and serialised messages as they were recorded."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import NamedTuple

#: What one message or chunk may take in memory [bytes] beyond the size of its file.
ROOM = 32 << 20


def room(file_size: int) -> int:
    """Most bytes that something compressed in a file of this size may claim to become.

    A chunk that promises more is a decompression bomb or damage; a real one that large comes
    from a file that is large too.
    """
    return ROOM + file_size


class Topic(NamedTuple):
    """A topic of a bag; the type in its long form, such as sensor_msgs/msg/Image."""

    name: str
    type: str


class RawFile(ABC):
    """A file of a bag.

    Attributes:
        path: the file.
        topics: number that the file uses for a topic → topic; CDR ones only.
        foreign: numbers of topics in another serialisation → that serialisation.
        damage: what was met in looking for topics, by reason; reading messages meets it again.

    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.topics: dict[int, Topic] = {}
        self.foreign: dict[int, str] = {}
        self.damage: Counter[str] = Counter()

    def add_topic(self, number: int, name: str, kind: str, encoding: str) -> None:
        """Take note of a topic; the first description of a number counts."""
        if number in self.topics or number in self.foreign:
            return
        if encoding != 'cdr':
            self.foreign[number] = f'{name}: serialised as {encoding!r}, expected cdr'
            return
        package, _, rest = kind.partition('/')
        if rest and '/' not in rest:  # as bags of the first distributions wrote it
            kind = f'{package}/msg/{rest}'
        self.topics[number] = Topic(name, kind)

    @abstractmethod
    def counts(self) -> Counter[int]:
        """Messages by number of the topic."""

    @abstractmethod
    def messages(
        self, wanted: Collection[int], problems: Counter[str]
    ) -> Iterator[tuple[int, int, bytes]]:
        """Yield (number, log time [ns], data) of the wanted topics as they lie in the file.

        ``problems`` counts what was left out, by reason; damage is never an exception.
        """

    def close(self) -> None:  # noqa: B027 (most files are open only while they are read)
        """Close what was opened."""
