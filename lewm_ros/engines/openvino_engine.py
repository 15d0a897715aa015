# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""An extra engine: a bundle's two ONNX graphs in OpenVINO, the fastest on x86 processors."""

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
    import openvino
except ImportError as missing:
    raise EngineError(
        f'the openvino engine cannot be imported ({missing}): {how_to_install("openvino")}'
    ) from missing

#: The only core of this process, never released. Releasing a core unloads its CPU plugin, which
#: installs a signal stack for the thread that loads it and frees that stack when unloaded, in any
#: thread and order (2026.4.1): a stop signal to the first thread would then kill the process.
CORE = openvino.Core()


class OpenVinoEngine(Engine):
    """Runs ``encoder.onnx`` and ``rollout.onnx``; see :class:`lewm_ros.engines.Engine`.

    A rollout is compiled for each number of samples, at the first call with it. It runs 5 to 15 %
    faster than one compiled for a dynamic number.

    Args:
        bundle: what to run.
        threads: of one call.
        precision: 'auto' takes bf16 where the device multiplies it natively.
        provider: an OpenVINO device, such as 'CPU' or 'GPU'; '' for the CPU.
        horizon: longest rollout [blocks].

    """

    name = 'openvino'

    def __init__(
        self, bundle: Bundle, threads: int, precision: str, provider: str, horizon: int
    ) -> None:
        self._bundle, self._manifest, self._horizon = bundle, bundle.manifest, horizon
        self.provider = provider or 'CPU'
        if self.provider not in CORE.available_devices:
            raise EngineError(f"provider is '{provider}': OpenVINO finds {CORE.available_devices}")
        native = 'BF16' in CORE.get_property(self.provider, 'OPTIMIZATION_CAPABILITIES')
        self.precision = choose_precision(precision, native, f'OpenVINO on {self.provider}')
        self._threads = threads
        self._encoder = self._compiled(self._read(encoder_graph(bundle)), 'f32')
        self._graph = rollout_graph(bundle, horizon)
        self._rollouts: dict[tuple[int, str], Any] = {}

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Encode a prepared image (S, S, 3) uint8 to its latent (D,) float32."""
        check_image(self._manifest, image)
        self._encoder.infer({'pixels': normalise(image)[None]})
        return self._encoder.get_output_tensor(0).data[0].copy()

    def rollout(
        self, context: np.ndarray, past: np.ndarray, actions: np.ndarray, exact: bool = True
    ) -> np.ndarray:
        """Predict (S, N', D) latents; see :meth:`lewm_ros.engines.Engine.rollout`."""
        check_rollout(self._manifest, self._horizon, context, past, actions)
        key = len(actions), 'f32' if exact else self.precision
        if key not in self._rollouts:
            model = self._read(self._graph)
            shapes = {port.get_any_name(): port.get_partial_shape() for port in model.inputs}
            shapes['actions'][0] = len(actions)
            model.reshape(shapes)
            self._rollouts[key] = self._compiled(model, key[1])
        request = self._rollouts[key]
        request.infer(rollout_feed(self._manifest, context, past, actions))
        steps = range(actions.shape[1])
        return np.stack([request.get_output_tensor(step).data for step in steps], axis=1)

    def _read(self, graph: bytes) -> Any:
        try:
            return CORE.read_model(graph)
        except RuntimeError as error:
            raise EngineError(
                f'bundle {self._bundle.path}: OpenVINO cannot load one of its graphs: '
                f'{one_line(error)}'
            ) from error

    def _compiled(self, model: Any, precision: str) -> Any:
        settings: dict[str, Any] = {'INFERENCE_PRECISION_HINT': precision, 'NUM_STREAMS': 1}
        if self.provider == 'CPU':
            settings['INFERENCE_NUM_THREADS'] = self._threads
            settings['ENABLE_CPU_PINNING'] = False  # other nodes use the cores too
            # OpenVINO 2026.4 crashes in its snippets pass when it compiles a rollout of few
            # samples for one thread; without that pass it runs no slower and compiles faster.
            settings['SNIPPETS_MODE'] = 'DISABLE'
        return CORE.compile_model(model, self.provider, settings).create_infer_request()
