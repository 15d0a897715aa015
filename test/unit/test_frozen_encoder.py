# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A predictor trained on the latents of an encoder from an ONNX file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
import shutil
from typing import Any

from command_line import lewm
from networks import tiny_config
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
import onnxruntime
import pytest
from safetensors.torch import load, save
import torch
import yaml

from lewm_ros.bags.hashes import bag_hashes
from lewm_ros.bundle import ENCODER, ROLLOUT, WEIGHTS, Bundle, rewrite_manifest, write_bundle
from lewm_ros.engines import load_engine
from lewm_ros.errors import ModelError
from lewm_ros.evaluation.bags import read_marked
from lewm_ros.files import find
from lewm_ros.model import ARCHITECTURES
from lewm_ros.robot.imaging import normalise
from lewm_ros.training import trainer as training
from lewm_ros.training.config import CONFIGS, TrainConfig
from lewm_ros.training.export import export_bundle
from lewm_ros.training.frozen import BundleEncoder, FrozenEncoder
from lewm_ros.training.run_folder import RunFolder
from lewm_ros.training.train import learn
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import Windows, load_windows

SIZE, POOL, LATENT = 32, 4, 8
CONFIG = TrainConfig(batch=8, steps=24, lr=2e-3, num_projections=32, held_out=0.2)


