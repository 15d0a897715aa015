# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bounded queue and the thread that writes it into a bag."""

from __future__ import annotations

from collections import Counter, deque
from pathlib import Path
import shutil
import threading
import time

from lewm_ros.bags.config import DEFAULTS, RecorderConfig
from lewm_ros.bags.writer import BagFolder, Channel
from lewm_ros.errors import BagError

#: Messages that may wait to be written; further ones are dropped and counted.
QUEUE_MESSAGES = 20_000


class BagRecorder:
    """Accepts messages from any thread and writes them in its own thread.

    Attributes:
        written: messages in the bag, by topic.
        dropped: messages dropped because the queue was full, by topic.
        error: what ended the writing, or None; from then on every message is dropped.

    """

    def __init__(self, bag: BagFolder, config: RecorderConfig = DEFAULTS) -> None:
        self.written: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.error: BagError | None = None
        self._bag = bag
        self._config = config
        self._queue: deque[tuple[Channel, int, bytes]] = deque()
        self._bytes = 0
        self._wake = threading.Condition()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name='recorder', daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> float:
        """Bytes in the queue."""
        return self._bytes

    def put(self, channel: Channel, stamp: int, data: bytes) -> bool:
        """Queue a serialised message received at ``stamp`` [ns]; False if it was dropped.

        Queued messages are kept, so that the hole in the recording is in one place.
        """
        with self._wake:
            room = (
                self.error is None
                and not self._stopping
                and len(self._queue) < QUEUE_MESSAGES
                and self._bytes + len(data) <= self._config.queue_mb * 1e6
            )
            if room:
                self._queue.append((channel, stamp, data))
                self._bytes += len(data)
                self._wake.notify()
            else:
                self.dropped[channel.topic] += 1
        return room

    def stop(self, timeout: float = 30.0) -> None:
        """Write what is queued and end the thread; the bag stays open.

        Raises BagError if that takes longer than ``timeout`` [s].
        """
        with self._wake:
            self._stopping = True
            self._wake.notify()
        self._thread.join(timeout)
        if self._thread.is_alive():
            raise BagError(
                f'bag {self._bag.path}: {self._bytes / 1e6:.0f} MB could not be written within '
                f'{timeout:g} s and are lost; the rest needs `lewm record --repair`'
            )

    def _run(self) -> None:
        try:
            self._write()
        except BagError as error:
            self.error = error
        except OSError as error:
            why = error.strerror or error
            self.error = BagError(f'bag {self._bag.path}: cannot be written ({why})')
        except Exception as error:
            self.error = BagError(f'bag {self._bag.path}: {type(error).__name__}: {error}')
        finally:
            with self._wake:
                for channel, _, _ in self._queue:
                    self.dropped[channel.topic] += 1
                self._queue.clear()
                self._bytes = 0

    def _write(self) -> None:
        flush_at = time.monotonic() + self._config.flush_seconds
        while True:
            with self._wake:
                if not self._queue and not self._stopping:
                    self._wake.wait(max(flush_at - time.monotonic(), 0.0))
                item = self._queue.popleft() if self._queue else None
                if item is None and self._stopping:
                    return
            if item is not None:
                self._bag.write(*item)
                self.written[item[0].topic] += 1
                with self._wake:
                    self._bytes -= len(item[2])
            if time.monotonic() >= flush_at:
                self._bag.flush()
                check_disk(self._bag.path, self._config.min_free_gb)
                flush_at = time.monotonic() + self._config.flush_seconds


def check_disk(path: Path, min_free_gb: float) -> None:
    """Raise BagError if less than ``min_free_gb`` [GB] are free on the disk of a bag."""
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    if free < min_free_gb * 1e9:
        raise BagError(
            f'bag {path}: not recording: only {free / 1e9:.2f} GB of the disk are free, '
            f'min_free_gb is {min_free_gb:g}'
        )
