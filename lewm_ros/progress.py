# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Progress of long commands: a bar on a terminal, occasional lines in a file or a pipe."""

from __future__ import annotations

from collections.abc import Iterable
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

#: Minimum time between two lines in a file [s].
INTERVAL = 10.0


class _LineFile:
    """Turns the redrawing of a bar into lines, ``INTERVAL`` or more apart."""

    def __init__(self, file: TextIO) -> None:
        self.encoding = file.encoding
        self._file = file
        self._written = time.monotonic()  # no line for what takes no time

    def write(self, text: str) -> None:
        """Take what the bar draws; most of it is dropped."""
        line, now = text.strip(), time.monotonic()
        if line and now - self._written >= INTERVAL:
            self._written = now
            self._file.write(f'{line}\n')

    def flush(self) -> None:
        """Flush the file."""
        self._file.flush()


def progress(
    iterable: Iterable[Any] | None = None, *, desc: str, unit: str, **options: Any
) -> tqdm:
    """Show the progress of some work on stderr; used like ``tqdm``.

    Args:
        iterable: items to process; None if ``update()`` is called instead.
        desc: description of the work.
        unit: name of one item.
        options: other options of tqdm, such as ``total`` and ``initial``.

    """
    if not sys.stderr.isatty():
        options |= {'file': _LineFile(sys.stderr), 'ncols': 0}
    return tqdm(iterable, desc=desc, unit=unit, **options)
