# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Files that somebody else may have made: opened without waiting, never longer than a limit."""

from __future__ import annotations

import errno
from io import BufferedReader
import os
from pathlib import Path
import stat


def open_plain(path: Path, limit: int) -> BufferedReader:
    """Open a regular file of at most ``limit`` bytes for reading.

    A pipe would wait for a writer for ever, and a device such as /dev/zero has no end. Raises
    OSError naming the file, for those as well.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, 'is no plain file', str(path))
        if found.st_size > limit:
            text = f'has {found.st_size} bytes: expected at most {limit}'
            raise OSError(errno.EFBIG, text, str(path))
        return os.fdopen(handle, 'rb')
    except BaseException:
        os.close(handle)
        raise


def read_plain(path: Path, limit: int) -> bytes:
    """Return the content of such a file. Raises OSError as :func:`open_plain`."""
    with open_plain(path, limit) as file:
        # By its size, not by the limit: as much as is asked for is allocated first.
        return file.read(os.fstat(file.fileno()).st_size)
