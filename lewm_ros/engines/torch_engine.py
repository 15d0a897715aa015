# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The reference engine: a bundle's weights in torch, float32, on CUDA where there is one."""

from __future__ import annotations

import numpy as np

from lewm_ros.bundle import WEIGHTS, Bundle
from lewm_ros.engines.base import check_image, check_rollout
from lewm_ros.errors import BundleError, EngineError, ModelError
from lewm_ros.imaging import normalise

try:
    from safetensors import SafetensorError
    from safetensors.torch import load
    import torch

    from lewm_ros.model import LeWorldModel, ModelConfig
except ImportError as missing:
    raise EngineError(
        f"the torch engine cannot be imported ({missing}): install 'lewm_ros[train]'"
    ) from missing


class TorchEngine:
    """Runs ``weights.safetensors``; see :class:`lewm_ros.engines.Engine`."""

    name = 'torch'

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self._manifest = bundle.manifest
        try:
            model = LeWorldModel(ModelConfig.parse(bundle.manifest.architecture))
            model.load_state_dict(load(bundle.read(WEIGHTS)))
        except (ModelError, SafetensorError, RuntimeError) as error:
            raise BundleError(
                f"bundle {bundle.path}: {WEIGHTS} does not fit the manifest's architecture: "
                f'{" ".join(str(error).split())}'
            ) from error
        self.provider = 'cuda' if torch.cuda.is_available() else 'cpu'
        self._model = model.to(self.provider).eval()
        # As in the onnxruntime engine: TF32 would move latents by more than the two may differ.
        torch.backends.cudnn.allow_tf32 = False

    @torch.inference_mode()
    def encode(self, image: np.ndarray) -> np.ndarray:
        """Encode a prepared image (S, S, 3) uint8 to its latent (D,) float32."""
        check_image(self._manifest, image)
        return self._model.encode(self._tensor(normalise(image)[None]))[0, 0].cpu().numpy()

    @torch.inference_mode()
    def rollout(self, context: np.ndarray, past: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Predict (S, N', D) latents; see :meth:`lewm_ros.engines.Engine.rollout`."""
        check_rollout(self._manifest, context, past, actions)
        arrays = (self._tensor(array) for array in (context, past, actions))
        return self._model.rollout(*arrays)[0].cpu().numpy()

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        """Copy to float32 on the device, with a batch axis of one in front."""
        return torch.tensor(array[None], dtype=torch.float32, device=self.provider)
