# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Bundles: what is written is read back, and nothing broken is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
import os
from pathlib import Path
import shutil
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from lewm_ros.bundle import (
    CARD,
    FILES,
    MANIFEST,
    Bundle,
    Calibration,
    Manifest,
    check_writable,
    rewrite_manifest,
    write_bundle,
)
from lewm_ros.errors import ModelError
from lewm_ros.robot.checks import CheckError
from lewm_ros.robot.contract import Contract

CONTENT: dict[str, bytes | Path] = {name: f'content of {name}'.encode() for name in FILES}


@pytest.fixture
def manifest(reacher_contract: Contract) -> Manifest:
    """Return a manifest with a two-dimensional action and a frameskip of 5."""
    return Manifest(
        name='example',
        architecture={'width': 16, 'sizes': (1, 2)},
        image_size=64,
        frameskip=5,
        history=3,
        horizon=6,
        latent_size=4,
        action_mean=(0.1, -0.2),
        action_std=(0.5, 2.0),
        contract=reacher_contract,
        camera_period=0.05,
        provenance={'seed': 1},
    )


@pytest.fixture
def bundle(tmp_path: Path, manifest: Manifest) -> Bundle:
    """Return a bundle just written."""
    return write_bundle(tmp_path / 'example', manifest, CONTENT)


