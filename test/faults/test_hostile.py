# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Bundles made to do harm are refused, in one line, before anything is allocated or run.

One child process opens all of them by every way in, with little memory to spare and under an
audit hook; see hostile_child.py. Hashes are right unless the case is about them.
"""

from __future__ import annotations

from collections.abc import Callable
import io
import json
import os
from pathlib import Path
import pickle
import shutil
import struct
from typing import Any
import zipfile

from hostile_child import refusals, seal
from hostile_graphs import GRAPHS, NO_GRAPHS, spoil_graph
import numpy as np
import pytest

from lewm_ros.bundle import FILES, MANIFEST, Bundle
from lewm_ros.bundle.tensors import read_tensors, write_tensors

WEIGHTS, ENCODER, ROLLOUT = FILES
RUNTIMES = ('onnxruntime', 'openvino', 'lewm evaluate')
NETWORKS = ('torch', 'reference', 'lewm evaluate --engine torch', 'lewm export')
GOOD = ('load', 'onnxruntime', 'openvino', 'torch', 'reference')
ALL = ('load', *RUNTIMES, *NETWORKS, 'lewm up', 'lewm calibrate')


class Payload:
    """Touches a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f'touch {self.marker}',)


def zipped(data: bytes) -> bytes:
    """Return a pickle as torch.save packs it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, 'w') as archive:
        archive.writestr('archive/data.pkl', data)
        archive.writestr('archive/version', '3')
    return file.getvalue()


def safetensors(header: Any, numbers: bytes = b'', length: int | None = None) -> bytes:
    """Return a file of any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(text) if length is None else length) + text + numbers


def tensor(begin: int, end: int, shape: list[int], dtype: str = 'F32') -> dict[str, Any]:
    """Return an entry of a header."""
    return {'dtype': dtype, 'shape': shape, 'data_offsets': [begin, end]}


#: Content of weights.safetensors, and what is said of it.
FILES_OF_WEIGHTS: dict[str, tuple[Callable[[Path], bytes], str]] = {
    'pickle': (lambda m: pickle.dumps(Payload(m)), 'is no safetensors file'),
    'old pickle': (lambda m: pickle.dumps(Payload(m), 0), 'is no safetensors file'),
    'zip of a pickle': (lambda m: zipped(pickle.dumps(Payload(m))), 'is no safetensors file'),
    'empty': (lambda m: b'', 'is no safetensors file'),
    'header of 2^60': (lambda m: safetensors({}, length=1 << 60), f'a header of {1 << 60} bytes'),
    'header of 2^64': (lambda m: b'\xff' * 64, f'a header of {2**64 - 1} bytes'),
    'header beyond the file': (lambda m: safetensors({}, length=3), 'a header of 3 bytes in 10'),
    'header that is long': (lambda m: safetensors(b' ' * (5 << 20)), 'a header of 5242880 bytes'),
    'header of lists': (lambda m: safetensors(b'[' * 100_000), 'nested deeper'),
    'header that is a list': (lambda m: safetensors([1]), 'is no JSON object'),
    'a name twice': (
        lambda m: safetensors(b'{"a":1,"a":2}'),
        "key 'a' stands twice",
    ),
    'overlap': (
        lambda m: safetensors({'a': tensor(0, 8, [2]), 'b': tensor(4, 12, [2])}, b'\0' * 12),
        "'b' begins at byte 4, what comes before it ends at 8",
    ),
    'one place for two': (
        lambda m: safetensors({'a': tensor(0, 8, [2]), 'b': tensor(0, 8, [2])}, b'\0' * 8),
        "'b' begins at byte 0, what comes before it ends at 8",
    ),
    'hole': (
        lambda m: safetensors({'a': tensor(0, 4, [1]), 'b': tensor(8, 12, [1])}, b'\0' * 12),
        "'b' begins at byte 8, what comes before it ends at 4",
    ),
    'beyond the file': (
        lambda m: safetensors({'a': tensor(0, 1 << 50, [1 << 48])}, b'\0' * 8),
        f'has 8 bytes of numbers, its header describes {1 << 50}',
    ),
    'more than described': (
        lambda m: safetensors({'a': tensor(0, 4, [1])}, b'\0' * 8),
        'has 8 bytes of numbers, its header describes 4',
    ),
    'shape that does not fit': (
        lambda m: safetensors({'a': tensor(0, 8, [3])}, b'\0' * 8),
        "'a' of shape [3] takes 12 bytes, its data_offsets [0, 8] hold 8",
    ),
    'shape that overflows': (
        lambda m: safetensors({'a': tensor(0, 8, [1 << 32, 1 << 31, 2])}, b'\0' * 8),
        "'a' of shape [4294967296, 2147483648, 2] takes",
    ),
    'shape of long numbers': (
        lambda m: safetensors({'a': tensor(0, 8, [10**4000] * 8)}, b'\0' * 8),
        "'a' has shape [1000",
    ),
    'shape of nothing': (
        lambda m: safetensors({'a': tensor(0, 0, [0, 1 << 62, 1 << 62])}),
        "'a' has shape [0, ",
    ),
    'negative shape': (lambda m: safetensors({'a': tensor(0, 4, [-1, -1])}, b'\0' * 4), "'a' has"),
    'offsets backwards': (lambda m: safetensors({'a': tensor(4, 0, [1])}, b'\0' * 4), "'a' of"),
    'unknown type': (
        lambda m: safetensors({'a': tensor(0, 8, [1], 'C64')}, b'\0' * 8),
        "'a' is of type 'C64'",
    ),
    'unknown key': (
        lambda m: safetensors({'a': {**tensor(0, 4, [1]), '_target_': 'os.system'}}, b'\0' * 4),
        'expected dtype, shape, data_offsets',
    ),
}


