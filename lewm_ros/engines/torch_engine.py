# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bundle's weights in torch, on CUDA where there is one: the fallback, and the reference."""

from __future__ import annotations

import numpy as np

from lewm_ros.bundle import WEIGHTS, Bundle
from lewm_ros.engines.base import check_image, check_rollout, choose_precision, cpu_has_bf16
from lewm_ros.errors import BundleError, EngineError, ModelError, one_line
from lewm_ros.imaging import normalise
from lewm_ros.tensors import read_tensors

try:
    import torch

    from lewm_ros.engines.device_search import DeviceSearch
    from lewm_ros.model import FastRollout, LeWorldModel, ModelConfig
except ImportError as missing:
    raise EngineError(
        f"the torch engine cannot be imported ({missing}): install 'lewm_ros[train]'"
    ) from missing


def load_model(bundle: Bundle) -> LeWorldModel:
    """Return a bundle's network with its weights, on the CPU.

    Raises BundleError if the weights are not those of the manifest's architecture.
    """
    found = read_tensors(bundle.read(WEIGHTS))
    try:
        with torch.device('meta'):  # shapes only: wrong sizes must not cost memory
            model = LeWorldModel(ModelConfig.parse(bundle.manifest.architecture))
        expected = model.state_dict()
        for name in sorted(found.keys() | expected.keys()):
            have, want = _kind(found.get(name)), _kind(expected.get(name))
            if have != want:
                raise ModelError(f'{name} is {have}, expected {want}')
    except (ModelError, RuntimeError) as error:
        raise BundleError(
            f"bundle {bundle.path}: {WEIGHTS} does not fit the manifest's architecture: "
            f'{one_line(error)}'
        ) from error
    state = {name: torch.from_numpy(array) for name, array in found.items()}
    model.load_state_dict(state, assign=True)
    return model


def _kind(tensor: np.ndarray | torch.Tensor | None) -> str:
    if tensor is None:
        return 'missing'
    return f'{str(tensor.dtype).removeprefix("torch.")} {list(tensor.shape)}'


class ReferenceEngine:
    """The model as published, with its plain sliding-window rollout, in f32: the oracle.

    See :class:`lewm_ros.engines.Engine`. Every other engine must give the same latents.

    Args:
        bundle: what to run.
        threads: of one call; they are set for the whole process.
        precision: 'auto' and 'f32' are the same.
        provider: a torch device; '' for CUDA if it is there, else the CPU.
        horizon: longest rollout [blocks].

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
        # As in the onnxruntime engine: TF32 would move latents by more than engines may differ.
        torch.backends.cudnn.allow_tf32 = False

    def _choose_precision(self, asked: str, provider: str) -> str:
        return choose_precision(asked, False, 'the reference engine')

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> np.ndarray:
        """Encode a prepared image (S, S, 3) uint8 to its latent (D,) float32."""
        check_image(self._manifest, image)
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


#: Captured searches kept: two sizes for cold and warm ones, as often with and without a block.
SEARCHES = 4


class TorchEngine(ReferenceEngine):
    """The same with :class:`lewm_ros.model.FastRollout`; 'auto' takes bf16 where it is native."""

    name = 'torch'

    def __init__(
        self, bundle: Bundle, threads: int, precision: str, provider: str, horizon: int
    ) -> None:
        super().__init__(bundle, threads, precision, provider, horizon)
        self._exact = FastRollout(self._model)
        self._fast = (
            self._exact if self.precision == 'f32' else FastRollout(self._model, torch.bfloat16)
        )
        self._searches: dict[tuple[int, int, int, bool], DeviceSearch] = {}

    def search(
        self, samples: int, elites: int, blocks: int, shared_first: bool, seed: int
    ) -> DeviceSearch | None:
        """Return a search whose iterations run on the GPU; None on a CPU, where numpy is as fast.

        The first call with other sizes takes seconds, for the capture; later ones return the
        same object, seeded anew.

        Args:
            samples: S, candidates in an iteration.
            elites: best of them that the next mean is computed from.
            blocks: T, free blocks of a plan.
            shared_first: whether they follow a block that all candidates share and ``load`` is
                given; False where the context already includes it.
            seed: of the noise; equal ones give equal searches.

        Raises ModelError if a size makes no sense, EngineError if CUDA refuses the capture.

        """
        if not self.provider.startswith('cuda'):
            return None
        if blocks + shared_first > self._horizon:
            raise ModelError(
                f'search has {blocks + shared_first} blocks: the engine rolls out at most '
                f'{self._horizon}'
            )
        sizes = samples, elites, blocks, shared_first
        search = self._searches.pop(sizes, None)
        if search is None:
            if len(self._searches) >= SEARCHES:  # the least used: each holds memory of the GPU
                self._searches.pop(next(iter(self._searches)))
            search = DeviceSearch(self._manifest, self._exact, self._fast, *sizes)
        self._searches[sizes] = search
        search.seed(seed)
        return search

    def _choose_precision(self, asked: str, provider: str) -> str:
        cuda = provider.startswith('cuda') or (not provider and torch.cuda.is_available())
        native = torch.cuda.is_bf16_supported() if cuda else cpu_has_bf16()
        return choose_precision(asked, native, f'torch on {"CUDA" if cuda else "this processor"}')

    def _roll(
        self, context: torch.Tensor, past: torch.Tensor, actions: torch.Tensor, exact: bool
    ) -> torch.Tensor:
        return torch.stack((self._exact if exact else self._fast)(context, past, actions), dim=1)
