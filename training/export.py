# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From a torch model to the two ONNX graphs and the weights of a bundle."""

from __future__ import annotations

import logging
from pathlib import Path
import tempfile
import warnings

from safetensors.torch import save
import torch
from torch import nn

from lewm_ros.model import LeWorldModel


class EncoderGraph(nn.Module):
    """pixels (1, 3, S, S) normalised to latent (1, D)."""

    def __init__(self, model: LeWorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode one frame."""
        return self.model.encode(pixels[:, None])[:, 0]


class RolloutGraph(nn.Module):
    """context (H, D), past (H − 1, k·A), actions (S, N, k·A) to latents (S, N, D)."""

    def __init__(self, model: LeWorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, context: torch.Tensor, past: torch.Tensor, actions: torch.Tensor
    ) -> torch.Tensor:
        """Roll S plans out from one context."""
        return self.model.rollout(context[None], past[None], actions[None])[0]


def export_files(model: LeWorldModel, horizon: int) -> dict[str, bytes]:
    """Weights and graphs of a bundle by file name.

    Args:
        model: any mode and device; it is left as it was.
        horizon: N, the longest plan of the rollout graph in blocks.

    """
    config = model.config
    state = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    copy = LeWorldModel(config)
    copy.load_state_dict(state)
    copy.eval()
    size, block = config.image_size, config.block_size
    samples = torch.export.Dim('samples', min=1, max=65536)
    encoder = _graph(EncoderGraph(copy), {'pixels': torch.zeros(1, 3, size, size)}, 'latent', None)
    rollout = _graph(
        RolloutGraph(copy),
        {
            'context': torch.zeros(config.history, config.latent_size),
            'past': torch.zeros(config.history - 1, block),
            'actions': torch.zeros(2, horizon, block),
        },
        'latents',
        {'context': None, 'past': None, 'actions': {0: samples}},
    )
    return {'weights.safetensors': save(state), 'encoder.onnx': encoder, 'rollout.onnx': rollout}


def _graph(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    output: str,
    dynamic: dict[str, dict[int, object] | None] | None,
) -> bytes:
    # Both report at length on optional operators that these graphs do not have.
    for name in ('onnxscript', 'torch.onnx._internal.exporter._registration'):
        logging.getLogger(name).setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter('ignore')
        path = Path(folder) / 'graph.onnx'
        torch.onnx.export(
            module,
            tuple(inputs.values()),
            path,
            input_names=list(inputs),
            output_names=[output],
            dynamic_shapes=dynamic,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        return path.read_bytes()
