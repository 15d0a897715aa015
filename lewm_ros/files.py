# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The package's data files by name, bounded reads, atomic writes and lock files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
import errno
import fcntl
import os
from pathlib import Path
import sys
import tempfile

from lewm_ros.errors import ConfigError, LewmError, ModelError

PACKAGE = 'lewm_ros'
MANIFEST = 'manifest.json'  #: the file that identifies a folder as a bundle
PARTIAL = '.partial'  #: suffix of a file that is not yet complete

# kind: (folder under the share folder, suffix, error raised)
_KINDS: dict[str, tuple[str, str, type[LewmError]]] = {
    'bundle': ('models', '', ModelError),
    'contract': ('config/robots', '.yaml', ConfigError),
    'preset': ('config/presets', '.yaml', ConfigError),
    'rviz': ('config/rviz', '.rviz', ConfigError),
}


def share_dir() -> Path:
    """Return the folder that holds ``config/``, ``launch/`` and ``models/``.

    A source tree around the package comes first: an editable install must see the files being
    edited, and pip has also put copies of them under ``sys.prefix``. Then the ament index (a
    colcon build), then ``sys.prefix/share/lewm_ros`` (pip). Raises ConfigError if none is
    there.
    """
    for folder in _candidates():
        if (folder / 'config').is_dir():
            return folder
    raise ConfigError(
        'the data files of lewm_ros (config/, models/) were not found in '
        f'{[str(f) for f in _candidates()]}: install the package again'
    )


def find(kind: str, name: str) -> Path:
    """Find a bundle, contract, preset or rviz file by path, or by its name in the share folder.

    A path takes precedence if it is of the kind (a folder with a manifest, or a file), so a bag
    folder ``reacher`` does not hide the bundle of that name.

    Args:
        kind: 'bundle', 'contract', 'preset' or 'rviz'.
        name: a path, or a bare name with or without its suffix.

    Raises:
        LewmError: the kind's own error, listing the names that exist.

    """
    folder, suffix, error = _KINDS[kind]
    given = Path(name)
    with suppress(RuntimeError):  # ~ of an unknown user
        given = given.expanduser()
    if (given / MANIFEST if kind == 'bundle' else given).is_file():
        return given.resolve()
    root = share_dir() / folder
    bare = '/' not in name and name not in ('', '.', '..')
    if bare:
        for candidate in (root / name, root / f'{name}{suffix}'):
            if candidate.exists():
                return candidate
    if name and given.exists():  # of another kind: its reader reports that
        return given.resolve()
    known = sorted(p.name.removesuffix(suffix) for p in root.glob(f'[!.]*{suffix}'))
    raise error(
        f"{kind} '{name}': no such path, and no such name in {root}, which has {known or 'nothing'}"
    )


def _candidates() -> list[Path]:
    """Possible share folders, best first."""
    # Not resolved: under `colcon --symlink-install` the link's own place is what counts.
    beside = Path(__file__).parent.parent
    folders = [beside] if (beside / 'resource' / PACKAGE).exists() else []
    try:
        from ament_index_python.packages import get_package_share_directory

        folders.append(Path(get_package_share_directory(PACKAGE)))
    except (ImportError, LookupError, OSError):  # no ROS environment, or one without us
        pass
    return [*folders, Path(sys.prefix) / 'share' / PACKAGE]


def check_size(path: Path, limit: int) -> None:
    """Raise OSError naming the file if it is larger than ``limit`` [bytes], or is not there."""
    size = path.stat().st_size
    if size > limit:
        raise OSError(errno.EFBIG, f'has {size} bytes: expected at most {limit}', str(path))


def read_limited(path: Path, limit: int) -> bytes:
    """Return the content of a file of at most ``limit`` bytes. Raises OSError naming it."""
    check_size(path, limit)
    return path.read_bytes()


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Yield the path at which to write a file that replaces ``path`` after the block.

    A reader sees the old file or the complete new one, even after a power failure. If the block
    raises, the old file stays; an OSError, such as for a full disk, then names ``path``.
    """
    partial = path.with_name(f'.{path.name}.{os.getpid()}{PARTIAL}')
    partial.unlink(missing_ok=True)
    try:
        yield partial
        sync(partial)
        partial.replace(path)
        sync(path.parent)
    except OSError as error:
        if error.filename in (None, str(partial)):
            error.filename = str(path)
        raise
    finally:
        partial.unlink(missing_ok=True)


def check_room(folder: Path, size: int) -> None:
    """Raise OSError naming the folder unless a file of ``size`` [bytes] can be written in it."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        error.filename = str(folder)
        raise


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def locked(path: Path, taken: Callable[[], object]) -> Iterator[None]:
    """Hold an exclusive lock on the file ``path``, created if needed, during the block.

    If another process holds the lock, ``taken`` is called: it raises, or says that this process
    waits. A killed process leaves no lock behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open('w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            taken()
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
