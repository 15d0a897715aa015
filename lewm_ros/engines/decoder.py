# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Decoder of a bundle: latents back to images, to visualise what the model expects."""

from __future__ import annotations

import numpy as np

from lewm_ros.bundle import DECODER, Bundle
from lewm_ros.engines.graphs import decoder_graph
from lewm_ros.errors import ModelError


class Decoder:
    """Runs ``decoder.onnx`` in onnxruntime, on one thread of the CPU.

    Args:
        bundle: with a decoder of its model.

    Attributes:
        size: width and height of the images [px].

    Raises ModelError where there is none, or one of another model, and EngineError without
    onnxruntime.

    """

    def __init__(self, bundle: Bundle) -> None:
        entry = bundle.manifest.decoder
        if entry is None:
            raise ModelError(
                f'bundle {bundle.path} has no {DECODER}: run '
                f'`lewm decoder {bundle.path} --data BAG...`'
            )
        bundle.check_model_of('decoder')
        from lewm_ros.engines.onnxruntime_engine import make_session

        self.size = entry.size
        graph = decoder_graph(bundle, entry.size)
        self._session = make_session(f'bundle {bundle.path}', graph, 1, 'CPUExecutionProvider')

    def __call__(self, latents: np.ndarray) -> np.ndarray:
        """Return the images (n, size, size, 3) uint8 RGB of latents (n, D)."""
        given = np.ascontiguousarray(latents, np.float32)
        return np.rint(self._session.run(None, {'latents': given})[0]).astype(np.uint8)