def change(**values: Any) -> Callable[[dict[str, Any]], str]:
    """Return a change of top-level keys of the manifest."""
    return lambda data: json.dumps({**data, **values})


def sized(**values: Any) -> Callable[[dict[str, Any]], str]:
    """Return a change of sizes, in the architecture too."""
    return lambda data: json.dumps(
        {
            **data,
            **values,
            'architecture': {**data['architecture'], **values},
        }
    )


def text(old: str, new: str) -> Callable[[dict[str, Any]], str]:
    """Return a change of the manifest's text."""

    def replaced(data: dict[str, Any]) -> str:
        written = json.dumps(data)
        assert old in written
        return written.replace(old, new, 1)

    return replaced


MANIFESTS: dict[str, tuple[Callable[[dict[str, Any]], str], str]] = {
    'wrong hash': (lambda d: change(files={**d['files'], ENCODER: '0' * 64})(d), 'has SHA-256'),
    'target': (change(_target_='os.system'), "unknown key '_target_'"),
    'path upwards': (
        lambda d: change(files={**d['files'], '../secret': '0' * 64})(d),
        "files lists ['../secret'",
    ),
    'absolute path': (
        lambda d: change(files={**d['files'], '/etc/passwd': '0' * 64})(d),
        "files lists ['/etc/passwd'",
    ),
    'latent of 10^9': (sized(latent_size=10**9), 'latent_size is 1000000000'),
    'history of 10^9': (sized(history=10**9), 'history is 1000000000'),
    'window of 10^9': (
        lambda d: change(architecture={**d['architecture'], 'history': 10**9})(d),
        'architecture.history 1000000000',
    ),
    'horizon of 10^9': (change(horizon=10**9), 'horizon is 1000000000'),
    'image of 10^6': (sized(image_size=10**6), 'image_size is 1000000'),
    'frameskip of 10^9': (sized(frameskip=10**9), 'frameskip is 1000000000'),
    'number that is long': (change(frameskip=10**4000), 'frameskip is 1000000'),
    'number that is too long': (text('"frameskip": 5', '"frameskip": ' + '9' * 5000), 'not JSON'),
    'NaN': (text('"camera_period": 0.05', '"camera_period": NaN'), 'camera_period is nan'),
    'infinity': (
        text('"provenance": {}', '"provenance": {"a": -Infinity}'),
        'provenance.a is -inf',
    ),
    '1e999': (text('"provenance": {}', '"provenance": {"a": 1e999}'), 'provenance.a is inf'),
    'key twice': (text('"horizon": 5', '"horizon": 5, "horizon": 6'), "'horizon' stands twice"),
    'deep lists': (text('"provenance": {}', '"provenance": ' + '[' * 50_000), 'nested deeper'),
    'deep provenance': (
        text('"provenance": {}', '"provenance": {"a": ' + '[' * 500 + ']' * 500 + '}'),
        'nested deeper than 32 levels',
    ),
    'escape codes': (change(name='\x1b]0;owned\x07\nfine'), r"name is '\x1b]0;owned\x07\nfine'"),
    'a name of a megabyte': (change(name='a' * 900_000), 'expected a name of one short line'),
    'many actions': (
        lambda d: change(
            contract={
                **d['contract'],
                'action': {**d['contract']['action'], 'names': [f'a{i}' for i in range(50_000)]},
            }
        )(d),
        'expected a list of 1 to 128 names',
    ),
    'two megabytes': (text('"provenance": {}', '"provenance": {' + ' ' * (2 << 20) + '}'), 'bytes'),
}


