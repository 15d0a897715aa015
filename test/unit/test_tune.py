# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm tune`: the search on a known function, and the command on a small bag."""

from __future__ import annotations

import csv
from dataclasses import replace
import json
import math
import os
from pathlib import Path
import signal

from command_line import lewm
from networks import tiny_config
import numpy as np
import pytest
from recordings import drive, write
import torch

from lewm_ros.model import ARCHITECTURES, ModelConfig
from lewm_ros.training import train, trainer
from lewm_ros.training.config import CONFIGS, TrainConfig
from lewm_ros.training.loader import normalised
from lewm_ros.training.run_folder import RunFolder
from lewm_ros.training.tune import chained, choose, explained_share, search
from lewm_ros.training.windows import Images, Windows

START, NOISE = 0.09, 0.05
CONFIG = TrainConfig(batch=8, steps=100, lr=5e-4, num_projections=16, held_out=0.2)
GRID = (0.01, 0.025, 0.06, 0.16, 0.4, 1.0)


def tiny(action_size: int) -> ModelConfig:
    """Return a network that trains in a moment."""
    return tiny_config(action_size, encoder_width=8, predictor_depth=1, frameskip=2)


def explained(weight: float, top: float) -> float:
    """Return a metric that is flat within a factor of 2 of ``top`` and falls on both sides."""
    away = abs(math.log10(weight / top)) - math.log10(2)
    return 2 - 4 * max(0.0, away) ** 2


@pytest.mark.parametrize('top', [0.012, 0.02, 0.05, 0.09, 0.2, 0.5])
@pytest.mark.parametrize('seed', range(5))
def test_four_evaluations_find_what_a_grid_of_six_finds(top, seed):
    """Wherever the optimum is, the chosen weight is as good as the grid's best, within noise."""
    rng = np.random.default_rng(seed)
    trials = search(lambda w: (explained(w, top) + rng.normal(0, NOISE), NOISE), START)
    chosen = choose(trials, START).sigreg_weight
    assert len(trials) <= 4
    assert explained(chosen, top) >= max(explained(w, top) for w in GRID) - 3 * NOISE


def test_a_flat_figure_ends_the_search_and_keeps_the_default():
    """If three weights differ by less than the noise, the search ends and keeps the default."""
    flat = {0.09: 1.99, 0.03: 2.02, 0.3: 1.97}
    trials = search(lambda w: (flat[w], NOISE), START)
    assert [trial.sigreg_weight for trial in trials] == [0.09, 0.03, 0.3]
    assert choose(trials, START).sigreg_weight == START


@pytest.mark.parametrize(
    ('figures', 'fourth', 'chosen'),
    [
        ({0.09: 2, 0.03: 1, 0.3: 0, 0.052: 2.5}, 0.052, 0.052),  # towards the better side
        ({0.09: 2, 0.03: 1, 0.3: 3, 0.55: 1}, 0.55, 0.3),  # outwards
        ({0.09: 2, 0.03: 3, 0.3: 1, 0.017: 4}, 0.017, 0.017),
        ({0.09: 2, 0.03: -math.inf, 0.3: 1, 0.16: 3}, 0.16, 0.16),  # beside a collapse
    ],
)
def test_the_bracket_closes_on_the_best(figures, fourth, chosen):
    """The fourth weight is between the best and its better neighbour, or beyond the outermost."""
    trials = search(lambda w: (figures[w], NOISE), START)
    assert trials[-1].sigreg_weight == fourth and len(trials) == 4
    assert choose(trials, START).sigreg_weight == chosen


