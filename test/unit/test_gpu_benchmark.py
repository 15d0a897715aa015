# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""benchmarks/gpu.py runs without a GPU, on a very small network."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest
from recordings import drive, write

from lewm_ros.bundle import Bundle

CHILD = Path(__file__).parent.parent / 'gpu_child.py'
OPTIONS = {'device': 'cpu', 'model': 'small', 'threads': 1, 'seconds': 1, 'rounds': 1}
OPTIONS |= {'steps': 2, 'plans': 2, 'work-seconds': 0.1}


def run(data: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Run the benchmark with a bag, writing into a folder."""
    options = OPTIONS | {'data': data, 'contract': 'reacher', 'out': out}
    command = [sys.executable, str(CHILD), *(f'--{name}={v}' for name, v in options.items())]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


@pytest.fixture
def bag(tmp_path: Path) -> Path:
    """Return a bag of three short episodes."""
    write(tmp_path / 'bag', drive(60, 3))
    return tmp_path / 'bag'


def test_all_parts_run_on_a_processor(bag: Path, tmp_path: Path) -> None:
    """On a CPU every part reports its figures, and the trained bundle loads."""
    done = run(bag, tmp_path / 'out')
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / 'out' / 'gpu.json').read_text())
    assert set(report) == {'machine', 'equality', 'speed', 'throughput', 'training'}
    for equality in (report['equality'], report['training']['equality']):
        assert equality['f32']['relative_cost_difference'] < 1e-4
        assert equality['f32']['captured_minus_eager'] < 1e-4
        assert equality['f32']['elites_kept'] == 30
    rows = report['speed']['rows']
    assert len(rows) == 10 and all(row['ms_p50'] > 0 for row in rows)
    assert report['speed']['dino_wm'][0]['times_slower']['f32'] > 1
    assert report['throughput']['variants']['eager']['images_per_s'] > 0
    trained = Bundle.load(tmp_path / 'out' / 'bundle')
    assert trained.manifest.provenance['metrics'] == report['training']['metrics']
    assert report['training']['plans']['mean_difference_to_f32']['f32']['mean'] == 0
    assert (tmp_path / 'out' / 'curves.png').read_bytes().startswith(b'\x89PNG')


def test_a_part_that_fails_does_not_stop_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A part that fails is reported with its error, and the next part runs."""
    monkeypatch.syspath_prepend(str(CHILD.parent.parent / 'benchmarks'))
    gpu: Any = importlib.import_module('gpu')

    def broken(job: object) -> dict[str, Any]:
        raise RuntimeError('no such kernel')

    monkeypatch.setattr(gpu, 'PARTS', {'first': broken, 'second': lambda job: {'ms': 3}})
    job = SimpleNamespace(out=tmp_path / 'out', report={})
    assert not gpu.run(job)
    report = json.loads((tmp_path / 'out' / 'gpu.json').read_text())
    assert report['first']['error'] == 'RuntimeError: no such kernel'
    assert report['second']['ms'] == 3
    assert 'Traceback' in capsys.readouterr().err
