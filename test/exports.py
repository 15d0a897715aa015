# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A cache of exported graphs, because one export takes seconds."""

from __future__ import annotations

from collections.abc import Callable
import hashlib
from pathlib import Path
import tempfile

from lewm_ros.model import LeWorldModel
from lewm_ros.training import export

_export_graphs = export.export_graphs


def kept_in(folder: Path, weights: bool) -> Callable[..., dict[str, bytes]]:
    """Return an ``export_graphs`` that caches its results for other tests and processes.

    Args:
        folder: existing folder for the files.
        weights: whether other weights are exported anew. If not, the graphs are those of the
            first network of a shape, which is enough for tests that do not run them.

    """

    def export_graphs(model: LeWorldModel, *sizes: int | None) -> dict[str, bytes]:
        key = repr((model.config, sizes)).encode()
        key += export.export_weights(model) if weights else b''
        place = folder / hashlib.sha256(key).hexdigest()
        if not place.exists():
            made = Path(tempfile.mkdtemp(dir=folder))
            for name, data in _export_graphs(model, *sizes).items():
                (made / name).write_bytes(data)
            if not place.exists():  # another process may have been faster
                made.rename(place)
        return {file.name: file.read_bytes() for file in place.iterdir()}

    return export_graphs
