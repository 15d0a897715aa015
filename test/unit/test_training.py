# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From simulated episodes to a bundle: windows, trainer, checkpoints, command line."""

from __future__ import annotations

import csv
from dataclasses import replace
import json
from pathlib import Path
import shutil

from command_line import lewm
from exports import kept_in
import numpy as np
import pytest
import torch

from lewm_ros.bundle import DECODER, Bundle
from lewm_ros.engines import load_engine
from lewm_ros.errors import BagError, ModelError
from lewm_ros.evaluation import probe
from lewm_ros.evaluation.bags import read_bags
from lewm_ros.evaluation.latents import effective_rank, latent_std, straightness
from lewm_ros.evaluation.probe import linear_probe, mlp_probe
from lewm_ros.training import export
from lewm_ros.training import trainer as training
from lewm_ros.training.batchnorm import reestimate_batchnorm
from lewm_ros.training.config import PLDMWeights, TrainConfig
from lewm_ros.training.device import keep_memory
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import Windows, batches, load_windows

CONFIG = TrainConfig(batch=8, steps=24, lr=5e-4, num_projections=32, held_out=0.2)
#: PLDM with all terms on.
WEIGHTS = PLDMWeights(covariance_in_time=0.1, inverse_dynamics=1)
PLDM = replace(CONFIG, objective='pldm', pldm=WEIGHTS)


@pytest.fixture(scope='module')
def bag(tmp_path_factory) -> Path:
    """Return a bag of eight simulated episodes, collected by the command."""
    path = tmp_path_factory.mktemp('data') / 'bag'
    options = ('--episodes', 8, '--seconds', 2, '--seed', 3)
    assert lewm('collect', 'reacher', '--out', path, *options)[0] == 0
    return path


@pytest.fixture(scope='module')
def windows(bag, tmp_path_factory, reacher_contract) -> Windows:
    """Return the windows of that bag."""
    return load_windows([bag], reacher_contract, 64, 3, 5, tmp_path_factory.mktemp('cache'))


