# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Commands that install missing Python packages in this kind of installation."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
import re
import shlex
import sys
import sysconfig

from lewm_ros.files import PACKAGE

#: Packages that Debian and Ubuntu have, by their names on PyPI.
_APT = {
    'lz4': 'python3-lz4',
    'matplotlib': 'python3-matplotlib',
    'pillow': 'python3-pil',
    'tqdm': 'python3-tqdm',
    'zstandard': 'python3-zstandard',
}
#: Modules that are not named like their packages.
_PACKAGES = {'PIL': 'pillow', 'cv2': 'opencv-python-headless', 'yaml': 'pyyaml'}


def missing_package(module: str) -> str:
    """Return a message that a module is missing, with the command that installs its extra."""
    package = _PACKAGES.get(module, module)
    extras = {extra: _requirements(extra) for extra in ('train', 'sim', 'record', 'cpu', 'gym')}
    found = [e for e, lines in extras.items() if package in map(_name, lines)]
    missing = {extra: (len(_lacking(extra)), len(_requirements(extra))) for extra in found}
    smallest = min(found, key=missing.__getitem__, default=None)
    return f"Python package '{module}' is missing: " + (
        _command([package]) if smallest is None else how_to_install(smallest)
    )


def how_to_install(extra: str) -> str:
    """Return the command that installs what is missing of an extra of setup.py.

    It names the packages: in a colcon workspace ``lewm_ros[extra]`` would install another lewm_ros.
    """
    checkout = Path(__file__).parent.parent  # if this package is not installed
    return _command(_lacking(extra) or _requirements(extra) or [f'{checkout}[{extra}]'])


def _lacking(extra: str) -> list[str]:
    return [line for line in _requirements(extra) if not _installed(_name(line))]


def _command(requirements: list[str]) -> str:
    managed = Path(sysconfig.get_path('stdlib')) / 'EXTERNALLY-MANAGED'
    if sys.prefix != sys.base_prefix or not managed.exists():
        options, by_apt = [], []
    else:  # the system's Python, which pip may not change unasked (PEP 668)
        options = ['--break-system-packages']
        by_apt = [_APT[_name(line)] for line in requirements if _name(line) in _APT]
        requirements = [line for line in requirements if _name(line) not in _APT]
    commands = [['sudo', 'apt', 'install', *by_apt]] if by_apt else []
    if requirements:
        # ROS 2 Jazzy is built for the numpy of its Ubuntu, which pip would replace.
        kept = ['numpy<2'] if _version('numpy').startswith('1.') else []
        commands.append([sys.executable, '-m', 'pip', 'install', *options, *requirements, *kept])
    return ' && '.join(shlex.join(command) for command in commands)


def _requirements(extra: str) -> list[str]:
    """Return the requirements of an extra; none where this package is not installed."""
    try:
        lines = metadata.requires(PACKAGE) or []
    except metadata.PackageNotFoundError:
        return []
    wanted = re.compile(rf"""extra == ['"]{extra}['"]""")
    split = (line.partition(';') for line in lines)
    return [requirement.strip() for requirement, _, marker in split if wanted.search(marker)]


def _name(requirement: str) -> str:
    """Return the package name of a requirement."""
    return re.split(r'[^\w.-]', requirement, maxsplit=1)[0].lower()


def _installed(package: str) -> bool:
    return bool(_version(package))


def _version(package: str) -> str:
    """Return the version of an installed package; '' where it is missing."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ''
