# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The import contracts (setup.cfg) and the rules for every source file (ruff.toml)."""

from __future__ import annotations

from pathlib import Path
import subprocess
import sys

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a program in the checkout."""
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=100, check=False
    )


def test_imports_keep_their_direction() -> None:
    """Every import contract of setup.cfg is kept, even by imports in functions."""
    done = run(BIN / 'lint-imports', '--no-cache')
    assert done.returncode == 0, done.stdout
    assert '7 kept, 0 broken' in done.stdout


def test_sources_are_clean() -> None:
    """Ruff reports nothing; its rules cover licence, docstrings and annotations."""
    done = run(BIN / 'ruff', 'check', '--no-cache', '.')
    assert done.returncode == 0, done.stdout


def test_runtime_core_loads_without_torch() -> None:
    """Planning, surprise, control, bundles and the engines' front end import no torch."""
    parts = ('planning', 'surprise', 'control.limits', 'control.watchdogs', 'bundle', 'engines')
    modules = ', '.join(f'lewm_ros.{part}' for part in parts)
    done = run(sys.executable, '-c', f'import {modules}, sys; sys.exit("torch" in sys.modules)')
    assert done.returncode == 0, done.stderr