@pytest.fixture(autouse=True)
def threads():
    """Restore the number of threads, which `lewm train` and the trainer set."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def trainer(windows, reacher_contract) -> Trainer:
    """Return a fresh trainer on one thread, so that sums are deterministic."""
    torch.set_num_threads(1)
    keep_memory()
    return Trainer(windows, reacher_contract, 'small', CONFIG, 'cpu', seed=1)


def test_every_frame_with_a_future_starts_a_window(windows):
    """40 frames per episode: the last 15 start no window; blocks hold the recorded commands."""
    assert len(windows.frames) == 8 * 25
    assert (np.diff(windows.frames, axis=1) == 5).all()
    assert np.abs(windows.blocks).max() <= 1 and windows.blocks.std() > 0.2
    assert windows.camera_period == pytest.approx(0.05)


def test_the_cache_is_read_the_second_time(bag, tmp_path, reacher_contract):
    """Equal content and settings reuse the cached folder; other settings use another folder."""
    first = load_windows([bag], reacher_contract, 64, 3, 5, tmp_path)
    (images,) = tmp_path.glob('*/images.u8')
    built = images.stat().st_mtime_ns
    again = load_windows([bag], reacher_contract, 64, 3, 5, tmp_path)
    assert images.stat().st_mtime_ns == built
    assert np.array_equal(first.images[first.frames], again.images[again.frames])
    load_windows([bag], reacher_contract, 32, 3, 5, tmp_path)
    assert len(list(tmp_path.glob('*/images.u8'))) == 2


def test_nothing_usable_is_said_with_the_reason(bag, tmp_path, reacher_contract):
    """A history longer than the episodes leaves no window."""
    with pytest.raises(BagError, match='no usable window.*320 frames read'):
        load_windows([bag], reacher_contract, 64, 30, 5, tmp_path)


def test_held_out_episodes_are_whole(windows):
    """No episode is in both the training set and the held-out set."""
    train, held_out = windows.split(0.2, seed=0)
    assert not set(windows.episodes[train]) & set(windows.episodes[held_out])
    assert len(train) + len(held_out) == len(windows.frames)
    assert len(set(windows.episodes[held_out])) == 2


def test_batches_continue_where_they_stopped():
    """Batch i depends only on the seed and i, also across epochs."""
    source = batches(np.arange(20), 6, seed=4)
    whole = [next(source) for _ in range(8)]
    resumed = batches(np.arange(20), 6, seed=4, start=5)
    for expected in whole[5:]:
        assert np.array_equal(next(resumed), expected)
    assert not np.array_equal(whole[0], whole[3])  # a new order each epoch


def test_images_of_another_size_are_trained_on(bag, tmp_path, reacher_contract):
    """The encoder adapts to the image size; an unsupported size is named."""
    config = replace(CONFIG, image_size=96)
    windows = load_windows([bag], reacher_contract, 96, 3, 5, tmp_path)
    trainer = Trainer(windows, reacher_contract, 'small', config, 'cpu', seed=1)
    assert trainer.model.config.image_size == 96
    list(trainer.run(1))
    with pytest.raises(ModelError, match='image_size is 90: expected a multiple of 16'):
        replace(config, image_size=90).model('small', 2)


def test_training_lowers_the_losses_and_keeps_the_latents_alive(trainer):
    """A short run halves the prediction loss and keeps the latents from collapsing."""
    first, *_ = trainer.losses(*trainer.batch(trainer.train[:64]))
    trainer.config = replace(CONFIG, steps=60, batch=16)
    rows = list(trainer.run(60))
    figures, _ = trainer.validate()
    assert figures['validation_prediction'] < first.item() / 2
    assert rows[-1]['regulariser'] < 10
    assert figures['validation_latent_std'] > 0.4


def test_pldm_lowers_its_losses_too(windows, reacher_contract):
    """The sum of its seven terms falls, and the latents spread."""
    torch.set_num_threads(1)
    config = replace(PLDM, steps=20, batch=16, lr=2e-3)
    trainer = Trainer(windows, reacher_contract, 'small', config, 'cpu', seed=1)
    batch, totals, stds = trainer.batch(trainer.train[:32]), [], []
    for until in (0, 20):
        list(trainer.run(until))
        with torch.no_grad():
            prediction, regulariser, z = trainer.losses(*batch)
        totals.append((prediction + regulariser).item())
        stds.append(latent_std(z.flatten(0, 1).numpy()))
    assert totals[1] < 0.75 * totals[0]
    assert stds[1] > 2 * stds[0]


@pytest.mark.parametrize('config', [CONFIG, replace(CONFIG, colour_jitter=1.0), PLDM])
def test_a_resumed_run_equals_an_uninterrupted_one(windows, reacher_contract, tmp_path, config):
    """Same weights to 1e-6 after 24 steps, whether or not it was stopped at 10."""
    torch.set_num_threads(1)
    trainer = Trainer(windows, reacher_contract, 'small', config, 'cpu', seed=1)
    list(trainer.run(10))
    trainer.save(tmp_path / 'checkpoint.pt')
    list(trainer.run(24))
    other = Trainer(windows, reacher_contract, 'small', config, 'cpu', seed=1)
    torch.manual_seed(99)  # whatever happened in between
    other.load(tmp_path / 'checkpoint.pt')
    assert other.step == 10
    list(other.run(24))
    for part in ('model', 'objective'):
        found = getattr(other, part).state_dict()
        for name, value in getattr(trainer, part).state_dict().items():
            torch.testing.assert_close(found[name], value, atol=1e-6, rtol=0)


def test_colours_are_jittered_in_training_and_nowhere_else(trainer, monkeypatch):
    """Training batches are jittered; the held-out losses use the recorded colours."""
    seen = []
    monkeypatch.setattr(trainer, 'losses', lambda pixels, actions: seen.append(pixels) or 1 / 0)
    for jitter in (0.0, 1.0):
        trainer.config = replace(CONFIG, colour_jitter=jitter)
        with pytest.raises(ZeroDivisionError):
            next(trainer.run(1))
    assert not torch.allclose(seen[0], seen[1], atol=0.1)
    plain, _ = trainer.batch(next(batches(trainer.train, CONFIG.batch, trainer.seed)))
    assert torch.equal(seen[0], plain)
    figures = []
    for jitter in (0.0, 1.0):
        trainer.config = replace(CONFIG, colour_jitter=jitter)
        figures.append(trainer.validate()[0])
    assert figures[0] == figures[1]


def test_a_checkpoint_of_other_settings_is_refused(trainer, windows, reacher_contract, tmp_path):
    """The message names the setting and both values."""
    trainer.save(tmp_path / 'checkpoint.pt')
    other = Trainer(windows, reacher_contract, 'small', CONFIG, 'cpu', seed=2)
    with pytest.raises(ModelError, match='seed 1, this run has 2'):
        other.load(tmp_path / 'checkpoint.pt')


def test_a_checkpoint_from_before_processes_were_counted_is_continued(trainer, tmp_path):
    """A checkpoint without a process count counts as one of a single process."""
    path = tmp_path / 'checkpoint.pt'
    trainer.save(path)
    state = torch.load(path, weights_only=True)
    settings = json.loads(state['settings'])
    assert settings.pop('processes') == 1
    torch.save(state | {'settings': json.dumps(settings), 'step': 7}, path)
    trainer.load(path)
    assert trainer.step == 7


def test_a_disk_full_at_a_checkpoint_names_it_and_keeps_the_last(trainer, tmp_path, disk_of):
    """The error names the file, the last checkpoint is kept, and no partial file remains.

    The cause used to be lost in two tracebacks.
    """
    path = tmp_path / 'checkpoint.pt'
    trainer.save(path)
    before = path.read_bytes()
    disk_of(100_000)
    with pytest.raises(OSError, match='File too large') as caught:
        trainer.save(path)
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_that_is_none_is_refused(trainer, tmp_path):
    """A truncated file, other contents, and a pickle that would run code are refused."""

    class Trap:
        def __reduce__(self) -> tuple:
            return open, (str(tmp_path / 'sprung'), 'w')

    path = tmp_path / 'checkpoint.pt'
    trainer.save(path)
    whole = path.read_bytes()
    for write in (
        lambda: path.write_bytes(whole[: len(whole) // 2]),
        lambda: torch.save([1], path),
        lambda: torch.save({'settings': '{}', 'trap': Trap()}, path),
    ):
        write()
        with pytest.raises(ModelError, match='checkpoint.pt: cannot be read'):
            trainer.load(path)
    assert not (tmp_path / 'sprung').exists()


def test_collapse_stops_the_run(trainer):
    """An encoder that maps everything to one point is detected at step 250."""
    trainer.step = 249
    with torch.no_grad():
        trainer.model.projector.net[-1].weight.zero_()
    trainer.config = replace(CONFIG, lr=1e-12)
    with pytest.raises(ModelError, match='collapsed at step 250.*expected near 1'):
        list(trainer.run(250))


def test_a_loss_that_is_not_finite_stops_the_run(trainer):
    """The message names the first such step, though several are checked together."""
    steps = iter(range(10))
    update = trainer.update

    def poisoned(*batch):
        if next(steps) == 3:
            with torch.no_grad():
                trainer.model.predictor.pos_embedding.fill_(float('nan'))
        return update(*batch)

    trainer.update = poisoned
    rows = trainer.run(6)
    with pytest.raises(ModelError, match='the loss is nan at step 4 .*lower the learning rate'):
        next(rows)


def test_a_command_that_never_changes_is_refused(windows, reacher_contract):
    """It cannot be normalised, and nothing could be learnt about it."""
    blocks = windows.blocks.reshape(*windows.blocks.shape[:2], 5, 2).copy()
    blocks[..., 1] = 0.3
    still = replace(windows, blocks=blocks.reshape(windows.blocks.shape))
    with pytest.raises(ModelError, match='action elbow has standard deviation 0'):
        Trainer(still, reacher_contract, 'small', CONFIG, 'cpu', seed=0)


def test_batchnorm_statistics_are_estimated_anew(trainer):
    """Wrong running statistics are replaced, and the weights are unchanged."""
    list(trainer.run(2))
    norm = trainer.model.projector.net[1]
    weights = norm.weight.clone()
    norm.running_mean.fill_(1000.0)
    convolution, first, *_ = trainer.model.encoder
    first.running_mean.fill_(1000.0)
    batch = trainer.batch(trainer.train[:64])
    reestimate_batchnorm(trainer.model, [batch])
    planes = convolution(batch[0].flatten(0, 1))
    torch.testing.assert_close(first.running_mean, planes.mean(dim=(0, 2, 3)), atol=1e-4, rtol=0)
    features = trainer.model.encoder(batch[0][:, :-1].flatten(0, 1))
    hidden = trainer.model.projector.net[0](features)
    # The encoder sees all frames of the batch, one more than the predictor.
    everything = trainer.model.projector.net[0](trainer.model.encoder(batch[0].flatten(0, 1)))
    assert hidden.shape[0] == 64 * 3
    torch.testing.assert_close(norm.running_mean, everything.mean(dim=0), atol=1e-3, rtol=1e-2)
    assert torch.equal(norm.weight, weights) and norm.momentum == 0.1


def test_health_metrics_tell_alive_from_collapsed(monkeypatch):
    """Effective rank, std, straightness and both probes match known cases."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 16, generator=generator).numpy()
    assert effective_rank(z) == pytest.approx(16, rel=0.05)
    assert effective_rank(z[:, :1] @ np.ones((1, 16))) == pytest.approx(1, abs=0.01)
    assert latent_std(0.3 * z) == pytest.approx(0.3, rel=0.05)
    assert straightness(np.arange(4)[None, :, None] * z[:100, None]) == pytest.approx(1)
    assert straightness(z[:3999].reshape(-1, 3, 16)) == pytest.approx(-0.5, abs=0.05)
    noise = torch.randn(4000, generator=generator).numpy()
    target = np.stack([z[:, 0] - 2 * z[:, 3], np.sin(2 * z[:, 1]), noise], axis=1)
    halves = z[:2000], target[:2000], z[2000:], target[2000:]
    monkeypatch.setattr(probe, 'STEPS', 500)
    linear, mlp = linear_probe(*halves), mlp_probe(*halves)
    assert linear[0] > 0.99 and linear[1] < 0.5 and linear[2] < 0.05
    assert mlp[0] > 0.97 and mlp[1] > 0.8 and mlp[2] < 0.05


