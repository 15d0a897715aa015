# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Files are written atomically, locked across processes, and read up to a size limit."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys

import pytest

from lewm_ros.files import atomic_write, check_room, locked, read_limited

HOLD = """
import sys
from lewm_ros.files import locked
with locked(__import__('pathlib').Path(sys.argv[1]), lambda: None):
    print('locked', flush=True)
    sys.stdin.read()
"""


def test_a_file_is_replaced_when_the_block_ends(tmp_path: Path) -> None:
    """A file is replaced only when the block ends, and no temporary file remains."""
    path = tmp_path / 'a.txt'
    path.write_text('old')
    with atomic_write(path) as partial:
        partial.write_text('new')
        assert path.read_text() == 'old'
    assert path.read_text() == 'new'
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_raises_leaves_the_old_file(tmp_path: Path) -> None:
    """A block that raises, or writes nothing, leaves the old file and no temporary file."""
    path = tmp_path / 'a.txt'
    path.write_text('old')

    def stop() -> None:
        with atomic_write(path) as partial:
            partial.write_text('half')
            raise ValueError('stop')

    with pytest.raises(ValueError, match='stop'):
        stop()
    with pytest.raises(FileNotFoundError), atomic_write(path):
        pass
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error_that_names_the_file(tmp_path: Path, disk_of) -> None:
    """A full disk is an error that names the file; the old file stays."""
    path = tmp_path / 'a.txt'
    path.write_text('old')
    disk_of(1000)
    check_room(tmp_path, 1000)
    with pytest.raises(OSError, match='File too large') as caught, atomic_write(path) as partial:
        partial.write_bytes(bytes(2000))
    assert caught.value.filename == str(path)
    with pytest.raises(OSError, match='File too large') as caught:
        check_room(tmp_path, 2000)
    assert caught.value.filename == str(tmp_path)
    with pytest.raises(FileNotFoundError, match='absent'):
        check_room(tmp_path / 'absent', 1)
    assert path.read_text() == 'old'
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_keeps_another_process_out_until_it_ends(tmp_path: Path) -> None:
    """A lock excludes other processes until it is released or its process is killed.

    The callback may raise, or let this process wait.
    """
    path = tmp_path / 'folder' / 'lock'

    def refuse() -> None:
        raise RuntimeError('taken')

    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, '-c', HOLD, path], stdin=pipe, stdout=pipe) as other:
        assert other.stdout.readline() == b'locked\n'
        with pytest.raises(RuntimeError, match='taken'), locked(path, refuse):
            pass
        with locked(path, other.kill):  # waits until the other is gone
            assert other.wait(10) < 0
    with locked(path, refuse):
        pass


def test_a_file_above_the_limit_is_not_read(tmp_path: Path) -> None:
    """A file above the size limit is rejected with its name and both sizes."""
    path = tmp_path / 'a.txt'
    path.write_bytes(b'12345')
    assert read_limited(path, 5) == b'12345'
    with pytest.raises(OSError, match=r'has 5 bytes: expected at most 4.*a\.txt'):
        read_limited(path, 4)
