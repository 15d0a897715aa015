# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm train` on several bags: run folder, killed and resumed runs, bundle replacement."""

from __future__ import annotations

import csv
import os
from pathlib import Path
import shutil
import subprocess
import sys

import numpy as np
import pytest
from recordings import drive, write
import yaml

from lewm_ros.bundle import Bundle
from lewm_ros.errors import ModelError
from lewm_ros.training.run_folder import RunFolder

CHILD = Path(__file__).parents[1] / 'training_child.py'
TWO = ('a', 'b')
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope='module')
def data(tmp_path_factory, exports) -> Path:
    """Return a folder with two bags, of three episodes and one, and a link to cached exports."""
    folder = tmp_path_factory.mktemp('data')
    write(folder / 'a', drive(30, 3))
    write(folder / 'b', drive(30, 4)[3 * 91 :])
    (folder / 'exports').symlink_to(exports)
    return folder


def train(data: Path, folder: Path, *options: str, event: str = 'NONE:0', bags=TWO):
    """Run the command; the bundle goes to ``folder``/out, the run folder is ``folder``/run."""
    command = [sys.executable, str(CHILD), event, 'train', '--device', 'cpu', '--threads', '1']
    command += ['--data', *(str(data / bag) for bag in bags)]
    command += ['--contract', 'reacher', '--out', str(folder / 'out')]
    command += ['--run', str(folder / 'run'), '--no-decoder', *options]
    environment = os.environ | {'EXPORTS': str(data / 'exports')}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=240, check=False, env=environment
    )