def link(folder: Path) -> None:
    """Put a file's content elsewhere."""
    (folder / WEIGHTS).rename(folder.with_name('elsewhere'))
    (folder / WEIGHTS).symlink_to(folder.with_name('elsewhere'))


def swap(make: Callable[[Path], Any]) -> Callable[[Path], None]:
    """Return a change of a file for something else."""

    def spoil(folder: Path) -> None:
        (folder / ENCODER).unlink()
        make(folder / ENCODER)

    return spoil


def huge(path: Path) -> None:
    """Make a file of a terabyte that takes no room on the disk."""
    with path.open('wb') as file:
        file.truncate(1 << 40)


FOLDERS: dict[str, tuple[Callable[[Path], Any], str]] = {
    'link': (link, 'is a link out of the bundle'),
    'pipe': (swap(os.mkfifo), 'is missing or no plain file'),
    'device': (swap(lambda path: path.symlink_to('/dev/zero')), 'is missing or no plain file'),
    'terabyte': (swap(huge), f'has {1 << 40} bytes: expected at most'),
    'manifest that is a pipe': (
        lambda folder: ((folder / MANIFEST).unlink(), os.mkfifo(folder / MANIFEST)),
        'manifest.json is missing or no plain file',
    ),
    'manifest that is huge': (lambda folder: huge(folder / MANIFEST), 'expected at most 1048576'),
    'a file more': (lambda folder: (folder / 'x.py').write_text(''), "has 'x.py'"),
}

#: Changes of the arrays and of the architecture, refused where the network is built.
NETWORK: dict[str, tuple[Callable[[dict[str, np.ndarray], dict[str, Any]], Any], str]] = {
    'layers of 10^6': (lambda w, a: a.update(predictor_depth=10**6), 'predictor_depth is 1000000'),
    'many layers': (lambda w, a: a.update(predictor_depth=64), 'is missing, expected float32'),
    'wide layers': (lambda w, a: a.update(projector_hidden=65536), 'expected float32 [65536'),
    'wide and wide': (
        lambda w, a: a.update(predictor_heads=65536, predictor_head_size=65536),
        'expected float32',
    ),
    'unknown encoder': (lambda w, a: a.update(encoder='os.system'), "encoder is 'os.system'"),
    'target': (lambda w, a: a.update(_target_='os.system'), '_target_'),
    'other shape': (
        lambda w, a: w.update({'projector.net.0.bias': np.zeros(5, np.float32)}),
        'projector.net.0.bias is float32 [5], expected float32 [16]',
    ),
    'other type': (
        lambda w, a: w.update({'projector.net.0.bias': np.zeros(16, np.int64)}),
        'projector.net.0.bias is int64 [16], expected float32 [16]',
    ),
    'missing': (lambda w, a: w.pop('projector.net.0.bias'), 'projector.net.0.bias is missing'),
    'one more': (
        lambda w, a: w.update({'\x1b[2J': np.zeros(1, np.float32)}),
        '?[2J is float32 [1], expected missing',
    ),
}


