# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Real installations: pip, pip -e, colcon, colcon --symlink-install and the Makefile."""

from __future__ import annotations

import json
import os
from pathlib import Path
import re
import shutil
import site
import subprocess
import sys
import time

import pytest

import lewm_ros

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = shutil.ignore_patterns(
    '.git', '.venv*', '.demo', 'build', 'install', 'log', 'data', 'runs', '*.egg-info', '.*_cache'
)
SCRIPTS = {
    'lewm',
    'encoder_node',
    'planner_node',
    'controller_node',
    'surprise_node',
    'recorder_node',
    'sim_node',
    'trial_node',
    'view_node',
}
CHECK = """
import json, lewm_ros, lewm_ros.bags.episodes, lewm_ros.training
from lewm_ros.files import find, share_dir
from lewm_ros.robot.contract import Contract
contract = find('contract', 'reacher')
Contract.load(contract)
assert (share_dir() / 'launch' / 'plan.launch.py').is_file()
assert find('preset', 'live').is_file()
print(json.dumps([lewm_ros.__file__, lewm_ros.training.__file__, str(share_dir()), str(contract)]))
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A copy of the source tree, so that nothing is written into this one."""
    return Path(shutil.copytree(ROOT, tmp_path / 'ws' / 'lewm_ros', symlinks=True, ignore=SKIPPED))


def environment(**changes: str) -> dict[str, str]:
    """The environment without variables that lead to this tree or to an outer make."""
    dropped = ('PYTHONPATH', 'AMENT_PREFIX_PATH', 'COLCON_PREFIX_PATH', 'MAKEFLAGS', 'MAKELEVEL')
    kept = {k: v for k, v in os.environ.items() if k not in dropped}
    return {**kept, **changes}