def test_the_command_line_trains_and_writes_a_bundle(bag, tmp_path, monkeypatch, exports):
    """It writes metrics, a decoder and a loadable bundle; an existing run folder needs --resume."""
    # Exporting is what takes the time: longer rollouts have their own tests, and the same weights
    # are exported once.
    monkeypatch.setattr(training, 'HORIZON', 1)
    monkeypatch.setattr(export, 'export_graphs', kept_in(exports, weights=True))
    out, folder = tmp_path / 'bundle', tmp_path / 'runs' / 'one'
    args = ['train', '--data', bag, '--contract', 'reacher', '--device', 'cpu']
    args += ['--out', out, '--run', folder, '--steps', 8]
    assert lewm(*args, '--threads', 1, '--lr', 0.0003)[0] == 0
    bundle = Bundle.load(out)
    assert bundle.manifest.provenance['data'][0].startswith('lewm collect reacher')
    assert bundle.manifest.provenance['metrics']['step'] == 8
    assert bundle.manifest.provenance['config']['lr'] == 0.0003
    with open(folder / 'metrics.csv') as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]['validation_prediction']) > 0
    assert bundle.manifest.decoder.model_hash == bundle.hash
    ours, reference = (load_engine(bundle, name) for name in ('onnxruntime', 'reference'))
    image = np.full((64, 64, 3), 100, np.uint8)
    np.testing.assert_allclose(ours.encode(image), reference.encode(image), atol=1e-4)
    # Rewritten without a decoder, the bundle keeps no old one.
    assert lewm(*args, '--threads', 1, '--lr', 0.0003, '--resume', '--no-decoder')[0] == 0
    assert Bundle.load(out).manifest.decoder is None
    assert not (out / DECODER).exists()

    status, _, error = lewm(*args)
    assert status == 2 and '--resume' in error
    assert error.strip().splitlines()[-1].startswith('lewm: error:')


