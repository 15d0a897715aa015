# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The default engine: a bundle's two ONNX graphs in onnxruntime. Imports no torch."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from lewm_ros.bundle import ENCODER, ROLLOUT, Bundle
from lewm_ros.engines.base import check_image, check_rollout
from lewm_ros.errors import EngineError
from lewm_ros.imaging import normalise

PROVIDERS = ('CUDAExecutionProvider', 'CPUExecutionProvider')  #: the first available one runs

# In an ONNX file a tensor that lies elsewhere (another file, an address) says so in an entry
# with the key 'location': protobuf field 1, length 8, then the word. Both numbers may be padded.
_EXTERNAL = re.compile(rb'(?:\x0a|\x8a\x80*\x00)(?:\x08|\x88\x80*\x00)location')


class OnnxRuntimeEngine:
    """Runs ``encoder.onnx`` and ``rollout.onnx``; see :class:`lewm_ros.engines.Engine`."""

    name = 'onnxruntime'

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        self._manifest = manifest = bundle.manifest
        size, latent = manifest.image_size, manifest.latent_size
        block = manifest.frameskip * manifest.contract.action.size
        self._encoder = _session(bundle, ENCODER, threads)
        self._rollout = _session(bundle, ROLLOUT, threads)
        self.provider: str = self._rollout.get_providers()[0]
        _check(bundle, ENCODER, self._encoder.get_inputs(), {'pixels': [1, 3, size, size]})
        _check(bundle, ENCODER, self._encoder.get_outputs(), {'latent': [1, latent]})
        inputs: dict[str, list[int | None]] = {
            'context': [manifest.history, latent],
            'past': [manifest.history - 1, block],
            'actions': [None, manifest.horizon, block],
        }
        _check(bundle, ROLLOUT, self._rollout.get_inputs(), inputs)
        outputs: dict[str, list[int | None]] = {'latents': [None, manifest.horizon, latent]}
        _check(bundle, ROLLOUT, self._rollout.get_outputs(), outputs)

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Encode a prepared image (S, S, 3) uint8 to its latent (D,) float32."""
        check_image(self._manifest, image)
        return self._encoder.run(None, {'pixels': normalise(image)[None]})[0][0]

    def rollout(self, context: np.ndarray, past: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Predict (S, N', D) latents; see :meth:`lewm_ros.engines.Engine.rollout`."""
        check_rollout(self._manifest, context, past, actions)
        samples, steps, block = actions.shape
        if steps < self._manifest.horizon:  # the graph's length is fixed; a prefix is cut from it
            padded = np.zeros((samples, self._manifest.horizon, block), dtype=np.float32)
            padded[:, :steps] = actions
            actions = padded
        feed = {'context': context, 'past': past, 'actions': actions}
        feed = {name: np.ascontiguousarray(array, np.float32) for name, array in feed.items()}
        return self._rollout.run(None, feed)[0][:, :steps]


def _session(bundle: Bundle, file: str, threads: int) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise EngineError(
            f'the onnxruntime engine cannot be imported ({error}): install one of '
            "'lewm_ros[cpu]' and 'lewm_ros[gpu]'"
        ) from error
    data = bundle.read(file)
    if _EXTERNAL.search(data):
        raise EngineError(
            f'bundle {bundle.path}: {file} keeps tensors outside the file: expected a single-file '
            'ONNX graph'
        )
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would burn the cores that the other nodes need between two calls.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    available = onnxruntime.get_available_providers()
    # TF32 would move latents by more than the engines may differ.
    providers: list[Any] = [
        (p, {'use_tf32': '0'}) if p == 'CUDAExecutionProvider' else p
        for p in PROVIDERS
        if p in available
    ]
    try:
        return onnxruntime.InferenceSession(data, options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common base
        raise EngineError(
            f'bundle {bundle.path}: onnxruntime cannot load {file}: {" ".join(str(error).split())}'
        ) from error


def _check(bundle: Bundle, file: str, nodes: Any, expected: dict[str, list[int | None]]) -> None:
    """Compare a graph's inputs or outputs with the manifest; None stands for any size."""
    found = {node.name: (node.type, node.shape) for node in nodes}
    for name, shape in expected.items():
        kind, sizes = found.get(name, ('nothing', []))
        fits = len(sizes) == len(shape) and all(
            want is None or have == want for have, want in zip(sizes, shape)
        )
        if kind != 'tensor(float)' or not fits:
            raise EngineError(
                f'bundle {bundle.path}: {file} has {kind} {sizes} for {name!r}: the manifest needs '
                f'tensor(float) {["S" if n is None else n for n in shape]}'
            )
    if len(found) != len(expected):
        raise EngineError(
            f'bundle {bundle.path}: {file} has {sorted(found)}: expected {sorted(expected)}'
        )
