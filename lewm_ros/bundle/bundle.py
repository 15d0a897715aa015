# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A trained model on disk: one folder of a manifest, weights and two ONNX graphs.

Nothing in a bundle can execute code: the manifest is JSON with known keys, the weights are
safetensors, and every file is one that the manifest lists with its SHA-256. The engines read
files only through :meth:`Bundle.read`, which checks that hash again, and check the content.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
import hashlib
import io
import json
import math
import os
from pathlib import Path
import shutil
from typing import Any
import zipfile

import numpy as np

from lewm_ros.bundle.manifest import (
    DESCRIPTIVE,
    FILES,
    OPTIONAL,
    Calibration,
    Manifest,
)
from lewm_ros.bundle.place import new_folder, put, refuse_other
from lewm_ros.errors import ModelError, one_line, shown
from lewm_ros.files import MANIFEST, PARTIAL, atomic_write, check_size, read_limited, sync
from lewm_ros.robot.checks import CheckError
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.spec import ModelSpec

CARD = 'README.md'  #: the model card: for readers, not part of the hash list
MANIFEST_LIMIT = 1 << 20  #: largest manifest that is read [bytes]
FILE_LIMIT = 1 << 31  #: largest other file [bytes]; an ONNX graph cannot be larger


@dataclass(frozen=True)
class Bundle:
    """A folder that was verified to be complete and unmodified. Construct with :meth:`load`."""

    path: Path
    manifest: Manifest
    robot: Contract | None = None  #: contract that bags were recorded under; None: the model's

    @classmethod
    def load(cls, path: str | Path) -> Bundle:
        """Check a bundle's folder, manifest and hashes.

        Raises ModelError, one line with the path, the file or key and what is expected.
        """
        path = Path(path)
        try:
            manifest = _read_manifest(path)
            bundle = cls(path, manifest)
            real = (path / MANIFEST).resolve().parent
            for name in manifest.hashes:
                _plain_file(path, name)
                # A whole bundle may be reached through links (colcon --symlink-install does
                # that file by file, caches of models link to a folder of files named by hash),
                # but no file of it may come from somewhere else.
                if (path / name).resolve().parent != real:
                    raise ModelError(
                        f'{name} is a link to outside the bundle: expected a file in the folder'
                    )
                bundle._check_hash(name, _digest(path / name))
            # A partial manifest left behind by a killed writer is harmless.
            extra = sorted(p.name for p in path.iterdir() if p.suffix != PARTIAL)
            extra = [n for n in extra if n not in (*manifest.hashes, MANIFEST, CARD)]
            if extra:
                raise ModelError(
                    f'has {shown(extra[0])}, which the manifest does not list: expected only '
                    f'{[MANIFEST, *manifest.hashes, CARD]}'
                )
        except ModelError as error:
            raise ModelError(f'bundle {path}: {error}') from error
        except OSError as error:
            raise ModelError(f'bundle {path}: {_reason(error)}') from error
        return bundle

    @property
    def contract(self) -> Contract:
        """The robot contract: ``robot``, or that which the model was trained under."""
        return self.robot or self.manifest.contract

    @cached_property
    def spec(self) -> ModelSpec:
        """The numbers that planning, control and surprise need."""
        manifest = self.manifest
        return ModelSpec(
            name=str(self.path),
            contract=manifest.contract,
            history=manifest.history,
            window=manifest.window,
            frameskip=manifest.frameskip,
            horizon=manifest.horizon,
            latent_size=manifest.latent_size,
            image_size=manifest.image_size,
            camera_period=manifest.camera_period,
            action_mean=np.array(manifest.action_mean),
            action_std=np.array(manifest.action_std),
            camera_size=manifest.camera_size,
        )

    @property
    def block(self) -> float:
        """Duration of a block of k control ticks [s]."""
        return self.spec.block

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of what the model computes; see :attr:`Manifest.model_hash`."""
        return self.manifest.model_hash

    def read(self, name: str) -> bytes:
        """Return a listed file's bytes. Raises ModelError if they changed since loading."""
        try:
            data = read_limited(self.path / name, FILE_LIMIT)
            self._check_hash(name, hashlib.sha256(data).hexdigest())
        except ModelError as error:
            raise ModelError(f'bundle {self.path}: {error}') from error
        except OSError as error:
            raise ModelError(f'bundle {self.path}: {_reason(error)}') from error
        return data

    def surprise_scale(self, horizon: int = 1) -> np.ndarray:
        """Return the (D,) nominal squared error ``horizon`` blocks ahead; ones if unknown."""
        scale = self.manifest.surprise_scale.get(horizon)
        return np.ones(self.manifest.latent_size) if scale is None else np.array(scale)

    def calibration_for(self, alpha: float, horizon: int = 1) -> Calibration | None:
        """Return the thresholds of this model for ``alpha``, or None if it has none.

        ``horizon`` is how many blocks ahead frames are predicted. Raises ModelError where the
        stored one was computed with another model.
        """
        for entry in self.manifest.calibration:
            if entry.horizon == horizon and math.isclose(entry.alpha, alpha, rel_tol=1e-9):
                if entry.model_hash != self.hash:
                    raise ModelError(
                        f'bundle {self.path}: calibration for alpha {alpha} is of model '
                        f'{entry.model_hash[:12]}, the bundle is {self.hash[:12]}: calibrate again'
                    )
                return entry
        return None

    def check_model_of(self, key: str) -> None:
        """Raise ModelError if the file of an entry of :data:`OPTIONAL` is from another model."""
        entry, (name, _, command) = getattr(self.manifest, key), OPTIONAL[key]
        if entry.model_hash != self.hash:
            raise ModelError(
                f'bundle {self.path}: {name} is of model {entry.model_hash[:12]}, the bundle is '
                f'{self.hash[:12]}: run `lewm {command} {self.path} --data BAG...` again'
            )

    def read_arrays(self, key: str, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Read arrays by name from an npz file of :data:`OPTIONAL`.

        Raises ModelError if the file is from another model or is damaged.
        """
        self.check_model_of(key)
        name = OPTIONAL[key][0]
        data = self.read(name)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                return {array: file[array] for array in names}
        except (KeyError, ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ModelError(
                f'bundle {self.path}: {name}: {one_line(error)}; expected arrays {list(names)}'
            ) from error

    def _check_hash(self, name: str, digest: str) -> None:
        expected = self.manifest.hashes[name]
        if digest != expected:
            raise ModelError(
                f'{name} has SHA-256 {digest[:12]}, the manifest says {expected[:12]}: the file '
                'was modified or truncated; restore the bundle from its source'
            )


def write_bundle(path: str | Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> Bundle:
    """Write a bundle, replacing an existing one as a whole, and load it.

    Args:
        path: the bundle's folder; its parent is made if needed.
        manifest: its ``files`` are computed here.
        files: content, or a file to copy, for each of :data:`FILES`; a :data:`CARD` may be
            added, and files of :data:`OPTIONAL` that the manifest has entries for. An entry
            without its file is removed.

    Raises ModelError for wrong names, or if ``path`` is something other than a bundle or cannot
    be written.

    """
    path = Path(path).resolve()
    others = {name: key for key, (name, *_) in OPTIONAL.items()}
    if not set(FILES) <= set(files) <= {*FILES, CARD, *others}:
        raise ModelError(
            f'bundle {path}: given files {sorted(files)}: expected {list(FILES)}, and '
            f'{[CARD, *others]} if any'
        )
    gone: dict[str, Any] = {key: None for name, key in others.items() if name not in files}
    manifest = replace(manifest, **gone)
    refuse_other(path)
    try:
        _write(path, manifest, files)
    except OSError as error:
        raise ModelError(f'bundle {path}: cannot be written: {_reason(error)}') from error
    return Bundle.load(path)


def _write(path: Path, manifest: Manifest, files: Mapping[str, bytes | Path]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    new = new_folder(path)
    try:
        for name, content in files.items():
            data = content.read_bytes() if isinstance(content, Path) else content
            (new / name).write_bytes(data)
        manifest = replace(manifest, files={name: _digest(new / name) for name in FILES})
        (new / MANIFEST).write_bytes(_encode(manifest))
        new.chmod(0o755)
        for written in (*new.iterdir(), new):
            sync(written)
        put(new, path)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def rewrite_manifest(path: str | Path, manifest: Manifest) -> Bundle:
    """Replace a bundle's manifest, atomically (a new calibration, say), and load the bundle.

    The entries of :data:`OPTIONAL` stay those of the files in the folder.

    Raises ModelError if the new manifest describes another model.
    """
    bundle = Bundle.load(path)
    if manifest.model_hash != bundle.hash:
        raise ModelError(
            f'bundle {path}: the new manifest is of model {manifest.model_hash[:12]}, the bundle '
            f'is {bundle.hash[:12]}: only {list(DESCRIPTIVE)} may change; write a new bundle'
        )
    kept: dict[str, Any] = {key: getattr(bundle.manifest, key) for key in OPTIONAL}
    manifest = replace(manifest, **kept)
    target = (bundle.path / MANIFEST).resolve()
    # Not in place in a cache of models, whose files are named by their content.
    if target.name != MANIFEST or not os.access(target.parent, os.W_OK):
        return write_bundle(path, manifest, _files(bundle))
    with atomic_write(target) as partial:
        partial.write_bytes(_encode(manifest))
    return Bundle.load(path)


def add_file(bundle: Bundle, key: str, content: bytes, **figures: Any) -> Bundle:
    """Add a file of :data:`OPTIONAL` to a bundle, replacing an existing one.

    ``figures`` are the fields of its entry other than the two hashes. The model stays the same.
    Raises ModelError if the folder holds another model by now.
    """
    file, kind, command = OPTIONAL[key]
    digest = hashlib.sha256(content).hexdigest()
    entry = kind(sha256=digest, model_hash=bundle.hash, **figures)
    now = Bundle.load(bundle.path)
    if now.hash != bundle.hash:
        raise ModelError(
            f'bundle {bundle.path} was replaced by model {now.hash[:12]} meanwhile: run '
            f'`lewm {command}` again'
        )
    files = _files(now)
    files[file] = content
    added: dict[str, Any] = {key: entry}
    return write_bundle(bundle.path, replace(now.manifest, **added), files)


def _files(bundle: Bundle) -> dict[str, bytes | Path]:
    names = (*bundle.manifest.hashes, CARD)
    return {name: bundle.path / name for name in names if (bundle.path / name).is_file()}


def _read_manifest(path: Path) -> Manifest:
    if not path.is_dir():
        raise ModelError(f'no such folder: expected one with {MANIFEST} and {list(FILES)}')
    file = _plain_file(path, MANIFEST)
    try:
        data = json.loads(read_limited(file, MANIFEST_LIMIT))
    except ValueError as error:
        raise ModelError(f'{MANIFEST} is not JSON ({one_line(error)})') from error
    try:
        return Manifest.from_dict(data)
    except CheckError as error:
        raise ModelError(f'{MANIFEST}: {error}') from error


def _plain_file(path: Path, name: str) -> Path:
    if not (path / name).is_file():
        raise ModelError(f'{name} is missing or not a regular file: expected it in the folder')
    return path / name


def _encode(manifest: Manifest) -> bytes:
    return (json.dumps(manifest.to_dict(), indent=2, allow_nan=False) + '\n').encode()


def _digest(path: Path) -> str:
    check_size(path, FILE_LIMIT)
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def _reason(error: OSError) -> str:
    name = Path(error.filename).name if error.filename else 'folder'
    return f'{name}: {error.strerror or error}'