class Brightness:
    """A world model whose latent (1,) is the image's brightness, which action 0 changes.

    Args:
        trainer: provides the statistics of the actions.
        sees: whether latents depend on the image.
        heeds: whether predictions depend on the commands.

    """

    def __init__(self, trainer: trainer.Trainer, sees: bool, heeds: bool) -> None:
        self.config = trainer.model.config
        self.trainer, self.sees, self.heeds = trainer, sees, heeds
        black, white = normalised(torch.tensor([[[[0]]], [[[255]]]]).expand(2, 1, 1, 3))[:, 0, 0, 0]
        self.black, self.unit = black, (white - black) / 255

    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, T, 3, S, S) to (B, T, 1)."""
        level = (pixels[:, :, 0].mean(dim=(2, 3)) - self.black) / self.unit
        return level[..., None] * self.sees

    def rollout(
        self, context: torch.Tensor, past: torch.Tensor, actions: torch.Tensor
    ) -> torch.Tensor:
        """(B, H, 1), unused and (B, 1, N, k·A) to (B, 1, N, 1)."""
        change = actions[..., 0] * self.trainer.std[0] + self.trainer.mean[0]
        return context[:, None, -1:] + (change.cumsum(2) * self.heeds)[..., None]


def test_the_share_explained_is_of_what_the_prediction_shows(reacher_contract, monkeypatch):
    """The exact model explains nearly all, one that ignores commands less, a blind one least."""
    rng = np.random.default_rng(0)
    levels = rng.integers(40, 215, (20, 1)) + rng.integers(-25, 26, (20, 24)).cumsum(1)
    levels = levels.clip(0, 255)
    images = np.repeat(levels.reshape(-1).astype(np.uint8), 32 * 32 * 3).reshape(-1, 32, 32, 3)
    begins = (24 * np.arange(20)[:, None] + np.arange(21)).reshape(-1)
    frames = begins[:, None] + np.arange(4)
    blocks = rng.normal(size=(len(frames), 3, 4)).astype(np.float32)
    blocks[:, :, ::2] = np.diff(levels.reshape(-1)[frames])[..., None]
    episodes = (begins // 24).astype(np.int32)
    sources = np.zeros(len(frames), dtype=np.int64)
    windows = Windows(Images([images]), frames, blocks, episodes, sources, (None,), 0.05)
    monkeypatch.setitem(ARCHITECTURES, 'small', tiny)
    learner = trainer.Trainer(windows, reacher_contract, 'small', CONFIG, 'cpu', seed=0)
    shares = []
    for sees, heeds in ((True, True), (True, False), (False, True)):
        learner.model = Brightness(learner, sees, heeds)
        share, error = explained_share(learner, chained(windows, learner.held_out))
        assert error > 0
        shares.append(share)
    exact, deaf, blind = shares
    assert exact > 0.995 and 0.7 < deaf < 0.97 and blind < 0.6


@pytest.fixture
def data(tmp_path, monkeypatch) -> Path:
    """Return a bag of eight short episodes, and make the small model one that trains quickly."""
    monkeypatch.setitem(ARCHITECTURES, 'small', tiny)
    monkeypatch.setitem(CONFIGS, 'small', CONFIG)
    monkeypatch.setattr(train, 'VALIDATE_EVERY', 10)
    monkeypatch.setattr(trainer, 'LOG_EVERY', 2)
    threads = torch.get_num_threads()
    yield write(tmp_path / 'bag', drive(20, 8))
    torch.set_num_threads(threads)


def tune(data: Path, out: Path, *options: object) -> tuple[int, str, str]:
    """Run the command on one thread."""
    given = ('--data', data, '--contract', 'reacher', '--out', out, '--threads', 1, *options)
    return lewm('tune', *given)


def interrupt(monkeypatch: pytest.MonkeyPatch, name: str, step: int) -> None:
    """Send SIGINT once the run folder ``name`` has a row for ``step``."""
    add = RunFolder.add

    def add_and_interrupt(self: RunFolder, row: dict[str, float]) -> None:
        add(self, row)
        if (self.path.name, row['step']) == (name, step):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunFolder, 'add', add_and_interrupt)


def test_the_command_compares_weights_and_continues_after_an_interruption(
    data, tmp_path, monkeypatch, caplog
):
    """Interrupted in its second training, it repeats no step and ends with the same result."""
    status, said, errors = tune(data, tmp_path / 'whole')
    assert status == 0, errors
    assert (tmp_path / 'whole' / 'tune.png').read_bytes().startswith(b'\x89PNG')
    with (tmp_path / 'whole' / 'tune.csv').open(newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) in {3, 4} and {'0.03', '0.09', '0.3'} <= {r['sigreg_weight'] for r in rows}
    assert all(float(row['error']) > 0 for row in rows)
    assert 'SIGReg weight  image explained' in said
    assert f'lewm train --data {data} --contract reacher --model small --sigreg-weight' in said
    config = (tmp_path / 'whole' / 'sigreg_0.3' / 'config.yaml').read_text()
    assert 'sigreg_weight: 0.3' in config and 'steps: 10' in config and 'held_out: 0.2' in config

    with monkeypatch.context() as stopped:
        interrupt(stopped, 'sigreg_0.03', 4)
        status, _, _ = tune(data, tmp_path / 'part')
    assert status == 130 and 'stopped at step 4: the same command continues' in caplog.text
    assert not (tmp_path / 'part' / 'tune.csv').exists()
    metrics = tmp_path / 'part' / 'sigreg_0.09' / 'metrics.csv'
    before = metrics.read_text()
    status, said, _ = tune(data, tmp_path / 'part', '--json')
    assert status == 0 and metrics.read_text() == before  # times included
    for name in ('tune.csv', 'tune.png'):
        assert (tmp_path / 'part' / name).read_bytes() == (tmp_path / 'whole' / name).read_bytes()
    found = json.loads(said)
    assert [f'{row["sigreg_weight"]:g}' for row in found['trials']] == [
        row['sigreg_weight'] for row in rows
    ]
    assert f'--sigreg-weight {found["sigreg_weight"]:g}' in found['command']


def test_where_every_training_fails_it_is_an_error(data, tmp_path, monkeypatch, caplog):
    """A diverging training does not end the search; if all diverge, the command fails."""
    monkeypatch.setitem(CONFIGS, 'small', replace(CONFIGS['small'], lr=1e30))
    status, _, errors = tune(data, tmp_path / 'all')
    assert status == 2 and 'SIGReg weight 0.3: the loss is nan at step' in caplog.text
    assert errors.splitlines()[-1].startswith('lewm: error: no training succeeded')


def test_bad_input_is_one_line(data, tmp_path):
    """The last line names what is wrong, and no training starts."""
    few = write(tmp_path / 'few', drive(20, 4))
    for bag, options, text in (
        (data, ('--steps', 0), 'steps is 0'),
        (data, ('--threads', 0), '--threads is 0'),
        (data, ('--contract', 'absent'), "contract 'absent'"),
        (data, ('--data', tmp_path / 'absent'), 'absent'),
        (few, (), '1 held-out episodes of 6 blocks or more: tuning compares at least 2'),
    ):
        status, _, errors = tune(bag, tmp_path / 'out', *options)
        assert status == 2
        assert errors.splitlines()[-1].startswith('lewm: error: ') and text in errors, errors
    assert not list((tmp_path / 'out').glob('sigreg_*'))
    command = ('train', '--data', data, '--contract', 'reacher', '--out', tmp_path / 'model')
    status, _, errors = lewm(*command, '--sigreg-weight', -1)
    assert status == 2 and 'sigreg_weight is -1.0: expected 0 or more' in errors
