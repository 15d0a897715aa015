# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bundle's weights in torch, on CUDA where there is one: the fallback, and the reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from lewm_ros.bundle import WEIGHTS, Bundle
from lewm_ros.engines.base import Engine, check_image, check_rollout, choose_precision, cpu_has_bf16
from lewm_ros.engines.graphs import encoder_graph
from lewm_ros.errors import EngineError, ModelError, one_line
from lewm_ros.install import how_to_install
from lewm_ros.robot.imaging import normalise

try:
    from safetensors import SafetensorError
    from safetensors.torch import load
    import torch

    from lewm_ros.engines.cuda_graph import CapturedCall
    from lewm_ros.model import BatchedRollout, FastRollout, LeWorldModel, ModelConfig
except ImportError as missing:
    raise EngineError(
        f'the torch engine cannot be imported ({missing}): {how_to_install("train")}'
    ) from missing


def load_model(bundle: Bundle) -> LeWorldModel:
    """Return a bundle's network with its weights, on the CPU.

    Raises ModelError if the weights do not match the manifest's architecture.
    """
    data = bundle.read(WEIGHTS)
    try:
        found = load(data)
    except SafetensorError as error:
        raise ModelError(
            f'bundle {bundle.path}: {WEIGHTS} is not a safetensors file ({one_line(error)})'
        ) from error
    try:
        with torch.device('meta'):  # shapes only: wrong sizes must not cost memory
            model = LeWorldModel(ModelConfig.parse(bundle.manifest.architecture))
        expected = model.state_dict()
        for name in sorted(found.keys() | expected.keys()):
            have, want = _kind(found.get(name)), _kind(expected.get(name))
            if have != want:
                raise ModelError(f'{name} is {have}, expected {want}')
    except (ModelError, RuntimeError) as error:
        raise ModelError(
            f"bundle {bundle.path}: {WEIGHTS} does not fit the manifest's architecture: "
            f'{one_line(error)}'
        ) from error
    model.load_state_dict(found, assign=True)
    return model


def _kind(tensor: torch.Tensor | None) -> str:
    if tensor is None:
        return 'missing'
    return f'{str(tensor.dtype).removeprefix("torch.")} {list(tensor.shape)}'


class ReferenceEngine(Engine):
    """The model as published, with its plain sliding-window rollout, in f32: the oracle.

    See :class:`lewm_ros.engines.Engine`. Every other engine must give the same latents.

    Args:
        bundle: what to run.
        threads: of one call; they are set for the whole process.
        precision: 'auto' and 'f32' are the same.
        provider: a torch device; '' for CUDA if it is there, else the CPU.
        horizon: longest rollout [blocks].

    A frozen encoder has no weights in the bundle: onnxruntime runs its graph.

    """

    name = 'reference'

    def __init__(
        self, bundle: Bundle, threads: int, precision: str, provider: str, horizon: int
    ) -> None:
        torch.set_num_threads(threads)
        self._manifest, self._horizon = bundle.manifest, horizon
        self.precision = self._choose_precision(precision, provider)
        model = load_model(bundle)
        self.provider = provider or ('cuda' if torch.cuda.is_available() else 'cpu')
        try:
            self._model = model.to(self.provider).eval().requires_grad_(False)
        except (AssertionError, RuntimeError) as error:
            raise EngineError(
                f"provider is '{provider}': torch cannot use it ({one_line(error)})"
            ) from error
        self._encoder: Any = None
        if model.config.encoder == 'onnx':
            from lewm_ros.engines.onnxruntime_engine import make_session

            kind = '' if self.provider.startswith('cuda') else 'CPUExecutionProvider'
            name = f'bundle {bundle.path}'
            self._encoder = make_session(name, encoder_graph(bundle), threads, kind)
        # As in the onnxruntime engine: TF32 would change latents by more than engines may differ.
        torch.backends.cudnn.allow_tf32 = False

    def _choose_precision(self, asked: str, provider: str) -> str:
        return choose_precision(asked, False, 'the reference engine')

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> np.ndarray:
        """Encode a prepared image (S, S, 3) uint8 to its latent (D,) float32."""
        check_image(self._manifest, image)
        if self._encoder is not None:
            return self._encoder.run(None, {'pixels': normalise(image)[None]})[0][0]
        return self._model.encode(self._tensor(normalise(image))[None, None])[0, 0].cpu().numpy()

    @torch.inference_mode()
    def rollout(
        self, context: np.ndarray, past: np.ndarray, actions: np.ndarray, exact: bool = True
    ) -> np.ndarray:
        """Predict (S, N', D) latents; see :meth:`lewm_ros.engines.Engine.rollout`."""
        check_rollout(self._manifest, self._horizon, context, past, actions)
        return (
            self._roll(self._tensor(context), self._tensor(past), self._tensor(actions), exact)
            .cpu()
            .numpy()
        )

    def _roll(
        self, context: torch.Tensor, past: torch.Tensor, actions: torch.Tensor, exact: bool
    ) -> torch.Tensor:
        return self._model.rollout(context[None], past[None], actions[None])[0]

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """Copy to float32 on the device."""
        return torch.tensor(array, dtype=torch.float32, device=self.provider)


