# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Where the package's data files are, however it was installed, and how to find one by name."""

from __future__ import annotations

import errno
from io import BufferedReader
import os
from pathlib import Path
import stat
import sys

from lewm_ros.errors import BringupError, BundleError, ContractError, LewmError

PACKAGE = 'lewm_ros'

# kind: (folder under the share folder, suffix, error raised)
_KINDS: dict[str, tuple[str, str, type[LewmError]]] = {
    'bundle': ('models', '', BundleError),
    'contract': ('config/robots', '.yaml', ContractError),
    'preset': ('config/presets', '.yaml', BringupError),
    'rviz': ('config/rviz', '.rviz', BringupError),
}


def share_dir() -> Path:
    """Return the folder that holds ``config/``, ``launch/`` and ``models/``.

    A source tree around the package comes first: an editable install must see the files being
    edited, and pip has also put copies of them under ``sys.prefix``. Then the ament index (a
    colcon build), then ``sys.prefix/share/lewm_ros`` (pip). Raises BringupError if none is
    there.
    """
    for folder in _candidates():
        if (folder / 'config').is_dir():
            return folder
    raise BringupError(
        'the data files of lewm_ros (config/, models/) were not found in '
        f'{[str(f) for f in _candidates()]}: install the package again'
    )


def find(kind: str, name: str) -> Path:
    """Find a bundle, contract, preset or rviz file by path, or by its name in the share folder.

    Args:
        kind: 'bundle', 'contract', 'preset' or 'rviz'.
        name: a path, or a bare name with or without its suffix.

    Raises:
        LewmError: the kind's own error, listing the names that exist.

    """
    folder, suffix, error = _KINDS[kind]
    given = Path(name).expanduser()
    if given.exists() and name:
        return given.resolve()
    root = share_dir() / folder
    bare = given.parent == Path('.') and name not in ('', '.', '..')
    if bare:
        for candidate in (root / name, root / f'{name}{suffix}'):
            if candidate.exists():
                return candidate
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
