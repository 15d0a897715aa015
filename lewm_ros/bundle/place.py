# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Writing a bundle to its place: check that it is possible, replace an existing one."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path
import shutil
import tempfile

from lewm_ros.errors import ModelError
from lewm_ros.files import MANIFEST, PARTIAL, atomic_write, check_room, sync

ADDED = 16 << 20  #: what a bundle may grow by, such as a roadmap [bytes]


def check_writable(path: str | Path) -> None:
    """Raise ModelError, before any work, where a bundle could not be written."""
    path = place = Path(path).resolve()
    while not place.exists():
        place = place.parent
    held = sum(p.stat().st_size for p in path.iterdir() if p.is_file()) if path.is_dir() else 0
    try:
        try:
            check_room(place, held + ADDED)
        except PermissionError:
            if place != path:
                raise
            check_room(place.parent, held + ADDED)  # it may still be replaced as a whole
    except OSError as error:
        raise ModelError(
            f'bundle {path}: cannot be written: {error.filename}: {error.strerror}'
        ) from error


def name_of(path: Path) -> str:
    """Return the name of a bundle at a path, which may be '.'."""
    return Path(os.path.abspath(path)).name  # links are not followed


def refuse_other(path: Path) -> None:
    """Raise ModelError if ``path`` holds something other than a bundle or an empty folder."""
    empty = path.is_dir() and not any(path.iterdir())
    if path.exists() and not empty and not (path / MANIFEST).is_file():
        raise ModelError(f'{path} exists and is not a bundle: choose another path, or remove it')


def new_folder(path: Path) -> Path:
    """Make a folder beside a bundle; inside, where the folder around it is read-only."""
    try:
        return Path(tempfile.mkdtemp(prefix=f'.{path.name}.', dir=path.parent))
    except OSError:
        if not path.is_dir():
            raise
        return Path(tempfile.mkdtemp(suffix=PARTIAL, dir=path))


def put(new: Path, path: Path) -> None:
    """Put the folder ``new`` in place of a bundle at ``path``, if any; ``new`` may remain."""
    if new.parent == path:
        _refill(path, new)
        return
    try:
        _swap(new, path)
    except OSError:
        if not path.is_dir():
            raise
        _refill(path, new)  # a mount point can be neither moved nor replaced


def _refill(path: Path, new: Path) -> None:
    """Put the files of ``new`` into a bundle one by one, the manifest last.

    A process killed in between leaves a bundle whose hashes do not match, which is rejected.
    """
    names = sorted((p.name for p in new.iterdir()), key=MANIFEST.__eq__)
    for name in names:
        with atomic_write(path / name) as partial:
            shutil.copyfile(new / name, partial)
    for old in path.iterdir():
        if old.is_file() and old.name not in names:
            old.unlink()


def _swap(new: Path, path: Path) -> None:
    """Move the folder ``new`` to ``path``; what was there is then at ``new``.

    The exchange is atomic, so that there is a complete bundle at ``path`` at any time.
    """
    if not path.exists():
        new.rename(path)
    elif not _exchange(new, path):
        # A file system without atomic exchange (NFS): a process killed right here leaves the old
        # bundle under its temporary name.
        old = new.with_name(f'{new.name}.old')
        path.rename(old)
        try:
            new.rename(path)
        except OSError:
            old.rename(path)
            raise
        old.rename(new)
    sync(path.parent)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two absolute paths atomically; return False if that is not possible."""
    nowhere, exchange = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of renameat2(2)
    libc = ctypes.CDLL(None)
    return not libc.renameat2(nowhere, os.fsencode(one), nowhere, os.fsencode(other), exchange)
