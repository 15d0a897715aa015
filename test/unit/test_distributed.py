# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Two processes train like one; they stop and resume together, and one of them writes."""

from __future__ import annotations

from collections.abc import Iterator
import csv
import os
from pathlib import Path
import socket
import subprocess
import sys
from typing import Any

from command_line import lewm
import distributed_child
import pytest
from recordings import drive, write
import torch
import yaml

from lewm_ros.bundle import Bundle
from lewm_ros.errors import ModelError
from lewm_ros.model import ARCHITECTURES
from lewm_ros.training import trainer as training

TEST = Path(__file__).parents[1]
LIMIT = 100.0  #: for two processes to end [s]


def run_two(script: str, *args: object, **environment: str) -> list[tuple[int, str]]:
    """Run a test script in two processes, as torchrun does; return exit status and output."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    environment |= {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port)}
    environment |= {'WORLD_SIZE': '2', 'LOCAL_WORLD_SIZE': '2', 'TORCHELASTIC_RUN_ID': 'test'}
    environment |= {'GLOO_SOCKET_IFNAME': 'lo'}
    children = [
        subprocess.Popen(
            [sys.executable, str(TEST / script), *map(str, args)],
            env=os.environ | environment | {'RANK': rank, 'LOCAL_RANK': rank},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in '01'
    ]
    try:
        said = [child.communicate(timeout=LIMIT)[0] for child in children]
    finally:
        for child in children:
            child.kill()
            child.wait()
    return [(child.returncode, text) for child, text in zip(children, said)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory) -> Path:
    """Return a folder with a bag of three episodes."""
    path = tmp_path_factory.mktemp('distributed')
    write(path / 'a', drive(30, 3))
    return path


@pytest.fixture(scope='module')
def found(folder) -> list[dict[str, Any]]:
    """Return the results of each of two processes."""
    done = run_two('distributed_child.py', folder)
    assert [status for status, _ in done] == [0, 0], done
    return [torch.load(folder / f'found_{rank}.pt', weights_only=True) for rank in range(2)]


@pytest.fixture
def here(monkeypatch) -> Iterator[None]:
    """Undo the settings of the child's functions, which this process calls too."""
    monkeypatch.setitem(ARCHITECTURES, 'small', None)
    for name in ('LOG_EVERY', 'has_bfloat16'):
        monkeypatch.setattr(training, name, None)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize('objective', distributed_child.STEPS)
@pytest.mark.usefixtures('here')
def test_two_processes_equal_one_of_the_same_batch(folder, found, objective):
    """Two processes equal one with the same batch: losses, weights, BatchNorm and validation."""
    one = distributed_child.results(folder, objective)
    two, other = (results[objective] for results in found)
    assert len(one['rows']) == len(two['rows']) == distributed_child.STEPS[objective]
    torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-5)
    for name, value in two['state'].items():
        assert torch.equal(value, other['state'][name]), name


def test_a_resumed_run_of_two_equals_an_uninterrupted_one(found):
    """A resumed run of two equals an uninterrupted one: dropout, jitter and projections go on."""
    for results in found:
        for name, value in results['whole'].items():
            assert torch.equal(value, results['resumed'][name]), name


@pytest.mark.usefixtures('found', 'here')
def test_another_number_of_processes_does_not_continue_a_run(folder):
    """A run does not resume with another number of processes, which lacks random states."""
    trainer = distributed_child.make_trainer(folder, 'lewm', **distributed_child.RANDOM)
    with pytest.raises(ModelError, match='was made with processes 2, this run has 1'):
        trainer.load(folder / 'checkpoint.pt')


def test_a_batch_that_cannot_be_shared_is_refused(monkeypatch, tmp_path):
    """A batch that the processes cannot share is rejected with both numbers."""
    for name, value in {'WORLD_SIZE': '3', 'LOCAL_RANK': '0', 'TORCHELASTIC_RUN_ID': '-'}.items():
        monkeypatch.setenv(name, value)
    args = ('--contract', 'reacher', '--out', tmp_path / 'out', '--run', tmp_path / 'run')
    status, _, error = lewm('train', '--data', tmp_path / 'none', '--device', 'cpu', *args)
    assert status == 2
    assert '3 processes cannot share a batch of 64 windows' in error.splitlines()[-1]


def test_both_stop_after_the_same_step(found):
    """Both processes stop after the same step if one is told to stop."""
    first, second = (results['stopped'] for results in found)
    assert first == second and distributed_child.STOP <= first <= distributed_child.STOP + 1


def test_the_command_trains_in_two_processes_and_the_first_writes(folder, tmp_path, exports):
    """The first process writes each row of metrics once and one bundle; the second is silent."""
    train = ('train', '--data', folder / 'a', '--contract', 'reacher', '--device', 'cpu')
    train += ('--threads', 1, '--out', tmp_path / 'out', '--run', tmp_path / 'run')
    train += ('--steps', 10, '--no-decoder', '--no-roadmap')
    first, second = run_two('training_child.py', 'NONE:0', *train, EXPORTS=str(exports))
    assert first[0] == 0 and second == (0, ''), (first, second)
    with (tmp_path / 'run' / 'metrics.csv').open(newline='') as file:
        assert [int(row['step']) for row in csv.DictReader(file)] == [2, 4, 6, 8, 10]
    assert yaml.safe_load((tmp_path / 'run' / 'config.yaml').read_text())['processes'] == 2
    assert Bundle.load(tmp_path / 'out').manifest.provenance['metrics']['step'] == 10
