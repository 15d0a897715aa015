# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Writer of simulated episodes, into the same kind of bag as a robot's."""

from __future__ import annotations

import math
from pathlib import Path
import shutil
from types import TracebackType
from typing import Any

from lewm_ros.bags.layout import COMMAND
from lewm_ros.bags.message_types import TYPES
from lewm_ros.bags.writer import BagFolder, Channel
from lewm_ros.time import NS_PER_S


class BagWriter:
    """Writes messages given by their fields into a rosbag2 bag; use as a context manager.

    ``command`` is stored in the metadata as the provenance of models trained on the bag. The bag
    is closed on an exception too, and is then complete up to there; if it has only latched messages
    by then, such as the number of an episode, it is removed. Raises BagError if ``path`` exists.
    """

    def __init__(self, path: str | Path, command: str = '') -> None:
        # Files are split by size only, not by simulated time.
        self._bag = BagFolder(Path(path), {COMMAND: command}, split_seconds=math.inf)
        self._empty = True

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._bag.close()
        finally:
            if kind is not None and self._empty:
                shutil.rmtree(self._bag.path, ignore_errors=True)

    def write(
        self, topic: str, kind: str, stamp: int, latched: bool = False, **values: Any
    ) -> None:
        """Append a message of type ``kind`` with these field values, logged at ``stamp`` [ns]."""
        data = bytes(TYPES.serialize_cdr(self.make(kind, **values), kind))
        self._bag.write(Channel(topic, kind, latched=latched), stamp, data)
        self._empty &= latched

    def header(self, stamp: int, frame_id: str = '') -> Any:
        """Make a std_msgs/Header."""
        seconds, rest = divmod(stamp, NS_PER_S)
        time = self.make('builtin_interfaces/msg/Time', sec=seconds, nanosec=rest)
        return self.make('std_msgs/msg/Header', stamp=time, frame_id=frame_id)

    @staticmethod
    def make(kind: str, **values: Any) -> Any:
        """Make a message of type ``kind`` to put inside another."""
        return TYPES.types[kind](**values)