CASES = {
    **{f'weights: {name}': (ALL, says) for name, (_, says) in FILES_OF_WEIGHTS.items()},
    **{f'manifest: {name}': (ALL, says) for name, (_, says) in MANIFESTS.items()},
    **{f'folder: {name}': (ALL, says) for name, (_, says) in FOLDERS.items()},
    **{f'network: {name}': (NETWORKS, says) for name, (_, says) in NETWORK.items()},
    **{f'graph: {name}': (RUNTIMES, says) for name, (_, says) in GRAPHS.items()},
    **{f'graph: {name}': (RUNTIMES, says) for name, (_, says) in NO_GRAPHS.items()},
}


def spoil(name: str, folder: Path, marker: Path) -> None:
    """Make a good bundle hostile, by the name of the case."""
    part, key = name.split(': ')
    manifest = json.loads((folder / MANIFEST).read_text())
    if part == 'manifest':
        (folder / MANIFEST).write_text(MANIFESTS[key][0](manifest))
    elif part == 'folder':
        FOLDERS[key][0](folder)
    elif part == 'weights':
        (folder / WEIGHTS).write_bytes(FILES_OF_WEIGHTS[key][0](marker))
        seal(folder, manifest)
    elif part == 'network':
        arrays = read_tensors((folder / WEIGHTS).read_bytes())
        NETWORK[key][0](arrays, manifest['architecture'])
        (folder / WEIGHTS).write_bytes(write_tensors(arrays))
        seal(folder, manifest)
    else:
        spoil_graph(key, folder / ENCODER)
        seal(folder, manifest)


@pytest.fixture(scope='module')
def outcome(tiny_bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what came of every case, from one child that opened them all."""
    root = tmp_path_factory.mktemp('hostile')
    marker = root / 'marker'
    cases = [('good', way, str(tiny_bundle.path)) for way in GOOD]
    for number, (name, (ways, _)) in enumerate(CASES.items()):
        folder = root / str(number) / 'bundle'
        shutil.copytree(tiny_bundle.path, folder)
        spoil(name, folder, marker)
        cases += [(name, way, str(folder)) for way in ways]
    found = refusals(cases, root)
    found['marker'] = marker.exists()
    return found


@pytest.mark.parametrize('name', CASES)
def test_bundle_is_refused(outcome: dict[str, Any], name: str) -> None:
    """By every way in with one line; no code ran and no file was written on the way."""
    ways, says = CASES[name]
    for way in ways:
        kind, message, did = outcome[f'{name}: {way}']
        assert kind == ('2' if way.startswith('lewm') else 'BundleError'), (way, message)
        assert says in message, way
        assert len(message.strip().splitlines()) == 1, way
        assert len(message) < 3000, way
        assert message.strip().isprintable(), way
        assert not did, way


def test_no_payload_ran(outcome: dict[str, Any], tmp_path: Path) -> None:
    """The file that the pickles would make is not there; unpickled, they do make it."""
    assert not outcome['marker']
    pickle.loads(pickle.dumps(Payload(tmp_path / 'marker')))
    assert (tmp_path / 'marker').exists()


def test_good_bundle_is_loaded_under_the_same_watch(outcome: dict[str, Any]) -> None:
    """The bounds of the child do not refuse: the bundle that all cases come from passes."""
    for way in GOOD:
        kind, message, did = outcome[f'good: {way}']
        assert (kind, did) == ('loaded', []), (way, message)
