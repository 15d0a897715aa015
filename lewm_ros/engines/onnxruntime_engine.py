# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The default engine: a bundle's two ONNX graphs in onnxruntime. Imports no torch."""

from __future__ import annotations

from typing import Any

import numpy as np

from lewm_ros.bundle import Bundle
from lewm_ros.engines.base import Engine, check_image, check_rollout, choose_precision
from lewm_ros.engines.graphs import encoder_graph, rollout_feed, rollout_graph
from lewm_ros.errors import EngineError, one_line
from lewm_ros.install import how_to_install
from lewm_ros.robot.imaging import normalise

try:
    import onnxruntime
except ImportError as missing:
    raise EngineError(
        f'the onnxruntime engine cannot be imported ({missing}): {how_to_install("cpu")} '
        '(for CUDA: onnxruntime-gpu in place of onnxruntime)'
    ) from missing

PROVIDERS = ('CUDAExecutionProvider', 'CPUExecutionProvider')  #: the first available one runs


class OnnxRuntimeEngine(Engine):
    """Runs ``encoder.onnx`` and ``rollout.onnx``; see :class:`lewm_ros.engines.Engine`.

    Args:
        bundle: what to run.
        threads: of one call.
        precision: 'auto' and 'f32' are the same: onnxruntime has no bfloat16 products on CPUs.
        provider: an execution provider of the installed onnxruntime; '' for CUDA if it is
            there, else the CPU.
        horizon: longest rollout [blocks].

    """

    name = 'onnxruntime'

    def __init__(
        self, bundle: Bundle, threads: int, precision: str, provider: str, horizon: int
    ) -> None:
        self._manifest, self._horizon = bundle.manifest, horizon
        self.precision = choose_precision(precision, False, 'onnxruntime')
        name = f'bundle {bundle.path}'
        self._encoder = make_session(name, encoder_graph(bundle), threads, provider)
        self._rollout = make_session(name, rollout_graph(bundle, horizon), threads, provider)
        self.provider: str = self._rollout.get_providers()[0]

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Encode a prepared image (S, S, 3) uint8 to its latent (D,) float32."""
        check_image(self._manifest, image)
        return self._encoder.run(None, {'pixels': normalise(image)[None]})[0][0]

    def rollout(
        self, context: np.ndarray, past: np.ndarray, actions: np.ndarray, exact: bool = True
    ) -> np.ndarray:
        """Predict (S, N', D) latents; see :meth:`lewm_ros.engines.Engine.rollout`."""
        check_rollout(self._manifest, self._horizon, context, past, actions)
        latents = self._rollout.run(None, rollout_feed(self._manifest, context, past, actions))
        return np.stack(latents[: actions.shape[1]], axis=1)


def make_session(name: str, graph: bytes, threads: int, provider: str) -> Any:
    """Load a graph; ``name`` is for errors, for the last two see :class:`OnnxRuntimeEngine`."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Between calls, spinning threads would occupy cores that the other nodes need.
    options.add_session_config_entry('session.intra_op.allow_spinning', '0')
    available = onnxruntime.get_available_providers()
    if provider and provider not in available:
        raise EngineError(f"provider is '{provider}': this onnxruntime has {available}")
    wanted = (provider,) if provider else PROVIDERS
    # TF32 would change latents by more than the engines may differ.
    providers: list[Any] = [
        (p, {'use_tf32': '0'}) if p == 'CUDAExecutionProvider' else p
        for p in wanted
        if p in available
    ]
    try:
        return onnxruntime.InferenceSession(graph, options, providers=providers)
    except Exception as error:  # onnxruntime's errors have no common base
        raise EngineError(
            f'{name}: onnxruntime cannot load one of its graphs: {one_line(error)}'
        ) from error
