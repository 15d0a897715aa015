# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Truncated, swapped, mixed or incompatible bundles: a one-line error from every entry point.

Hashes are valid unless the case is about them.
"""

from __future__ import annotations

from collections.abc import Callable
import hashlib
import io
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import onnx
import pytest
from safetensors.numpy import load, save
import torch

from lewm_ros import cli
from lewm_ros.bundle import FILES, MANIFEST, Bundle
from lewm_ros.engines import load_engine
from lewm_ros.errors import ModelError

WEIGHTS, ENCODER, ROLLOUT = FILES
COMMANDS = {
    'lewm evaluate': ('evaluate', '{}', '--goals', '1', '--seconds', '1'),
    'lewm evaluate --engine torch': (
        'evaluate', '{}', '--goals', '1', '--seconds', '1', '--engine', 'torch',
    ),
    'lewm up': ('up', 'plan', '--bundle', '{}'),
    'lewm calibrate': ('calibrate', '{}', '--data', '{}'),
    'lewm export': ('export', '{}'),
}  # fmt: skip
RUNTIMES = ('onnxruntime', 'openvino', 'lewm evaluate')
NETWORKS = ('torch', 'reference', 'lewm evaluate --engine torch', 'lewm export')
ALL = ('load', 'onnxruntime', 'torch', *COMMANDS)


def change(**values: Any) -> Callable[[Path], None]:
    """Return a function that changes top-level keys of the manifest."""

    def spoil(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_text())
        (folder / MANIFEST).write_text(json.dumps({**data, **values}))

    return spoil


def architecture(**values: Any) -> Callable[[Path], None]:
    """Return a function that changes the architecture."""

    def spoil(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_text())
        data['architecture'].update(values)
        (folder / MANIFEST).write_text(json.dumps(data))

    return spoil


def content(name: str, make: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    """Return a function that changes a file's content and updates its hash."""

    def spoil(folder: Path) -> None:
        data = make((folder / name).read_bytes())
        (folder / name).write_bytes(data)
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest['files'][name] = hashlib.sha256(data).hexdigest()
        (folder / MANIFEST).write_text(json.dumps(manifest))

    return spoil


def weights(edit: Callable[[dict[str, np.ndarray]], Any]) -> Callable[[Path], None]:
    """Return a function that changes the weights."""

    def changed(data: bytes) -> bytes:
        arrays = load(data)
        edit(arrays)
        return save(arrays)

    return content(WEIGHTS, changed)


def graph(edit: Callable[[onnx.ModelProto], Any]) -> Callable[[Path], None]:
    """Return a function that changes the encoder's graph."""

    def changed(data: bytes) -> bytes:
        model = onnx.load_from_string(data)
        edit(model)
        return model.SerializeToString()

    return content(ENCODER, changed)


def checkpoint(_: bytes) -> bytes:
    """Return what torch.save writes, in place of safetensors."""
    file = io.BytesIO()
    torch.save({'a': torch.zeros(1)}, file)
    return file.getvalue()


def link(folder: Path) -> None:
    """Replace a file by a symlink to outside the bundle."""
    (folder / WEIGHTS).rename(folder.with_name('elsewhere'))
    (folder / WEIGHTS).symlink_to(folder.with_name('elsewhere'))


def huge(path: Path) -> None:
    """Make a sparse file of 1 TiB."""
    with path.open('wb') as file:
        file.truncate(1 << 40)


def cut(name: str) -> Callable[[Path], None]:
    """Return a function that cuts off a file's end, as a full disk or a broken copy does."""
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-100])


def resized(model: onnx.ModelProto) -> None:
    """Change the input size of the encoder."""
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 64


