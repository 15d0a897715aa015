# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Decoders: training on simulated frames, storage in a bundle, and images for people."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import shutil

import numpy as np
import pytest

from lewm_ros import cli
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.bundle import CARD, DECODER, ROADMAP, Bundle, write_bundle
from lewm_ros.bundle.manifest import FILES
from lewm_ros.bundle.roadmap_file import read_roadmap
from lewm_ros.engines import load_engine
from lewm_ros.engines.decoder import Decoder
from lewm_ros.errors import ModelError
from lewm_ros.files import find
from lewm_ros.sim import make_task
from lewm_ros.time import NS_PER_S
from lewm_ros.training import decoder as decoding
from lewm_ros.view.imagination import Imagination
from lewm_ros.view.strip import THRESHOLD, difference, notice

MOST_BYTES = 512 * 1024  #: of a message that Fast DDS does not fragment


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a copy of the arm's bundle."""
    path = tmp_path / 'reacher'
    shutil.copytree(find('bundle', 'reacher'), path)
    return path


def forget(bundle: Path, *keys: str) -> None:
    """Remove optional files from a bundle."""
    manifest = json.loads((bundle / 'manifest.json').read_text())
    for key in keys:
        del manifest[key]
        (bundle / {'roadmap': ROADMAP, 'decoder': DECODER}[key]).unlink()
    (bundle / 'manifest.json').write_text(json.dumps(manifest))


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bag of a moving arm."""
    path = tmp_path_factory.mktemp('bags') / 'bag'
    assert cli.main(['collect', 'reacher', '--out', str(path), '--episodes', '4']) == 0
    return path


@pytest.mark.parametrize(
    ('command', 'options'),
    [
        ('calibrate', ['--data', 'none']),
        ('roadmap', ['--data', 'none']),
        ('decoder', ['--data', 'none', '--device', 'cpu']),
        ('export', []),
    ],
)
def test_a_bundle_that_cannot_be_written_is_refused_first(
    bundle, capsys, disk_of, command, options
) -> None:
    """A bundle that cannot be written is rejected before the bags are looked for."""
    disk_of(1 << 20)
    assert cli.main([command, str(bundle), *options]) == 2
    assert capsys.readouterr().err == (
        f'lewm: error: bundle {bundle}: cannot be written: {bundle}: File too large\n'
    )


def test_a_few_steps_on_rendered_frames_reduce_the_error(bundle, bag, capsys) -> None:
    """More steps reduce the error, below that of a constant image; nothing else changes."""
    forget(bundle, 'decoder')
    before = Bundle.load(bundle)
    errors = []
    for steps in ('2', '80'):
        arguments = ['--data', str(bag), '--device', 'cpu', '--steps', steps]
        assert cli.main(['decoder', str(bundle), *arguments]) == 0
        made = Bundle.load(bundle)
        assert made.manifest.decoder is not None
        errors.append(made.manifest.decoder.error)
    entry = made.manifest.decoder
    assert errors[1] < 0.95 * errors[0]
    assert errors[1] < 0.95 * entry.spread
    assert f'error on held-out frames {entry.error:.1f}' in capsys.readouterr().out
    assert (bundle / DECODER).stat().st_size < 3e6
    assert made.hash == before.hash
    assert made.manifest.roadmap == before.manifest.roadmap
    assert (bundle / CARD).read_bytes() == (find('bundle', 'reacher') / CARD).read_bytes()
    images = Decoder(made)(np.zeros((3, 64), np.float32))
    assert images.shape == (3, entry.size, entry.size, 3) and images.dtype == np.uint8


def test_the_end_of_one_long_recording_is_held_out(bundle, bag, monkeypatch) -> None:
    """Frames drawn at random keep their places in time: training has none of the last tenth."""
    monkeypatch.setattr(decoding, 'FRAMES', 40)
    whole = list(read_episodes([bag], Bundle.load(bundle).contract, 64))
    images = np.concatenate([episode.images for episode in whole])
    stamps = np.arange(len(images)) * (NS_PER_S // 20)
    one = replace(whole[0], images=images, stamps=stamps)
    monkeypatch.setattr(decoding, 'read_bags', lambda *args: [one])

    class Counting:
        frames = 0

        def encode(self, image: np.ndarray) -> np.ndarray:
            return np.full(64, next(n for n, i in enumerate(images) if np.array_equal(i, image)))

    latents, _, held_out = decoding._encoded(Bundle.load(bundle), Counting(), [bag])
    assert held_out.sum() == 4 and latents[~held_out, 0].max() < latents[held_out, 0].min()


def test_a_roadmap_leaves_the_decoder_alone(bundle, bag) -> None:
    """A new roadmap leaves the decoder unchanged."""
    before = Bundle.load(bundle).manifest
    assert cli.main(['roadmap', str(bundle), '--data', str(bag)]) == 0
    after = Bundle.load(bundle).manifest
    assert after.decoder == before.decoder
    assert after.roadmap != before.roadmap


def test_a_decoder_of_another_model_is_refused_by_name(bundle) -> None:
    """A decoder of another model is rejected by name; without its file the entry is dropped."""
    found = Bundle.load(bundle)
    other = replace(found.manifest.decoder, model_hash='a' * 64)
    files = {name: found.path / name for name in (*FILES, DECODER)}
    written = write_bundle(bundle, replace(found.manifest, decoder=other), files)
    with pytest.raises(ModelError, match='decoder.onnx is of model aaaaaaaaaaaa, the bundle is'):
        Decoder(written)
    without = write_bundle(bundle, written.manifest, {name: bundle / name for name in FILES})
    assert without.manifest.decoder is None
    with pytest.raises(ModelError, match='has no decoder.onnx: run `lewm decoder'):
        Decoder(without)


def test_a_changed_or_wrong_graph_is_refused(bundle) -> None:
    """A decoder file with a wrong hash, or with another graph, is rejected."""
    found = Bundle.load(bundle)
    encoder = found.path / 'encoder.onnx'
    wrong = replace(found.manifest.decoder, sha256=found.manifest.files['encoder.onnx'])
    files = {name: found.path / name for name in FILES} | {DECODER: encoder}
    written = write_bundle(bundle, replace(found.manifest, decoder=wrong), files)
    with pytest.raises(ModelError, match="decoder.onnx has nothing .* for 'latents'"):
        Decoder(written)
    (bundle / DECODER).write_bytes(b'x')
    with pytest.raises(ModelError, match='decoder.onnx has SHA-256'):
        Bundle.load(bundle)


@pytest.mark.parametrize('name', ['reacher', 'push', 'two_room'])
def test_the_shipped_decoders_show_what_was_seen(name: str) -> None:
    """A decoded frame is closer to its own frame than to any of seven others."""
    found = Bundle.load(find('bundle', name))
    assert found.manifest.decoder.error < found.manifest.decoder.spread / 2
    engine, decoder = load_engine(found), Decoder(found)
    task = make_task(name, found.spec.image_size, 5)
    frames = []
    for _ in range(8):
        task.reset()
        frames.append(task.render())
    task.close()
    decoded = decoder(np.stack([engine.encode(frame) for frame in frames])).astype(float)
    apart = np.square(decoded[:, None] - np.stack(frames)[None]).mean(axis=(2, 3, 4))
    assert (apart.argmin(axis=1) == np.arange(8)).all()


def test_a_plan_is_a_strip_with_its_cost_and_the_way(bundle) -> None:
    """A plan is a strip of images with its cost; a roadmap adds a row; long plans are thinned."""
    found = Bundle.load(bundle)
    nodes = read_roadmap(found).nodes
    plan = nodes[:7]
    image = Imagination(found).plan(plan)
    assert image.shape[1] == 640 and image.nbytes < MOST_BYTES
    forget(bundle, 'roadmap')
    single = Imagination(Bundle.load(bundle)).plan(plan)
    assert single.shape[0] < image.shape[0]
    assert (single[:100] == image[:100]).all()  # the same plan above
    assert (single[110:] != image[110 : len(single)]).any()  # another cost below
    assert Imagination(Bundle.load(bundle)).plan(nodes[:33]).shape[1] == 640


def test_what_differs_is_red(bundle) -> None:
    """Only pixels that differ are marked; the observed frame is shown if there is one."""
    one = np.full((8, 8, 3), 200, np.uint8)
    other = one.copy()
    other[2:4, 2:4] = 0
    marked = difference(one, other)
    assert (marked[2:4, 2:4] == THRESHOLD).all()
    assert (marked[..., 0] == marked[..., 1]).sum() == 60
    found = Bundle.load(bundle)
    imagination, both = Imagination(found), read_roadmap(found).nodes[:2]
    frame = np.zeros((64, 64, 3), np.uint8)
    with_frame, without = imagination.expected(both, frame), imagination.expected(both, None)
    assert with_frame.shape == without.shape and with_frame.nbytes < MOST_BYTES
    assert (without[20:160, 500:620] == 255).all()
    assert (with_frame[20:160, 500:620] == 0).all()
    assert (notice('no decoder ' * 40) < 255).any()


@pytest.mark.parametrize(
    ('values', 'said'),
    [
        ({'model_hash': 'x'}, "decoder.model_hash is 'x': expected a SHA-256"),
        ({'error': -1}, 'decoder.error is -1'),
        ({'size': 0}, 'decoder.size is 0'),
        ({'more': 1}, "decoder has unknown key 'more'"),
    ],
)
def test_a_wrong_entry_is_named(bundle, values, said) -> None:
    """An invalid decoder entry of a manifest is rejected with its key."""
    manifest = json.loads((bundle / 'manifest.json').read_text())
    manifest['decoder'] |= values
    (bundle / 'manifest.json').write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=said):
        Bundle.load(bundle)