def edit(bundle: Bundle, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the parsed manifest in place and write it back."""
    data = json.loads((bundle.path / MANIFEST).read_text())
    change(data)
    (bundle.path / MANIFEST).write_text(json.dumps(data))


def refusal(path: Path) -> str:
    """Load a bundle that is rejected; return the message, which is one line with the path."""
    with pytest.raises(ModelError) as caught:
        Bundle.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert '\n' not in message
    return message


def calibration(bundle: Bundle, alpha: float = 0.1) -> Calibration:
    """Return a calibration of this bundle."""
    return Calibration(alpha, 3.5, 10.0, 200, 'planner', bundle.hash)


def test_what_was_written_is_loaded(bundle: Bundle, manifest: Manifest) -> None:
    """Loading returns the manifest as written, plus the files' hashes."""
    loaded = Bundle.load(bundle.path)
    assert replace(loaded.manifest, files={}) == manifest
    assert sorted(loaded.manifest.files) == sorted(FILES)
    assert loaded.read('encoder.onnx') == CONTENT['encoder.onnx']
    assert loaded.contract == manifest.contract
    assert loaded.block == pytest.approx(0.25)


def test_folder_holds_nothing_else(bundle: Bundle) -> None:
    """No temporary file is left in the folder or beside it."""
    assert {p.name for p in bundle.path.iterdir()} == {*FILES, MANIFEST}
    assert [p.name for p in bundle.path.parent.iterdir()] == ['example']


def test_a_model_card_may_lie_in_the_folder(tmp_path: Path, manifest: Manifest) -> None:
    """A model card is allowed and not hashed, so its text may be edited."""
    written = write_bundle(tmp_path / 'b', manifest, {**CONTENT, CARD: b'# Card'})
    (written.path / CARD).write_text('edited')
    assert Bundle.load(written.path).hash == written.hash


def test_writing_replaces_the_old_bundle_as_a_whole(bundle: Bundle, manifest: Manifest) -> None:
    """Writing replaces the whole bundle: no old file survives, and no old folder remains."""
    (bundle.path / CARD).write_text('old card')
    again = write_bundle(bundle.path, replace(manifest, name='second'), CONTENT)
    assert again.manifest.name == 'second'
    assert not (again.path / CARD).exists()
    assert [p.name for p in again.path.parent.iterdir()] == ['example']


def test_failed_writing_leaves_the_old_bundle(bundle: Bundle, manifest: Manifest) -> None:
    """A source file that cannot be read leaves everything as it was."""
    files = {**CONTENT, 'encoder.onnx': bundle.path / 'absent'}
    with pytest.raises(ModelError, match='cannot be written: absent: No such file'):
        write_bundle(bundle.path, manifest, files)
    assert Bundle.load(bundle.path).hash == bundle.hash
    assert [p.name for p in bundle.path.parent.iterdir()] == ['example']


def test_a_full_disk_leaves_the_old_bundle(bundle: Bundle, manifest: Manifest, disk_of) -> None:
    """A full disk is detected before anything is computed and while writing; the bundle stays."""
    check_writable(bundle.path)
    disk_of(5)
    for write in (
        lambda: check_writable(bundle.path),
        lambda: check_writable(bundle.path.parent / 'new' / 'new'),
        lambda: write_bundle(bundle.path, replace(manifest, frameskip=4), CONTENT),
    ):
        with pytest.raises(ModelError, match='cannot be written: .*File too large'):
            write()
    assert Bundle.load(bundle.path).hash == bundle.hash
    assert [p.name for p in bundle.path.parent.iterdir()] == ['example']


MOUNTED = """
set -e
mount -t tmpfs none models
mkdir models/b
mount -t tmpfs none models/b
cp example/* models/b
mount -o remount,ro models
"$PYTHON" -c "$WRITE"
test "$(ls -A models)" = b
mount -o remount,ro models/b
"$PYTHON" -c "$REFUSE"
"""
WRITE = """
from dataclasses import replace
from lewm_ros.bundle import Bundle, Calibration, MANIFEST, check_writable, write_bundle
bundle = Bundle.load('models/b')
(bundle.path / 'roadmap.npz').write_bytes(b'of the old bundle')
check_writable('models/b')
files = {name: name.encode() for name in bundle.manifest.hashes}
written = write_bundle('models/b', replace(bundle.manifest, frameskip=4), files)
assert written.manifest.frameskip == 4
assert {p.name for p in written.path.iterdir()} == {MANIFEST, *files}
"""
REFUSE = """
from lewm_ros.bundle import check_writable
from lewm_ros.errors import ModelError
try:
    check_writable('models/b')
except ModelError as error:
    assert str(error).endswith('models/b: Read-only file system'), error
else:
    raise AssertionError
"""


@pytest.mark.skipif(
    subprocess.run(['unshare', '-rm', 'true'], capture_output=True).returncode != 0,
    reason='no mounts here',
)
def test_a_bundle_that_is_a_mount_point_is_written_in_place(bundle: Bundle, tmp_path: Path) -> None:
    """A bundle that is a mount point in a read-only folder is written in place."""
    (tmp_path / 'models').mkdir()
    environment = {**os.environ, 'PYTHON': sys.executable, 'WRITE': WRITE, 'REFUSE': REFUSE}
    run = ['unshare', '-rm', 'sh', '-c', MOUNTED]
    ended = subprocess.run(run, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_writing_never_replaces_another_folder(tmp_path: Path, manifest: Manifest) -> None:
    """A folder that is not a bundle is never replaced, whatever the command line says."""
    (tmp_path / 'thesis.txt').write_text('precious')
    with pytest.raises(ModelError, match='is not a bundle'):
        write_bundle(tmp_path, manifest, CONTENT)
    assert (tmp_path / 'thesis.txt').read_text() == 'precious'


@pytest.mark.parametrize('name', ['../evil', 'a/b', 'code.pkl'])
def test_only_known_files_are_written(tmp_path: Path, manifest: Manifest, name: str) -> None:
    """A file that does not belong to a bundle is rejected before anything is written."""
    with pytest.raises(ModelError, match='given files'):
        write_bundle(tmp_path / 'b', manifest, {**CONTENT, name: b''})
    assert not list(tmp_path.iterdir())


def test_hash_is_of_the_model_only(bundle: Bundle, manifest: Manifest) -> None:
    """The hash covers statistics and files, not what describes the model or its data."""
    same = replace(
        bundle.manifest,
        name='other',
        provenance={'seed': 2},
        surprise_scale={1: (1.0,) * 4},
        calibration=(calibration(bundle),),
        camera_size=(640, 480),
        joints={'state': ('shoulder', 'elbow')},
    )
    assert same.model_hash == bundle.hash
    assert replace(bundle.manifest, action_std=(0.5, 2.1)).model_hash != bundle.hash
    other = write_bundle(bundle.path, manifest, {**CONTENT, 'encoder.onnx': b'other'})
    assert other.hash != bundle.hash


def test_rewriting_keeps_the_model(bundle: Bundle) -> None:
    """A calibration can be added; a manifest of another model is rejected."""
    entry = calibration(bundle)
    written = rewrite_manifest(bundle.path, replace(bundle.manifest, calibration=(entry,)))
    assert written.calibration_for(0.1) == entry
    assert written.calibration_for(0.2) is None
    assert {p.name for p in bundle.path.iterdir()} == {*FILES, MANIFEST}
    assert [p.name for p in bundle.path.parent.iterdir()] == ['example']
    with pytest.raises(ModelError, match='new manifest is of model'):
        rewrite_manifest(bundle.path, replace(bundle.manifest, frameskip=4))


def test_calibration_of_another_model_is_refused(bundle: Bundle) -> None:
    """A threshold computed with other weights is never used."""
    entry = replace(calibration(bundle), model_hash='0' * 64)
    stale = replace(bundle, manifest=replace(bundle.manifest, calibration=(entry,)))
    with pytest.raises(ModelError, match='calibrate again'):
        stale.calibration_for(0.1)


def test_normalising_and_back(bundle: Bundle) -> None:
    """Ticks and blocks use the same statistics, and the inverse restores the value."""
    ticks = np.array([[0.6, 1.8], [0.1, -0.2]])
    assert bundle.spec.normalise(ticks) == pytest.approx(np.array([[1.0, 1.0], [0.0, 0.0]]))
    block = np.tile([0.6, 1.8], 5)
    assert bundle.spec.normalise_block(block) == pytest.approx(np.ones(10))
    assert bundle.spec.denormalise(bundle.spec.normalise(ticks)) == pytest.approx(ticks)
    assert bundle.spec.denormalise_block(bundle.spec.normalise_block(block)) == pytest.approx(block)


@pytest.mark.parametrize('shape', [(), (1,), (3,), (2, 10)])
def test_normalising_refuses_other_sizes(bundle: Bundle, shape: tuple[int, ...]) -> None:
    """A wrong last axis is rejected, never broadcast."""
    with pytest.raises(ModelError, match=r'expected \(..., 2\)'):
        bundle.spec.normalise(np.zeros(shape))


def test_missing_folder(tmp_path: Path) -> None:
    """A missing folder is named."""
    assert 'no such folder' in refusal(tmp_path / 'absent')


@pytest.mark.parametrize('name', [MANIFEST, *FILES])
def test_missing_file(bundle: Bundle, name: str) -> None:
    """Each missing file is named."""
    (bundle.path / name).unlink()
    assert f'{name} is missing' in refusal(bundle.path)


@pytest.mark.parametrize('name', FILES)
def test_tampered_byte(bundle: Bundle, name: str) -> None:
    """A changed byte in any file is detected."""
    data = bytearray((bundle.path / name).read_bytes())
    data[3] ^= 1
    (bundle.path / name).write_bytes(data)
    assert f'{name} has SHA-256' in refusal(bundle.path)


def test_change_after_loading(bundle: Bundle) -> None:
    """A file that changes after loading is detected when it is read."""
    (bundle.path / 'encoder.onnx').write_bytes(b'swapped')
    with pytest.raises(ModelError, match=r'encoder\.onnx has SHA-256'):
        bundle.read('encoder.onnx')


def test_a_manifest_that_was_being_written_is_ignored(bundle: Bundle) -> None:
    """A partial manifest left by a killed calibration is ignored."""
    (bundle.path / f'.{MANIFEST}.1234.partial').write_text('{')
    assert Bundle.load(bundle.path).hash == bundle.hash


@pytest.mark.parametrize('name', ['../../etc/passwd', 'sub/weights.safetensors', 'extra.onnx'])
def test_listed_name_outside_the_folder(bundle: Bundle, name: str) -> None:
    """A manifest that lists any file other than the known ones is rejected."""
    edit(bundle, lambda data: data['files'].update({name: '0' * 64}))
    assert name in refusal(bundle.path)


@pytest.mark.parametrize('name', ['evil.py', 'encoder.onnx.data', '.hidden'])
def test_unlisted_file(bundle: Bundle, name: str) -> None:
    """A file that the manifest does not list is rejected by name."""
    (bundle.path / name).write_bytes(b'')
    assert f"'{name}'" in refusal(bundle.path)


def test_link_out_of_the_folder(bundle: Bundle, tmp_path: Path) -> None:
    """A file that is a symlink to elsewhere is rejected, even with the right content."""
    (bundle.path / 'encoder.onnx').rename(tmp_path / 'elsewhere')
    (bundle.path / 'encoder.onnx').symlink_to(tmp_path / 'elsewhere')
    assert 'encoder.onnx is a link' in refusal(bundle.path)


def test_bundle_installed_by_links(bundle: Bundle, tmp_path: Path) -> None:
    """A bundle whose files are all symlinks into one other folder loads (symlink install)."""
    linked = tmp_path / 'install'
    linked.mkdir()
    for file in bundle.path.iterdir():
        (linked / file.name).symlink_to(file)
    loaded = Bundle.load(linked)
    assert loaded.hash == bundle.hash
    entry = calibration(bundle)
    rewrite_manifest(linked, replace(loaded.manifest, calibration=(entry,)))
    assert (linked / MANIFEST).is_symlink()
    assert Bundle.load(bundle.path).calibration_for(0.1) == entry


def test_bundle_in_a_cache_of_models(bundle: Bundle, tmp_path: Path) -> None:
    """A snapshot of symlinks into a model cache loads; rewriting leaves the cached files alone."""
    blobs, snapshot = tmp_path / 'blobs', tmp_path / 'snapshots' / 'abc'
    blobs.mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(bundle.path.iterdir()):
        shutil.copy(file, blobs / f'blob{number}')
        (snapshot / file.name).symlink_to(Path('../../blobs') / f'blob{number}')
    before = {path: path.read_bytes() for path in blobs.iterdir()}
    loaded = Bundle.load(snapshot)
    assert loaded.hash == bundle.hash
    entry = calibration(bundle)
    rewrite_manifest(snapshot, replace(loaded.manifest, calibration=(entry,)))
    assert Bundle.load(snapshot).calibration_for(0.1) == entry
    assert {path: path.read_bytes() for path in blobs.iterdir()} == before


def test_a_changed_file_in_a_cache_of_models(bundle: Bundle, tmp_path: Path) -> None:
    """A changed file is detected in a model cache too."""
    linked = tmp_path / 'snapshot'
    linked.mkdir()
    for file in bundle.path.iterdir():
        (linked / file.name).symlink_to(file)
    (bundle.path / 'encoder.onnx').write_bytes(b'changed')
    assert 'encoder.onnx has SHA-256' in refusal(linked)


def test_folder_in_place_of_a_file(bundle: Bundle) -> None:
    """A folder with the name of a bundle file is rejected."""
    (bundle.path / 'encoder.onnx').unlink()
    (bundle.path / 'encoder.onnx').mkdir()
    assert 'encoder.onnx is missing or not a regular file' in refusal(bundle.path)


@pytest.mark.parametrize('data', [b'', b'{', b'[1]', b'\xff\xfe\x00'])
def test_manifest_that_is_no_json_object(bundle: Bundle, data: bytes) -> None:
    """A manifest that is truncated, not an object or not UTF-8 is rejected in one line."""
    (bundle.path / MANIFEST).write_bytes(data)
    assert MANIFEST in refusal(bundle.path)


def test_huge_manifest(bundle: Bundle) -> None:
    """A manifest above the size limit is not parsed."""
    with (bundle.path / MANIFEST).open('a') as file:
        file.write(' ' * (1 << 20))
    assert 'expected at most 1048576' in refusal(bundle.path)


@pytest.mark.parametrize('version', [0, 2, '1', None, True])
def test_unknown_schema_version(bundle: Bundle, version: object) -> None:
    """An unknown schema version is rejected and named."""
    edit(bundle, lambda data: data.update(schema_version=version))
    assert f'schema_version is {version!r}' in refusal(bundle.path)


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'action_std': [0.5, float('nan')]}, 'action_std[1] is nan'),
        ({'action_std': [0.5, 0.0]}, 'action_std[1] is 0.0'),
        ({'action_std': [-1.0, 1.0]}, 'action_std[0] is -1.0'),
        ({'action_std': [10**400, 1.0]}, 'action_std[0]'),
        ({'action_std': [True, 1.0]}, 'action_std[0] is True'),
        ({'action_std': None}, 'action_std is None: expected a list'),
        ({'action_mean': [float('inf'), 0.0]}, 'action_mean[0] is inf'),
        ({'action_mean': [0.0]}, 'action_mean has 1 entries: expected 2'),
        ({'surprise_scale': {'1': [1.0, 1.0, 0.0, 1.0]}}, 'surprise_scale.1[2] is 0.0'),
        ({'surprise_scale': {'3': [1.0] * 3}}, 'surprise_scale.3 has 3 entries: expected 4'),
        ({'surprise_scale': {'0': [1.0] * 4}}, 'horizon of surprise_scale.0 is 0'),
        ({'surprise_scale': {'far': [1.0] * 4}}, "horizon of surprise_scale.far is 'far'"),
        ({'surprise_scale': [1.0] * 4}, 'surprise_scale is ['),
        ({'surprise_scale': None}, 'surprise_scale is None'),
        ({'horizon': 0}, 'horizon is 0'),
        ({'frameskip': 2.5}, 'frameskip is 2.5'),
        ({'history': True}, 'history is True'),
        ({'image_size': 10**300}, 'image_size is 1'),
        ({'camera_period': 0}, 'camera_period is 0'),
        ({'camera_size': [64]}, 'camera_size has 1 entries: expected 2'),
        ({'camera_size': [64, 0.5]}, 'camera_size is 0.5: expected a whole number'),
        ({'joints': ['elbow']}, "joints is ['elbow']: expected a list for each section"),
        ({'joints': {'state': 'elbow'}}, "joints.state is 'elbow'"),
        ({'camera_period': '0.05'}, "camera_period is '0.05'"),
        ({'name': ''}, "name is ''"),
        ({'architecture': []}, 'architecture is []'),
        ({'architecture': {'latent_size': 5}}, 'architecture.latent_size is 5'),
        ({'contract': {}}, 'contract: '),
        ({'files': []}, 'files lists []'),
        ({'calibration': {}}, 'calibration is {}'),
        ({'calibration': [{'alpha': 0.1}]}, "calibration lacks 'threshold'"),
        ({'_target_': 'os.system'}, "unknown key '_target_'"),
    ],
)
def test_wrong_value_is_named(bundle: Bundle, change: dict[str, Any], words: str) -> None:
    """Every invalid value is rejected with its key."""
    edit(bundle, lambda data: data.update(change))
    assert words in refusal(bundle.path)