BIAS = 'projector.net.0.bias'
CASES: dict[str, tuple[Callable[[Path], Any], tuple[str, ...], str]] = {
    'no folder': (shutil.rmtree, ALL, 'no such '),
    'weights cut': (cut(WEIGHTS), ALL, 'weights.safetensors has SHA-256'),
    'graph cut': (cut(ROLLOUT), ALL, 'rollout.onnx has SHA-256'),
    'manifest cut': (cut(MANIFEST), ALL, 'manifest.json is not JSON'),
    'file missing': (lambda f: (f / ENCODER).unlink(), ALL, 'encoder.onnx is missing'),
    'manifest missing': (lambda f: (f / MANIFEST).unlink(), ALL, 'manifest.json is missing'),
    'link': (link, ALL, 'is a link to outside the bundle'),
    'terabyte': (lambda f: huge(f / ENCODER), ALL, f'has {1 << 40} bytes: expected at most'),
    'huge manifest': (lambda f: huge(f / MANIFEST), ALL, 'expected at most 1048576'),
    'a file more': (lambda f: (f / 'x.onnx.data').touch(), ALL, "has 'x.onnx.data'"),
    'unknown key': (change(_target_='os.system'), ALL, "unknown key '_target_'"),
    'NaN': (change(camera_period=float('nan')), ALL, 'camera_period is nan'),
    'latent of 10^9': (change(latent_size=10**9), ALL, 'latent_size is 1000000000'),
    'horizon of 10^9': (change(horizon=10**9), ALL, 'horizon is 1000000000'),
    'other sizes': (architecture(latent_size=9), ALL, 'architecture.latent_size is 9'),
    'empty weights': (content(WEIGHTS, lambda d: b''), NETWORKS, 'is not a safetensors file'),
    'short weights': (content(WEIGHTS, lambda d: d[:-8]), NETWORKS, 'is not a safetensors file'),
    'checkpoint': (content(WEIGHTS, checkpoint), NETWORKS, 'is not a safetensors file'),
    'many layers': (architecture(predictor_depth=64), NETWORKS, 'is missing, expected float32'),
    'wide layers': (architecture(projector_hidden=65536), NETWORKS, 'expected float32 [65536'),
    'unknown encoder': (architecture(encoder='mlp'), NETWORKS, "encoder is 'mlp'"),
    'newer architecture': (architecture(gadgets=3), NETWORKS, 'gadgets'),
    'other shape': (
        weights(lambda w: w.update({BIAS: np.zeros(5, np.float32)})),
        NETWORKS,
        f'{BIAS} is float32 [5], expected float32 [16]',
    ),
    'other type': (
        weights(lambda w: w.update({BIAS: np.zeros(16, np.float16)})),
        NETWORKS,
        f'{BIAS} is float16 [16], expected float32 [16]',
    ),
    'array missing': (weights(lambda w: w.pop(BIAS)), NETWORKS, f'{BIAS} is missing'),
    'array more': (
        weights(lambda w: w.update(extra=np.zeros(1, np.float32))),
        NETWORKS,
        'extra is float32 [1], expected missing',
    ),
    'noise': (content(ENCODER, lambda d: b'\x00noise'), RUNTIMES, 'is not an ONNX graph'),
    'empty graph': (content(ENCODER, lambda d: b''), RUNTIMES, "for 'pixels': the manifest needs"),
    'other inputs': (graph(resized), RUNTIMES, "[1, 3, 32, 64] for 'pixels'"),
}


@pytest.fixture(scope='module')
def folders(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return a spoilt copy of a good bundle for each case."""
    made = {}
    for name, (spoil, _, _) in CASES.items():
        made[name] = tmp_path_factory.mktemp('wrong') / 'bundle'
        shutil.copytree(tiny_bundle.path, made[name])
        spoil(made[name])
    return made


@pytest.mark.parametrize('name', CASES)
def test_wrong_bundle_is_refused(
    folders: dict[str, Path], name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every entry point refuses it in one line that names the bundle and what is wrong."""
    path, (_, ways, says) = folders[name], CASES[name]
    for way in ways:
        if way in COMMANDS:
            assert cli.main([word.replace('{}', str(path)) for word in COMMANDS[way]]) == 2, way
            message = capsys.readouterr().err.strip()
        else:
            if way == 'openvino':
                pytest.importorskip('openvino')
            with pytest.raises(ModelError) as caught:
                _ = Bundle.load(path) if way == 'load' else load_engine(Bundle.load(path), way)
            message = str(caught.value)
        assert says in message, way
        assert str(path) in message, way
        assert len(message) < 3000 and message.isprintable(), way