def write_encoder(
    path: Path,
    count: int | str = 'N',
    channels: int = 3,
    vectors: int = LATENT,
    flat: bool = True,
    scale: float = 50.0,
) -> Path:
    """Write an encoder of features far from N(0, 1): pooled images times a random matrix."""
    features = channels * (SIZE // POOL) ** 2
    rng = np.random.default_rng(0)
    weights = (scale * rng.normal(size=(features, vectors)) / features).astype(np.float32)
    shape: list[int | str] = [count, channels, SIZE, SIZE]
    nodes = [
        helper.make_node('AveragePool', ['x'], ['p'], kernel_shape=[POOL] * 2, strides=[POOL] * 2),
        helper.make_node('Flatten', ['p'], ['f']),
        helper.make_node('MatMul', ['f', 'w'], ['m']),
        helper.make_node('Add', ['m', 'b'], ['y' if flat else 'a']),
    ]
    if not flat:
        nodes.append(helper.make_node('Unsqueeze', ['a', 'axes'], ['y']))
    graph = helper.make_graph(
        nodes,
        'encoder',
        [helper.make_tensor_value_info('x', TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info('y', TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(weights, 'w'),
            numpy_helper.from_array(np.full(vectors, 30, np.float32), 'b'),
            *([] if flat else [numpy_helper.from_array(np.array([1]), 'axes')]),
        ],
    )
    opsets = [helper.make_opsetid('', 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


@pytest.fixture(scope='module')
def bag(tmp_path_factory) -> Path:
    """Return a bag of eight short simulated episodes."""
    path = tmp_path_factory.mktemp('data') / 'bag'
    assert lewm('collect', 'reacher', '--out', path, '--episodes', 8, '--seconds', 2)[0] == 0
    return path


@pytest.fixture(scope='module')
def cache(tmp_path_factory) -> Path:
    """Return a folder for cached images and latents."""
    return tmp_path_factory.mktemp('cache')


@pytest.fixture(scope='module')
def encoder(tmp_path_factory) -> FrozenEncoder:
    """Return an encoder that takes any number of images."""
    return FrozenEncoder(write_encoder(tmp_path_factory.mktemp('encoder') / 'any.onnx'))


@pytest.fixture(scope='module')
def plain(bag, cache, reacher_contract) -> Windows:
    """Return the windows of that bag, with its images."""
    return load_windows([bag], reacher_contract, SIZE, 3, 5, cache)


@pytest.fixture
def make_trainer(plain, cache, encoder, reacher_contract, monkeypatch) -> Callable[..., Trainer]:
    """Return a function that makes a trainer of a very small network, on one thread."""
    monkeypatch.setitem(ARCHITECTURES, 'small', tiny_config)
    torch.set_num_threads(1)

    def make(config: TrainConfig = CONFIG, frozen: FrozenEncoder = encoder) -> Trainer:
        windows = frozen.encoded(plain, cache)
        return Trainer(windows, reacher_contract, 'small', config, 'cpu', 1, frozen)

    return make


def test_each_frame_is_encoded_once_as_the_file_does(plain, cache, encoder, tmp_path):
    """Each frame is encoded once, by the file's own graph, and then read from the cache.

    An encoder that takes one image at a time gives equal latents under its own cache name.
    """
    encoded = encoder.encoded(plain, cache)
    session = onnxruntime.InferenceSession(encoder.path)
    images = plain.images[np.arange(70)]
    expected = session.run(None, {'x': normalise(images)})[0]
    np.testing.assert_allclose(encoded.images[np.arange(70)], expected, rtol=1e-5)
    (file,) = cache.glob('*/latents-*.f32')
    written = file.stat().st_mtime_ns
    again = encoder.encoded(plain, cache)
    assert file.stat().st_mtime_ns == written
    assert len(again.images) == len(plain.images)
    single = FrozenEncoder(write_encoder(tmp_path / 'single.onnx', count=1)).encoded(plain, cache)
    np.testing.assert_allclose(single.images[np.arange(70)], expected, rtol=1e-5)
    assert len(list(cache.glob('*/latents-*.f32'))) == 2


def test_latents_are_standardised_by_one_factor(make_trainer):
    """Latents are standardised to mean 0 and standard deviation 1; distances keep their ratios."""
    trainer = make_trainer()
    z, _ = trainer.batch(trainer.train)
    flat = z.flatten(0, 1).numpy()
    raw = trainer.windows.images[trainer.windows.frames[trainer.train].ravel()]
    assert np.abs(raw.mean(axis=0)).min() > 10  # far from what a network expects
    assert np.abs(flat.mean(axis=0)).max() < 0.1
    assert np.sqrt(flat.var(axis=0).mean()) == pytest.approx(1, rel=0.05)
    ratio = np.linalg.norm(raw[1:] - raw[0], axis=1) / np.linalg.norm(flat[1:] - flat[0], axis=1)
    assert np.nanmax(ratio) == pytest.approx(np.nanmin(ratio), rel=1e-3)


def test_only_the_predictor_learns(make_trainer):
    """Only the predictor learns, without a regulariser, and soon beats copying the last latent."""
    trainer = make_trainer(replace(CONFIG, steps=150))
    assert not any(name.startswith(('encoder', 'projector')) for name in trainer.model.state_dict())
    before, actions = trainer.batch(trainer.train)
    rows = list(trainer.run(150))
    assert rows[-1]['regulariser'] == 0
    trainer.validate()
    z, _ = trainer.batch(trainer.train)
    assert torch.equal(z, before)
    with torch.no_grad():
        prediction, _, latents = trainer.losses(z, actions)
    assert torch.equal(latents, z)
    assert prediction < 0.8 * (z[:, 1:] - z[:, :-1]).square().mean()


def test_a_resumed_run_is_exact_and_another_encoder_refused(make_trainer, tmp_path):
    """A resumed run reaches the same weights; resuming with another encoder is rejected."""
    trainer = make_trainer()
    list(trainer.run(10))
    trainer.save(tmp_path / 'checkpoint.pt')
    list(trainer.run(24))
    other = make_trainer()
    other.load(tmp_path / 'checkpoint.pt')
    list(other.run(24))
    for name, value in trainer.model.state_dict().items():
        torch.testing.assert_close(other.model.state_dict()[name], value, atol=1e-6, rtol=0)
    another = FrozenEncoder(write_encoder(tmp_path / 'another.onnx', scale=60))
    with pytest.raises(ModelError, match='was made with frozen_encoder [0-9a-f]{64}, this run'):
        make_trainer(frozen=another).load(tmp_path / 'checkpoint.pt')


def test_the_bundle_runs_in_every_engine(tiny_bundle, encoder, tmp_path):
    """Every engine encodes as the frozen encoder does and rolls out as the bundle does."""
    mean, std = np.arange(LATENT, dtype=np.float32), np.float32(3)
    architecture = {**tiny_bundle.manifest.architecture, 'encoder': 'onnx'}
    manifest = replace(tiny_bundle.manifest, architecture=architecture, files={}, calibration=())
    weights = load(tiny_bundle.read(WEIGHTS))
    kept = {k: v for k, v in weights.items() if not k.startswith(('encoder.', 'projector.'))}
    files = {
        WEIGHTS: save(kept),
        ENCODER: encoder.graph(mean, std),
        ROLLOUT: tiny_bundle.read(ROLLOUT),
    }
    bundle = write_bundle(tmp_path / 'frozen', manifest, files)
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    session = onnxruntime.InferenceSession(encoder.path)
    expected = (session.run(None, {'x': normalise(image)[None]})[0][0] - mean) / std
    rng = np.random.default_rng(1)
    context, past, plans = (
        rng.normal(size=shape).astype(np.float32) for shape in ((3, LATENT), (2, 10), (4, 6, 10))
    )
    rolled = load_engine(tiny_bundle).rollout(context, past, plans)
    for name in ('onnxruntime', 'openvino', 'torch', 'reference'):
        if name == 'openvino':
            pytest.importorskip('openvino')
        engine = load_engine(bundle, name)
        np.testing.assert_allclose(engine.encode(image), expected, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(engine.rollout(context, past, plans), rolled, atol=1e-4)
    weights = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in onnx.load_from_string(bundle.read(ENCODER)).graph.initializer
    }
    for tensor in onnx.load(encoder.path).graph.initializer:
        assert np.array_equal(weights[f'frozen/{tensor.name}'], numpy_helper.to_array(tensor))


def test_a_bundles_own_encoder_serves(tiny_bundle):
    """A bundle's own encoder can be used as a frozen encoder."""
    encoder = FrozenEncoder(tiny_bundle.path / ENCODER)
    assert (encoder.image_size, encoder.latent_size) == (SIZE, LATENT)


def test_the_command_trains_and_writes_a_bundle(bag, encoder, tmp_path, monkeypatch):
    """The command trains with the encoder, stores its hash, and its graphs can be re-exported."""
    monkeypatch.setattr(training, 'HORIZON', 1)
    monkeypatch.setitem(ARCHITECTURES, 'small', tiny_config)
    monkeypatch.setitem(CONFIGS, 'small', CONFIG)
    args = ['train', '--data', bag, '--contract', 'reacher', '--device', 'cpu', '--threads', 1]
    args += ['--out', tmp_path / 'bundle', '--run', tmp_path / 'run', '--no-decoder']
    args += ['--frozen-encoder', encoder.path]
    for more, says in (
        (('--objective', 'pldm'), 'not allowed with argument'),
        (('--image-size', 64), f'image_size is 64: encoder {encoder.path} reads 32 px'),
        (('--colour-jitter', 1), 'colour_jitter is 1.0: expected 0 with a frozen encoder'),
    ):
        status, _, error = lewm(*args, *more)
        assert status == 2 and says in error
    status, _, error = lewm(*args, '--steps', 4)
    assert status == 0, error
    bundle = Bundle.load(tmp_path / 'bundle')
    assert bundle.manifest.provenance['frozen_encoder'] == encoder.sha256
    assert bundle.manifest.provenance['config']['objective'] == 'prediction'
    assert (tmp_path / 'run' / 'curves.png').stat().st_size > 10_000
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    latent = load_engine(bundle).encode(image)
    np.testing.assert_allclose(load_engine(bundle, 'torch').encode(image), latent, atol=1e-5)
    again = export_bundle(bundle)
    np.testing.assert_allclose(load_engine(again).encode(image), latent, atol=1e-5)


def test_a_bundle_keeps_its_encoder_and_its_weights(bag, tiny_bundle, tmp_path, monkeypatch):
    """With a bundle as the encoder, the new bundle has its encoder, latents and weights.

    A bundle of another architecture is rejected; dropout, which only training has, may differ.
    """
    monkeypatch.setattr(training, 'HORIZON', 1)
    monkeypatch.setitem(CONFIGS, 'small', CONFIG)
    args = ['train', '--data', bag, '--contract', 'reacher', '--device', 'cpu', '--threads', 1]
    args += ['--run', tmp_path / 'run', '--no-decoder', '--steps', 4]
    args += ['--frozen-encoder', tiny_bundle.path, '--out', tmp_path / 'bundle']
    status, _, error = lewm(*args)
    path = tiny_bundle.path / ENCODER
    assert status == 2
    assert f'encoder {path}: the architecture of its bundle is not that of model small' in error
    monkeypatch.setitem(ARCHITECTURES, 'small', partial(tiny_config, dropout=0.5))
    status, _, error = lewm(*args)
    assert status == 0, error
    bundle = Bundle.load(tmp_path / 'bundle')
    assert bundle.manifest.architecture == tiny_bundle.manifest.architecture | {'dropout': 0.5}
    assert bundle.read(ENCODER) == tiny_bundle.read(ENCODER)
    before, after = (load(b.read(WEIGHTS)) for b in (tiny_bundle, bundle))
    assert before.keys() == after.keys()
    for name, tensor in before.items():
        kept = name.startswith(('encoder.', 'projector.'))
        assert torch.equal(after[name], tensor) == kept or tensor.dtype == torch.int64, name
        if not kept and tensor.is_floating_point() and 'running' not in name:
            # It began as the bundle's predictor: four steps change it little.
            assert (after[name] - tensor).abs().max() < 0.01, name
    image = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    latent = load_engine(tiny_bundle).encode(image)
    assert np.array_equal(load_engine(bundle).encode(image), latent)
    np.testing.assert_allclose(load_engine(bundle, 'torch').encode(image), latent, atol=1e-5)
    assert bundle.manifest.roadmap is not None
    (used,) = bundle.manifest.provenance['bags']
    made = bundle.manifest.provenance
    assert (made['encoder_bags'], made['encoder']) == ([], {})  # a random model has none
    again = BundleEncoder(bundle).provenance
    assert again['encoder_bags'] == [{k: used[k] for k in ('name', 'sha256', 'held_out_episodes')}]
    assert again['encoder'] == {k: made[k] for k in ('command', 'config', 'minutes')}


def test_a_training_ends_with_the_predictor_alone(bag, tmp_path, monkeypatch, caplog):
    """The encoder stays that of the joint training, whose settings are kept; a resume is exact.

    The camera is cropped, so all images have to be of one size.
    """
    cropped = yaml.safe_load(find('contract', 'reacher').read_text())
    cropped['camera']['crop'] = [0, 0, 32, 32]
    (tmp_path / 'cropped.yaml').write_text(yaml.safe_dump(cropped))
    monkeypatch.setattr(training, 'HORIZON', 1)
    monkeypatch.setitem(CONFIGS, 'small', replace(CONFIG, refine=True))
    monkeypatch.setitem(ARCHITECTURES, 'small', tiny_config)
    run, out = tmp_path / 'run', tmp_path / 'bundle'
    args = ['train', '--data', bag, '--contract', tmp_path / 'cropped.yaml', '--device', 'cpu']
    args += ['--threads', 1, '--run', run, '--no-decoder', '--no-roadmap', '--steps', 6]
    args += ['--colour-jitter', 1]
    status, _, error = lewm(*args, '--out', tmp_path)
    assert status == 2 and 'exists and is not a bundle' in error
    status, _, error = lewm(*args, '--out', run)
    assert status == 2 and f'run folder {run} lies in bundle {run}' in error
    status, _, error = lewm(*args, '--out', out)
    assert status == 0, error
    caches = sorted(p for p in tmp_path.rglob('*') if p.name == 'cache')
    joint, refined = Bundle.load(run / 'bundle'), Bundle.load(out)
    before, after = (load(b.read(WEIGHTS)) for b in (joint, refined))
    for name, tensor in before.items():
        kept = name.startswith(('encoder.', 'projector.'))
        assert torch.equal(after[name], tensor) == kept or tensor.dtype == torch.int64, name
    made = refined.manifest.provenance
    assert made['encoder']['config']['colour_jitter'] == 1 and made['config']['colour_jitter'] == 0
    assert made['bags'][0]['held_out_episodes'] == made['encoder_bags'][0]['held_out_episodes']
    assert (run / 'predictor' / 'curves.png').is_file()
    assert made['encoder']['config']['refine'] and not made['config']['refine']
    # A resume of the predictor keeps the encoder, which other threads would round otherwise.
    learned = []

    def noted(trainer: Trainer, folder: RunFolder, *rest: Any) -> list[dict[str, float]]:
        learned.append(folder.path)
        return learn(trainer, folder, *rest)

    monkeypatch.setattr('lewm_ros.training.train.learn', noted)
    status, _, error = lewm(*args, '--out', out, '--resume')
    assert status == 0 and learned == [run / 'predictor'], error
    assert sorted(p for p in tmp_path.rglob('*') if p.name == 'cache') == caches
    for name, tensor in load(Bundle.load(out).read(WEIGHTS)).items():
        assert torch.equal(after[name], tensor), name
    shutil.rmtree(run)

    def fails(*args: object) -> None:
        raise ModelError('no engine for it')

    monkeypatch.setattr('lewm_ros.training.train.load_encoder', fails)
    status, _, error = lewm(*args, '--out', out)
    assert status == 0 and 'not trained alone: no engine for it' in caplog.text, error
    assert 'encoder' not in Bundle.load(out).manifest.provenance


def test_an_encoder_for_other_images_is_refused(bag, tiny_bundle, tmp_path):
    """The crop of the camera is that of the encoder's own training."""
    contract = tiny_bundle.contract.to_dict()
    contract['camera']['crop'] = [0, 0, 16, 16]
    path = tmp_path / 'cropped.yaml'
    path.write_text(yaml.safe_dump(contract))
    args = ['train', '--data', bag, '--contract', path, '--out', tmp_path / 'bundle']
    status, _, error = lewm(*args, '--frozen-encoder', tiny_bundle.path)
    assert status == 2 and 'camera.crop is [0, 0, 16, 16] in the contract but null' in error


def test_an_encoder_for_another_view_is_refused(bag, tiny_bundle, tmp_path, monkeypatch):
    """It would see squashed images, and the new bundle would call them its own."""
    monkeypatch.setitem(CONFIGS, 'small', CONFIG)
    monkeypatch.setitem(ARCHITECTURES, 'small', tiny_config)
    shutil.copytree(tiny_bundle.path, tmp_path / 'wide')
    rewrite_manifest(tmp_path / 'wide', replace(tiny_bundle.manifest, camera_size=(640, 480)))
    args = ['train', '--data', bag, '--contract', 'reacher', '--out', tmp_path / 'bundle']
    status, _, error = lewm(*args, '--run', tmp_path / 'run', '--frozen-encoder', tmp_path / 'wide')
    said = "those of the encoder's training data were 640x480: expected the same aspect ratio"
    assert status == 2 and said in error


def test_episodes_that_the_encoder_knows_are_not_fresh(bag, tiny_bundle):
    """Held out counts only what neither the predictor nor its encoder was trained on."""
    used = {'sha256': bag_hashes(bag)}
    provenance = {
        'bags': [used | {'held_out_episodes': [0, 1]}],
        'encoder_bags': [used | {'held_out_episodes': [1, 2]}],
    }
    bundle = Bundle(tiny_bundle.path, replace(tiny_bundle.manifest, provenance=provenance))
    assert [fresh for _, fresh in read_marked(bundle, [bag])][:4] == [False, True, False, False]


def test_a_weight_of_sigreg_is_refused_where_there_is_none(bag, tiny_bundle, tmp_path, monkeypatch):
    """It would have no effect with a frozen encoder, or with the terms of PLDM."""
    monkeypatch.setitem(ARCHITECTURES, 'small', tiny_config)
    args = ['train', '--data', bag, '--contract', 'reacher', '--out', tmp_path / 'bundle']
    for option in (('--objective', 'pldm'), ('--frozen-encoder', tiny_bundle.path)):
        status, _, error = lewm(*args, *option, '--sigreg-weight', 0.5)
        assert status == 2 and 'sigreg_weight is 0.5: there is no SIGReg' in error


@pytest.mark.parametrize(
    ('wrong', 'says'),
    [
        ({'channels': 1}, r"reads tensor\(float\) \['N', 1, 32, 32\]: expected .*\[N, 3, S, S\]"),
        ({'count': 8}, r'reads tensor\(float\) \[8, 3, 32, 32\]: expected .*N of any size or 1'),
        ({'flat': False}, r'gives float32 \[1, 1, 8\] for one image: expected one vector'),
    ],
)
def test_encoders_of_other_shapes_are_refused(tmp_path, wrong, says):
    """An encoder of another shape is rejected with the file, its shapes and the expected ones."""
    path = write_encoder(tmp_path / 'wrong.onnx', **wrong)
    with pytest.raises(ModelError, match=f'encoder {path} {says}'):
        FrozenEncoder(path)


def test_files_that_are_no_encoder_are_refused(tiny_bundle, plain, cache, tmp_path):
    """A file that is no graph, a rollout, or blind to its input is rejected as an encoder."""
    path = tmp_path / 'none.onnx'
    path.write_bytes(b'no graph')
    with pytest.raises(ModelError, match=f'encoder {path} is not an ONNX graph'):
        FrozenEncoder(path)
    with pytest.raises(ModelError, match=r"has inputs \['context', .* expected one of each"):
        FrozenEncoder(tiny_bundle.path / ROLLOUT)
    blind = FrozenEncoder(write_encoder(tmp_path / 'blind.onnx', scale=0))
    with pytest.raises(ModelError, match='blind.onnx gives the same vector for all images'):
        blind.statistics(blind.encoded(plain, cache), np.arange(8))
