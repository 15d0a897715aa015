# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Installation hints for missing Python packages, by kind of installation."""

from __future__ import annotations

from importlib import metadata
import sys

import pytest

from lewm_ros.install import how_to_install, missing_package


@pytest.fixture
def lacking(monkeypatch):
    """Return a function that makes packages appear not to be installed."""

    def lack(*packages: str, **versions: str) -> None:
        real = metadata.version

        def version(name: str) -> str:
            if name in packages:
                raise metadata.PackageNotFoundError(name)
            return versions.get(name) or real(name)

        monkeypatch.setattr('lewm_ros.install.metadata.version', version)

    return lack


@pytest.fixture
def system_python(monkeypatch, tmp_path):
    """Make this look like the Python of Ubuntu 24.04: no virtual environment, PEP 668."""
    (tmp_path / 'EXTERNALLY-MANAGED').touch()
    monkeypatch.setattr('lewm_ros.install.sysconfig.get_path', lambda name: str(tmp_path))
    monkeypatch.setattr(sys, 'prefix', sys.base_prefix)


def test_a_virtual_environment_gets_its_own_pip_and_what_it_lacks(lacking):
    """In a virtual environment, the hint is its own pip and only the missing packages.

    `lewm_ros[record]` would install a second lewm_ros beside that of a workspace.
    """
    lacking('mcap', numpy='2.1.0')
    assert how_to_install('record') == f"{sys.executable} -m pip install 'mcap>=1.6'"
    lacking('mujoco', numpy='1.26.4')  # it sees the packages of ROS 2 Jazzy
    assert missing_package('mujoco') == (
        "Python package 'mujoco' is missing: "
        f"{sys.executable} -m pip install 'mujoco<4,>=3.17' 'numpy<2'"
    )


def test_the_systems_python_gets_apt_packages_and_pip_only_for_the_others(lacking, system_python):
    """For system Python, the hint is apt packages, and pip only for the others.

    Plain pip refuses there, and would replace the numpy that ROS 2 was built with.
    """
    lacking('lz4', 'pillow', 'torch', numpy='1.26.4')
    assert how_to_install('train') == (
        'sudo apt install python3-lz4 python3-pil && '
        f"{sys.executable} -m pip install --break-system-packages torch 'numpy<2'"
    )


def test_an_unknown_package_is_named_alone(lacking):
    """A package that no extra lists is named alone, by its distribution name."""
    lacking(numpy='2.1.0')
    assert missing_package('xyz').endswith('pip install xyz')
    assert missing_package('yaml').endswith('pip install pyyaml')


def test_the_smallest_extra_that_brings_a_package_is_named(lacking):
    """Reading bags needs no torch, though training brings the same packages."""
    lacking('torch', 'rosbags', 'matplotlib')
    assert 'torch' not in missing_package('rosbags') and 'rosbags' in missing_package('rosbags')
    assert 'torch' not in missing_package('matplotlib')
