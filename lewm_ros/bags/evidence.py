# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A ring buffer of the last seconds, written into a small bag when an event occurs."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
import os
from pathlib import Path
import shutil
import threading
import time

from lewm_ros.bags.repair import repair
from lewm_ros.bags.writer import BagFolder, Channel
from lewm_ros.errors import BagError
from lewm_ros.time import NS_PER_S

#: A message: topic, receive time [ns], serialised bytes.
Message = tuple[Channel, int, bytes]

#: Folder of bags being written, inside the evidence folder.
UNFINISHED = '.unfinished'
#: The writer sleeps after this many messages ...
PAUSE_EVERY = 8
#: ... for this long [s], so that other threads run.
PAUSE = 0.002


class Ring:
    """Messages of the last ``seconds``, at most ``limit`` bytes. Thread safe."""

    def __init__(self, seconds: float, limit: float) -> None:
        self._span = round(seconds * NS_PER_S)
        self._limit = limit
        self._lock = threading.Lock()
        self._messages: deque[Message] = deque()
        self._bytes = 0
        self._held: dict[str, Message] = {}  # latched messages that are older, by topic

    def add(self, channel: Channel, received: int, data: bytes) -> None:
        """Append a message received at ``received`` [ns]; drop what is too old."""
        with self._lock:
            self._messages.append((channel, received, data))
            self._bytes += len(data)
            while self._messages and (
                not 0 <= received - self._messages[0][1] <= self._span  # or a clock set back
                or self._bytes > self._limit
            ):
                old = self._messages.popleft()
                self._bytes -= len(old[2])
                if old[0].latched:
                    self._held[old[0].topic] = old

    def snapshot(self) -> list[Message]:
        """All messages, oldest first; older latched messages get the time of the first one."""
        with self._lock:
            messages = list(self._messages)
            held = list(self._held.values())
        begin = messages[0][1] if messages else 0
        return [(channel, begin, data) for channel, _, data in held] + messages


class EvidenceFolder:
    """A folder of bags, limited to ``limit`` [bytes] and to ``per_hour`` new bags in an hour.

    No bag in it is ever deleted: once it is full, further events get no bag. What a killed process
    was writing is repaired. Not thread safe. Raises BagError if it cannot be made.
    """

    def __init__(self, path: Path, per_hour: int, limit: float) -> None:
        self.path = path
        self._per_hour = per_hour
        self._limit = limit
        try:
            (path / UNFINISHED).mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BagError(
                f'evidence folder {path}: cannot be created ({error.strerror})'
            ) from error
        self._repair_unfinished()

    @property
    def size(self) -> int:
        """Bytes in it."""
        size = 0
        for folder, _, files in os.walk(self.path):
            for name in files:
                with suppress(FileNotFoundError):  # moved elsewhere meanwhile
                    size += (Path(folder) / name).stat().st_size
        return size

    def refusal(self, messages: Sequence[Message]) -> str | None:
        """Return why these messages may not be written now; None if they may."""
        recent = self._recent()
        if recent >= self._per_hour:
            return f'{recent} bags in the last hour already (evidence_per_hour)'
        needed = sum(len(data) for _, _, data in messages)
        used = self.size
        if used + needed > self._limit:
            return (
                f'{self.path} holds {used / 1e6:.1f} MB, {needed / 1e6:.1f} MB more would exceed '
                f'{self._limit / 1e6:g} MB (evidence_mb): move old bags elsewhere'
            )
        return None

    def write(
        self,
        name: str,
        messages: Sequence[Message],
        metadata: Mapping[str, str],
        files: Mapping[str, bytes],
    ) -> Path:
        """Write messages and files into a new bag ``name``, which appears only when complete.

        Raises BagError or OSError where that cannot be done; nothing is left of it then.
        """
        target, unfinished = self.path / name, self.path / UNFINISHED / name
        if target.exists() or unfinished.exists():
            raise BagError(f'bag {target}: exists already')
        bag = None
        try:
            bag = BagFolder(unfinished, metadata)
            for file, content in files.items():
                (unfinished / file).write_bytes(content)
            for index, message in enumerate(messages):
                bag.write(*message)
                if index % PAUSE_EVERY == 0:
                    time.sleep(PAUSE)
            bag.close()
            unfinished.rename(target)
        except Exception:
            with suppress(OSError):
                if bag is not None:
                    bag.close()
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        return target

    def _recent(self) -> int:
        """Bags of the last hour, by the time at which their folder last changed."""
        count, now = 0, time.time()
        for bag in self.path.iterdir():
            with suppress(FileNotFoundError):  # moved elsewhere meanwhile
                count += bag.name != UNFINISHED and now - bag.stat().st_mtime < 3600
        return count

    def _repair_unfinished(self) -> None:
        """Complete the bags that a killed process left; those without a message are removed."""
        for left in (self.path / UNFINISHED).iterdir():
            with suppress(BagError, OSError):  # still being written, or no room: stays
                if any(left.glob('*.mcap')) and any(file.messages for file in repair(left)):
                    left.rename(self.path / left.name)
                else:
                    shutil.rmtree(left)
