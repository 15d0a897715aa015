# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Progress of long commands: a bar on a terminal, a line now and then in a file or a pipe."""

from __future__ import annotations

from collections.abc import Iterable
import sys
import time
from typing import Any, TextIO

from tqdm import tqdm

#: In a file there is at most one line in this time [s].
INTERVAL = 10.0


class _LineFile:
    """Turns the redrawing of a bar into lines, ``INTERVAL`` or more apart."""

    def __init__(self, file: TextIO) -> None:
        self.encoding = file.encoding
        self._file = file
        self._written = time.monotonic()  # nothing is said of what takes no time

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
    """Show on stderr how far some work has come; used as ``tqdm`` is.

    Args:
        iterable: what is worked through; None where ``update()`` is called instead.
        desc: what is done.
        unit: name of one piece of it.
        options: others of tqdm, such as ``total`` and ``initial``.

    """
    if not sys.stderr.isatty():
        options |= {'file': _LineFile(sys.stderr), 'ncols': 0}
    return tqdm(iterable, desc=desc, unit=unit, **options)