@pytest.mark.parametrize('key', ['action_std', 'contract', 'files', 'provenance', 'calibration'])
def test_missing_key_is_named(bundle: Bundle, key: str) -> None:
    """Every key is required: a manifest has no defaults."""
    edit(bundle, lambda data: data.pop(key))
    assert f"lacks '{key}'" in refusal(bundle.path)


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('alpha', 1.0),
        ('alpha', 0),
        ('threshold', float('inf')),
        ('windows', -1),
        ('policy', ''),
        ('model_hash', 'abc'),
    ],
)
def test_wrong_calibration_is_named(bundle: Bundle, key: str, value: Any) -> None:
    """An invalid calibration is rejected with its key."""
    with pytest.raises(CheckError, match=f'calibration.{key}'):
        replace(calibration(bundle), **{key: value})


def test_two_calibrations_for_one_alpha(bundle: Bundle) -> None:
    """Two calibrations for one alpha are rejected."""
    entry = calibration(bundle)
    with pytest.raises(CheckError, match='duplicate entries'):
        replace(bundle.manifest, calibration=(entry, replace(entry, threshold=4.0)))


def test_thresholds_and_scales_go_by_horizon(bundle: Bundle) -> None:
    """Each horizon has its own threshold and scale; an uncalibrated one has ones and none."""
    near, far = calibration(bundle), replace(calibration(bundle), horizon=3, threshold=7.0)
    scales = {1: (2.0,) * 4, 3: (5.0,) * 4}
    new = replace(bundle.manifest, surprise_scale=scales, calibration=(near, far))
    written = rewrite_manifest(bundle.path, new)
    assert written.manifest.surprise_scale == scales
    assert written.calibration_for(0.1).threshold == 3.5
    assert written.calibration_for(0.1, horizon=3) == far
    assert written.calibration_for(0.1, horizon=2) is None
    assert written.surprise_scale(3).tolist() == [5.0] * 4
    assert written.surprise_scale(2).tolist() == [1.0] * 4


def test_copy_of_a_bundle_is_a_bundle(bundle: Bundle, tmp_path: Path) -> None:
    """A copy of a bundle loads with the same hash."""
    shutil.copytree(bundle.path, tmp_path / 'copy')
    assert Bundle.load(tmp_path / 'copy').hash == bundle.hash