def test_bad_input_is_one_line_and_nothing_is_written(tmp_path):
    """A missing bag, settings out of range and a missing bundle are refused with status 2."""
    train = ('train', '--data', tmp_path / 'none', '--out', tmp_path / 'b', '--run', tmp_path / 'r')
    status, _, error = lewm(*train, '--contract', 'reacher')
    assert status == 2 and 'no such file or folder' in error.splitlines()[-1]
    assert not (tmp_path / 'b').exists()
    wrong = [('colour-jitter', '-1', '0 or more'), ('colour-jitter', 'nan', '0 or more')]
    wrong += [('lr', value, 'more than 0') for value in ('0', 'inf', 'nan')]
    for option, value, expected in wrong:
        status, _, error = lewm(*train, '--contract', 'reacher', f'--{option}={value}')
        assert status == 2
        assert f'{option.replace("-", "_")} is' in error and f'expected {expected}' in error
    status, _, error = lewm(*train)
    assert status == 2 and 'required: --contract' in error
    status, _, error = lewm('evaluate', tmp_path / 'nothing')
    assert status == 2 and len(error.splitlines()) == 1


def test_evaluate_and_calibrate_work_on_a_fresh_bundle(bag, tiny_bundle, tmp_path, monkeypatch):
    """Metrics are JSON, thresholds are stored in the manifest; too little data is refused."""
    path = tmp_path / 'tiny'
    shutil.copytree(tiny_bundle.path, path)
    status, out, _ = lewm('evaluate', path, '--goals', 1, '--seconds', 1, '--json')
    assert status == 0
    figures = json.loads(out)
    assert figures['planner']['episodes'] == figures['random']['episodes'] == 1
    monkeypatch.setattr(probe, 'STEPS', 50)
    status, out, _ = lewm('evaluate', path, '--probe', bag, '--json')
    assert status == 0
    fields = list(tiny_bundle.contract.state.fields)
    assert set(json.loads(out)['probe_r2']) == set(fields)

    def still(*args):
        for episode in read_bags(*args):
            episode.states[:, 1] = 0.5
            yield episode

    def short(*args):
        *others, last = still(*args)
        one = {key: getattr(last, key)[:1] for key in ('stamps', 'images', 'states')}
        yield from (*others, replace(last, **one))

    monkeypatch.setattr(probe, 'read_bags', short)
    status, out, _ = lewm('evaluate', path, '--probe', bag, '--json')
    assert status == 0 and 'NaN' not in out
    status, _, error = lewm('evaluate', path, '--probe', bag, '--preset', 'paper')
    assert status == 2 and '--preset only has a meaning' in error
    monkeypatch.setattr(probe, 'read_bags', still)
    status, out, _ = lewm('evaluate', path, '--probe', bag, '--json')
    assert status == 0 and 'NaN' not in out
    assert list(json.loads(out)['probe_r2']) == [fields[0], *fields[2:]]  # constant: left out
    calibrate = ('calibrate', path, '--data', bag, '--window', 1, '--alpha')
    assert lewm(*calibrate, 0.25, '--json')[0] == 0
    bundle = Bundle.load(path)
    assert bundle.calibration_for(0.25).threshold > 0
    assert bundle.hash == tiny_bundle.hash  # a threshold does not change the model
    before = (path / 'manifest.json').read_bytes()
    status, _, error = lewm(*calibrate, 0.01)
    assert status == 2 and 'expected at least 99' in error
    assert (path / 'manifest.json').read_bytes() == before


@pytest.mark.parametrize(
    ('option', 'value', 'says'),
    [
        ('--episodes', 0, '--episodes is 0: expected more than 0'),
        ('--image-size', 5000, 'image size is 5000x5000 px: expected 1x1 to 1280x1280'),
        ('--image-size', '640x', "invalid image_size value: '640x'"),
        ('--seed', -1, '--seed is -1: expected 0 or more'),
        ('--camera-rate', 300, '--camera-rate is 300 Hz: expected at most 200'),
    ],
)
def test_a_collection_that_cannot_be_is_refused(tmp_path, option, value, says):
    """The error names the option, and no bag is written."""
    status, _, error = lewm('collect', 'reacher', '--out', tmp_path / 'bag', option, value)
    assert status == 2 and says in error.splitlines()[-1]
    assert not (tmp_path / 'bag').exists()