#: Captured graphs kept, least recently used out first; a planner with a roadmap needs up to twelve.
GRAPHS = 16


def _rolled_cost(
    rollout: Callable[..., torch.Tensor],
    cost: Callable[..., torch.Tensor],
    context: torch.Tensor,
    past: torch.Tensor,
    actions: torch.Tensor,
    *arrays: torch.Tensor,
) -> torch.Tensor:
    return cost(rollout(context, past, actions), *arrays)


def _latents(latents: torch.Tensor) -> torch.Tensor:
    return latents


class TorchEngine(ReferenceEngine):
    """The same model, rearranged for speed; 'auto' takes bf16 where it is native.

    On a CPU the rollout is :class:`lewm_ros.model.FastRollout`. On CUDA it is
    :class:`lewm_ros.model.BatchedRollout`, compiled by ``torch.compile`` at the first call, which
    takes half a minute the first time on a machine. Encoder and rollouts then run as captured CUDA
    graphs, one for each number of samples and blocks.
    """

    name = 'torch'

    def __init__(
        self, bundle: Bundle, threads: int, precision: str, provider: str, horizon: int
    ) -> None:
        super().__init__(bundle, threads, precision, provider, horizon)
        self.captures = self.provider.startswith('cuda')
        self._exact = self._make_rollout(torch.float32)
        self._fast = self._exact if self.precision == 'f32' else self._make_rollout(torch.bfloat16)
        self._graphs: dict[tuple[object, ...], CapturedCall] = {}

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Encode a prepared image (S, S, 3) uint8 to its latent (D,) float32."""
        if not self.captures or self._encoder is not None:
            return super().encode(image)
        check_image(self._manifest, image)
        return self._captured(('encode',), self._model.encode, normalise(image)[None, None])[0, 0]

    def rollout(
        self, context: np.ndarray, past: np.ndarray, actions: np.ndarray, exact: bool = True
    ) -> np.ndarray:
        """Predict (S, N', D) latents; see :meth:`lewm_ros.engines.Engine.rollout`."""
        if not self.captures:
            return super().rollout(context, past, actions, exact)
        return self.costs(context, past, actions, _latents, (), exact)

    def costs(
        self,
        context: np.ndarray,
        past: np.ndarray,
        actions: np.ndarray,
        cost: Callable[..., Any],
        arrays: Sequence[np.ndarray],
        exact: bool = True,
    ) -> np.ndarray:
        """Costs (S,) of candidate plans; see :meth:`lewm_ros.engines.Engine.costs`."""
        if not self.captures:
            return super().costs(context, past, actions, cost, arrays, exact)
        check_rollout(self._manifest, self._horizon, context, past, actions)
        rollout = self._exact if exact else self._fast
        count = len(actions)
        if count == 1:  # torch.compile specialises on size 1
            actions = np.repeat(actions, 2, axis=0)
        inputs = context, past, actions, *arrays
        key = rollout is self._exact, cost, *(np.shape(array) for array in inputs)
        return self._captured(key, partial(_rolled_cost, rollout, cost), *inputs)[:count]

    def _make_rollout(self, precision: torch.dtype) -> FastRollout | BatchedRollout:
        if not self.captures:
            return FastRollout(self._model, precision)
        rollout = BatchedRollout(self._model, precision)
        rollout.step.compile(dynamic=True)
        return rollout

    def _captured(
        self, key: tuple[object, ...], function: Callable[..., torch.Tensor], *arrays: np.ndarray
    ) -> np.ndarray:
        graph = self._graphs.pop(key, None)
        if graph is None:
            if len(self._graphs) >= GRAPHS:  # each holds GPU memory
                self._graphs.pop(next(iter(self._graphs)))
            graph = CapturedCall(function, [np.shape(array) for array in arrays], self.provider)
        self._graphs[key] = graph
        return graph(*arrays)

    def _choose_precision(self, asked: str, provider: str) -> str:
        cuda = provider.startswith('cuda') or (not provider and torch.cuda.is_available())
        native = torch.cuda.is_bf16_supported() if cuda else cpu_has_bf16()
        return choose_precision(asked, native, f'torch on {"CUDA" if cuda else "this processor"}')

    def _roll(
        self, context: torch.Tensor, past: torch.Tensor, actions: torch.Tensor, exact: bool
    ) -> torch.Tensor:
        rollout: Any = self._exact if exact else self._fast
        return torch.stack(rollout(context, past, actions), dim=1)