def run(*command: str | Path, cwd: Path, **changes: str) -> str:
    """Run a command and return its output; show the output if it fails."""
    done = subprocess.run(
        command, cwd=cwd, env=environment(**changes), capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, f'{command}:\n{done.stdout}\n{done.stderr}'
    return done.stdout


def located(output: str) -> list[Path]:
    """The paths that CHECK printed."""
    return [Path(path) for path in json.loads(output.splitlines()[-1])]


@pytest.mark.parametrize('mode', ['plain', 'symlink'])
def test_colcon_build_installs_a_package_that_works(source, mode):
    """Both kinds of colcon build install the files, executables and importable modules."""
    if shutil.which('colcon', path=str(Path(sys.executable).parent)) is None:
        pytest.skip("colcon is not installed (pip install 'lewm_ros[test]')")
    workspace = source.parent
    run(
        Path(sys.executable).parent / 'colcon',
        *('--log-base', 'log', 'build', '--event-handlers', 'console_direct+'),
        *(['--symlink-install'] if mode == 'symlink' else []),
        cwd=workspace,
        COLCON_HOME=str(workspace / 'home'),
    )
    prefix = workspace / 'install' / 'lewm_ros'
    share = prefix / 'share' / 'lewm_ros'
    assert (prefix / 'share/ament_index/resource_index/packages/lewm_ros').exists()
    assert (share / 'package.xml').is_file()
    wanted = [p for f in ('config', 'launch', 'models') for p in (source / f).rglob('*.*')]
    for path in (p for p in wanted if p.is_file() and p.suffix != '.pyc'):
        assert (share / path.relative_to(source)).read_bytes() == path.read_bytes()
    executables = {p.name for p in (prefix / 'lib' / 'lewm_ros').iterdir()}
    assert executables == SCRIPTS

    sourced = '. install/setup.bash && cd / && '
    python = ('bash', '-c', sourced + 'exec "$0" -c "$1"', sys.executable, CHECK)
    package, training, found_share, contract = located(run(*python, cwd=workspace))
    for path in (package, training, found_share, contract):
        assert path.is_relative_to(workspace)
    assert (package.resolve() == source / 'lewm_ros/__init__.py') == (mode == 'symlink')
    assert (contract.resolve() == source / 'config/robots/reacher.yaml') == (mode == 'symlink')
    # `lewm` is on the PATH, as README and docs say, before that of another installation.
    lewm = ('bash', '-c', sourced + 'type -p lewm && exec "$0" "$(type -p lewm)" --version')
    path, version = run(*lewm, sys.executable, cwd=workspace).splitlines()
    assert Path(path) == prefix / 'lib' / 'lewm_ros' / 'lewm'
    assert lewm_ros.__version__ in version


@pytest.mark.parametrize('mode', ['plain', 'editable'])
def test_pip_installs_a_package_that_works(source, tmp_path, mode):
    """pip puts the commands into bin/, and the data files are found in both modes."""
    venv = tmp_path / 'venv'
    run(sys.executable, '-m', 'venv', '--without-pip', venv, cwd=tmp_path)
    python = venv / 'bin' / 'python'
    version = f'python{sys.version_info.major}.{sys.version_info.minor}'
    # Dependencies, pip and setuptools come from the environment that runs this test.
    borrowed = '\n'.join(site.getsitepackages())
    (venv / 'lib' / version / 'site-packages' / 'borrowed.pth').write_text(borrowed)
    run(
        *(python, '-m', 'pip', 'install', '--no-index', '--no-deps', '--no-build-isolation'),
        *('--ignore-installed', *(['-e'] if mode == 'editable' else []), source),
        cwd=tmp_path,
    )
    assert {p.name for p in (venv / 'bin').iterdir()} >= SCRIPTS
    assert not (venv / 'lib' / 'lewm_ros').exists()
    package, training, share, contract = located(run(python, '-c', CHECK, cwd=tmp_path))
    home = source if mode == 'editable' else venv
    for path in (package, training, share, contract):
        assert path.is_relative_to(home)
    assert lewm_ros.__version__ in run(venv / 'bin' / 'lewm', '--version', cwd=tmp_path)


def make(source: Path, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
    """Run make in a copy of the tree."""
    return subprocess.run(
        ['make', *arguments],
        cwd=source,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=100,
    )


def test_make_lists_its_targets():
    """Plain `make` names every target that users call."""
    text = make(ROOT).stdout
    targets = re.search(r'^\.PHONY:(.*)$', (ROOT / 'Makefile').read_text(), re.MULTILINE)[1]
    for target in set(targets.split()) - {'help', 'stale'}:
        assert re.search(rf'^make {target} ', text, re.MULTILINE), target


@pytest.mark.parametrize(
    ('target', 'folder', 'constraints'),
    [
        ('setup', '.venv', 'constraints.txt'),
        ('.venv-jazzy/.lewm_ros', '.venv-jazzy', 'constraints-jazzy.txt'),
    ],
)
def test_finished_set_up_is_not_repeated(source, target, folder, constraints):
    """Set-up runs again only if its inputs changed or the folder was moved."""
    stamp = source / folder / '.lewm_ros'
    assert make(source, '-q', target).returncode == 1
    stamp.parent.mkdir()
    stamp.write_text(f'{source}\n')
    later = time.time() + 10
    os.utime(stamp, (later, later))
    assert make(source, '-q', target).returncode == 0
    os.utime(source / constraints, (later + 10, later + 10))
    assert make(source, '-q', target).returncode == 1
    os.utime(source / constraints, (later - 10, later - 10))
    assert make(source, '-q', target).returncode == 0
    moved = source.rename(source.with_name('moved'))
    assert make(moved, '-q', target).returncode == 1


def test_without_python_312_one_line_says_what_is_not_tested(source, tmp_path):
    """Without Python 3.12, one line says that the Jazzy tests do not run.

    pyenv's shim for a version that is not selected is found, but does not run.
    """
    shim = tmp_path / 'bin' / 'python3.12'
    shim.parent.mkdir()
    shim.write_text('#!/bin/sh\necho "pyenv: python3.12: command not found" >&2\nexit 127\n')
    shim.chmod(0o755)
    path = f'{shim.parent}{os.pathsep}{os.environ["PATH"]}'
    done = make(source, 'test-jazzy', f'PYTHON={shim}', PATH=path, PYENV_ROOT=str(tmp_path))
    assert done.returncode == 0 and not done.stderr
    assert done.stdout.startswith('test-jazzy: tests on ROS 2 Jazzy NOT run: no Python 3.12')
    assert done.stdout.count('\n') == 1
    # The real interpreter, where pyenv keeps it.
    version = tmp_path / 'versions' / '3.12.1' / 'bin' / 'python3.12'
    version.parent.mkdir(parents=True)
    version.write_text('#!/bin/sh\nexit 0\n')
    version.chmod(0o755)
    done = make(source, '-n', 'test-jazzy', f'PYTHON={shim}', PATH=path, PYENV_ROOT=str(tmp_path))
    assert f'{version} -m venv .venv-jazzy' in done.stdout


def test_old_python_is_refused_in_one_line(source, tmp_path):
    """A Python that is too old, or missing, is named with the required version.

    Nothing is created.
    """
    old = tmp_path / 'python3.9'
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    for python, shown in ((old, 'Python 3.9.2'), (tmp_path / 'none', 'not found')):
        done = make(source, 'setup', f'PYTHON={python}')
        assert done.returncode != 0
        assert shown in done.stderr
        assert 'Python 3.11 or newer' in done.stderr
        assert not (source / '.venv').exists()


def test_failed_set_up_leaves_no_stamp(source):
    """If pip cannot fetch a package, make fails, and the next run tries again."""
    done = make(
        source,
        'setup',
        f'PYTHON={sys.executable}',
        PIP_NO_INDEX='1',
        PIP_FIND_LINKS='',
        PIP_CONFIG_FILE=os.devnull,
    )
    assert done.returncode != 0
    assert (source / '.venv' / 'bin' / 'python').exists()
    assert not (source / '.venv' / '.lewm_ros').exists()
    assert make(source, '-q', 'setup').returncode == 1
