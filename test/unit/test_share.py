# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Where data files are found, for each way to install."""

from __future__ import annotations

import os
from pathlib import Path
import shutil
import subprocess
import sys

import pytest

from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.files import find, share_dir

ROOT = Path(__file__).resolve().parents[2]
SHOW = (
    'import sys; sys.path.insert(0, sys.argv[1]); import lewm_ros.files as s; '
    'sys.prefix = sys.argv[2]; print(s.share_dir())'
)


@pytest.fixture
def installed(tmp_path: Path):
    """Return a function that calls share_dir() in a copy of the package outside the source tree."""
    site = tmp_path / 'site'
    shutil.copytree(
        ROOT / 'lewm_ros', site / 'lewm_ros', ignore=shutil.ignore_patterns('__pycache__')
    )

    def ask(prefix: Path, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if k != 'AMENT_PREFIX_PATH'}
        return subprocess.run(
            [sys.executable, '-c', SHOW, str(site), str(prefix)],
            env=clean | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return ask


def share_of(prefix: Path) -> Path:
    folder = prefix / 'share' / 'lewm_ros'
    (folder / 'config').mkdir(parents=True)
    return folder


def test_in_a_source_tree_its_own_files_are_used():
    """An editable install uses the files being edited."""
    assert share_dir() == ROOT


def test_installed_with_pip_the_prefix_is_used(installed, tmp_path):
    """Data files come from sys.prefix/share/lewm_ros, where pip puts them."""
    folder = share_of(tmp_path / 'venv')
    assert installed(tmp_path / 'venv').stdout.strip() == str(folder)


def test_built_with_colcon_the_ament_index_comes_before_the_prefix(installed, tmp_path):
    """A sourced workspace takes precedence over files that pip left in the prefix."""
    share_of(tmp_path / 'venv')
    folder = share_of(tmp_path / 'install')
    marker = tmp_path / 'install' / 'share' / 'ament_index' / 'resource_index' / 'packages'
    marker.mkdir(parents=True)
    (marker / 'lewm_ros').touch()
    asked = installed(tmp_path / 'venv', AMENT_PREFIX_PATH=str(tmp_path / 'install'))
    assert asked.stdout.strip() == str(folder)


def test_without_data_files_the_error_lists_where_it_looked(installed, tmp_path):
    """The command fails and names the folders; no wrong folder is returned."""
    asked = installed(tmp_path / 'venv')
    assert asked.returncode != 0
    assert str(tmp_path / 'venv' / 'share' / 'lewm_ros') in asked.stderr


def test_a_name_is_found_with_and_without_suffix_and_a_path_as_it_is(tmp_path):
    """These are the three ways to name a contract."""
    expected = ROOT / 'config' / 'robots' / 'reacher.yaml'
    assert find('contract', 'reacher') == find('contract', 'reacher.yaml') == expected
    own = tmp_path / 'mine.yaml'
    own.touch()
    assert find('contract', str(own)) == own


@pytest.mark.parametrize(
    ('kind', 'error'),
    [('bundle', ModelError), ('contract', ConfigError), ('preset', ConfigError)],
)
def test_a_missing_name_lists_those_that_exist(kind, error):
    """Each kind raises its own error."""
    with pytest.raises(error, match=f"{kind} 'nowhere': no such path, and no such name in"):
        find(kind, 'nowhere')
    with pytest.raises(ConfigError, match='reacher'):
        find('contract', 'nowhere')


def test_a_bag_does_not_hide_the_bundle_of_its_name(tmp_path, monkeypatch):
    """After `lewm collect reacher --out reacher`, `reacher` is still the shipped bundle."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'reacher').mkdir()
    (tmp_path / 'reacher' / 'metadata.yaml').touch()
    assert find('bundle', 'reacher') == ROOT / 'models' / 'reacher'
    assert find('contract', 'reacher') == ROOT / 'config' / 'robots' / 'reacher.yaml'
    # An explicit path, and a name that is not shipped, resolve to the existing folder.
    assert find('bundle', './reacher') == tmp_path / 'reacher'
    (tmp_path / 'mine').mkdir()
    assert find('bundle', 'mine') == tmp_path / 'mine'


def test_a_bundle_of_ones_own_comes_before_the_shipped_one(tmp_path, monkeypatch):
    """A local folder with a manifest, or a local contract file, takes precedence."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'reacher').mkdir()
    (tmp_path / 'reacher' / 'manifest.json').touch()
    (tmp_path / 'push.yaml').touch()
    assert find('bundle', 'reacher') == tmp_path / 'reacher'
    assert find('contract', 'push.yaml') == tmp_path / 'push.yaml'


@pytest.mark.parametrize('name', ['', '..', 'robots/../../etc', 'no/such/path.yaml'])
def test_only_plain_names_are_looked_up(name, tmp_path, monkeypatch):
    """A path that does not exist is not searched for in the share folder."""
    monkeypatch.chdir(tmp_path)
    if name == '..':  # a folder that exists: returned as the path it is
        assert find('contract', name) == tmp_path.parent
        return
    with pytest.raises(ConfigError):
        find('contract', name)