def rows(folder: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv without the time column."""
    with (folder / 'run' / 'metrics.csv').open(newline='') as file:
        found = list(csv.DictReader(file))
    for row in found:
        del row['seconds']
    return found


def weights(folder: Path) -> str:
    """Hash of the weights in the bundle."""
    return Bundle.load(folder / 'out').manifest.files['weights.safetensors']


@pytest.fixture(scope='module')
def whole(data, tiny_bundle, tmp_path_factory) -> Path:
    """Return the folder of an uninterrupted run that replaced a bundle with a card."""
    folder = tmp_path_factory.mktemp('whole')
    shutil.copytree(tiny_bundle.path, folder / 'out')
    (folder / 'out' / 'README.md').write_text('by hand')
    done = train(data, folder)
    assert done.returncode == 0, done.stderr
    (folder / 'said').write_text(done.stdout + done.stderr)
    return folder


def test_a_run_leaves_its_configuration_metrics_curves_and_bundle(whole, data):
    """config.yaml allows a rerun, rows are in order, and the bundle records its provenance."""
    config = yaml.safe_load((whole / 'run' / 'config.yaml').read_text())
    assert [Path(bag['path']) for bag in config['bags']] == [data / 'a', data / 'b']
    assert [(bag['episodes'], bag['held_out']) for bag in config['bags']] == [(3, 1), (1, 0)]
    assert all(len(digest) == 64 for bag in config['bags'] for digest in bag['sha256'])
    assert (config['seed'], config['config']['batch'], config['model']) == (0, 8, 'small')
    assert set(config['versions']) == {'lewm_ros', 'torch'}
    assert config['command'].startswith('lewm ')
    found = rows(whole)
    assert [int(row['step']) for row in found] == list(range(2, 31, 2))
    validated = [int(row['step']) for row in found if row['validation_prediction']]
    assert validated == [10, 20, 30]
    assert (whole / 'run' / 'curves.png').read_bytes().startswith(b'\x89PNG')
    manifest = Bundle.load(whole / 'out').manifest
    first, second = manifest.provenance['bags']
    assert first['sha256'] == config['bags'][0]['sha256']
    assert first['validation_prediction'] == pytest.approx(
        float(found[-1]['validation_prediction'])
    )
    assert 'validation_prediction' not in second
    assert Bundle.load(whole / 'run' / 'bundle').hash == Bundle.load(whole / 'out').hash
    said = (whole / 'said').read_text()
    assert 'a: held-out prediction' in said
    assert second['held_out_episodes'] == [] and first['held_out_episodes'][0] in {0, 1, 2}
    assert '\n1 held-out episodes: ' in said and '\nnot ready:\n' in said


def test_a_card_written_by_hand_survives_training_anew(whole):
    """Training replaces the model and keeps the card."""
    assert (whole / 'out' / 'README.md').read_text() == 'by hand'
    assert Bundle.load(whole / 'out').manifest.provenance['metrics']['step'] == 30


@pytest.mark.parametrize('event', ['KILL:16', 'INT:26'])
def test_a_run_that_was_stopped_ends_as_if_it_had_not_been(whole, data, tmp_path, event):
    """Resuming gives the same weights and metrics, each row once; Ctrl-C loses no step."""
    stopped = train(data, tmp_path, event=event)
    assert not (tmp_path / 'out').exists()  # replaced at the end only
    exported = Bundle.load(tmp_path / 'run' / 'bundle').manifest.provenance['metrics']['step']
    assert exported == {'KILL:16': 10, 'INT:26': 20}[event]
    if event == 'INT:26':
        assert stopped.returncode == 130
        assert 'stopped at step 26' in stopped.stderr and 'Traceback' not in stopped.stderr
    else:
        assert stopped.returncode == -9
        with (tmp_path / 'run' / 'metrics.csv').open('a') as file:
            file.write('18,0.1,0.2')  # a partially written row
    done = train(data, tmp_path, '--resume')
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == rows(whole)
    assert weights(tmp_path) == weights(whole)


def test_a_run_killed_after_its_last_step_is_completed(whole, data, tmp_path):
    """--resume then only writes the bundle."""
    (tmp_path / 'run').mkdir()
    for name in ('config.yaml', 'metrics.csv', 'checkpoint.pt'):
        (tmp_path / 'run' / name).write_bytes((whole / 'run' / name).read_bytes())
    done = train(data, tmp_path, '--resume')
    assert done.returncode == 0, done.stderr
    assert rows(tmp_path) == rows(whole)
    assert weights(tmp_path) == weights(whole)
    assert len(Bundle.load(tmp_path / 'out').manifest.provenance['bags']) == 2


def test_resuming_with_other_bags_is_refused(whole, data, tmp_path):
    """Bags in another order give windows in another order."""
    (tmp_path / 'run').mkdir()
    for name in ('config.yaml', 'metrics.csv', 'checkpoint.pt'):
        (tmp_path / 'run' / name).write_bytes((whole / 'run' / name).read_bytes())
    done = train(data, tmp_path, '--resume', bags=('b', 'a'))
    assert done.returncode == 2 and 'Traceback' not in done.stderr
    assert 'was made with data' in done.stderr.splitlines()[-1]


def test_two_runs_do_not_share_a_folder(tmp_path):
    """A second run is refused while the first is active; leftovers of a killed run are removed."""
    folder = tmp_path / 'run'
    (folder / '.bundle.left').mkdir(parents=True)
    with RunFolder(folder).claimed():
        with (
            pytest.raises(ModelError, match='run: another run is writing to it'),
            RunFolder(folder).claimed(),
        ):
            pass
        assert not (folder / '.bundle.left').exists()
    with RunFolder(folder).claimed():
        pass


WRITER = """
import sys
from dataclasses import replace
from lewm_ros.bundle import Bundle, write_bundle
bundle = Bundle.load(sys.argv[1])
files = {name: bundle.path / name for name in bundle.manifest.files}
for number in range(100_000):
    write_bundle(sys.argv[2], replace(bundle.manifest, provenance={'number': number}), files)
    print(number, flush=True)
"""


def test_a_bundle_is_whole_at_any_moment(tiny_bundle, tmp_path):
    """During replacement the bundle always exists; after a kill it is the old or the new one."""
    path = tmp_path / 'bundle'
    rng = np.random.default_rng(0)
    for _ in range(3):
        command = [sys.executable, '-c', WRITER, str(tiny_bundle.path), str(path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            child.stdout.readline()
            missing = 0
            for _ in range(int(rng.integers(100_000, 150_000))):
                missing += not path.is_dir()
            child.kill()
            written = [-1, *map(int, child.stdout.read().split())][-1]
        assert missing == 0
        assert Bundle.load(path).manifest.provenance['number'] in {max(0, written), written + 1}
