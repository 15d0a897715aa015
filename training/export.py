# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""From a torch model to the two ONNX graphs and the weights of a bundle."""

from __future__ import annotations

from dataclasses import replace
import logging
from pathlib import Path
import tempfile
import warnings

import onnx
from safetensors.torch import save
import torch
from torch import nn

from lewm_ros.bundle import CARD, Bundle, check_writable, write_bundle
from lewm_ros.bundle.manifest import ENCODER, MAX_BLOCKS, ROLLOUT, WEIGHTS
from lewm_ros.engines.graphs import latent_names
from lewm_ros.engines.torch_engine import load_model
from lewm_ros.errors import ModelError
from lewm_ros.model import FastRollout, LeWorldModel


class EncoderGraph(nn.Module):
    """pixels (1, 3, S, S) normalised to latent (1, D)."""

    def __init__(self, model: LeWorldModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        """Encode one frame."""
        return self.model.encode(pixels[:, None])[:, 0]


class RolloutGraph(nn.Module):
    """context (h, D), past (h − 1, k·A), actions (S, N, k·A) to N latents, each (S, D)."""

    def __init__(self, model: LeWorldModel) -> None:
        super().__init__()
        self.rollout = FastRollout(model)

    def forward(
        self, context: torch.Tensor, actions: torch.Tensor, past: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, ...]:
        """Roll out S plans from one context; ``past`` is None if the context is a single frame."""
        if past is None:
            past = actions.new_zeros(0, actions.shape[-1])
        return tuple(self.rollout(context, past, actions))


def export_files(model: LeWorldModel, horizon: int, history: int | None = None) -> dict[str, bytes]:
    """Weights and graphs of a bundle by file name; arguments as of :func:`export_graphs`."""
    return {WEIGHTS: export_weights(model), **export_graphs(model, horizon, history)}


def export_weights(model: LeWorldModel) -> bytes:
    """Content of a bundle's weights file."""
    return save({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()})


def export_graphs(
    model: LeWorldModel, horizon: int, history: int | None = None
) -> dict[str, bytes]:
    """Graphs of a bundle by file name, without a frozen encoder, which is already a graph.

    Args:
        model: any mode and device; it is left as it was.
        horizon: N, the longest plan of the rollout graph in blocks.
        history: frames of context that the rollout graph reads, at most the model's H, which
            is the default.

    """
    config = model.config
    history = history or config.history
    copy = LeWorldModel(config)
    copy.load_state_dict(model.state_dict())
    copy.eval().requires_grad_(False)
    size, block = config.image_size, config.block_size
    samples = torch.export.Dim('samples', min=1, max=65536)
    graphs = {}
    if config.encoder != 'onnx':
        pixels = torch.zeros(1, 3, size, size)
        graphs[ENCODER] = export_graph(EncoderGraph(copy), {'pixels': pixels}, ['latent'], {})
    inputs = {
        'context': torch.zeros(history, config.latent_size),
        'actions': torch.zeros(2, horizon, block),
    }
    if history > 1:
        inputs['past'] = torch.zeros(history - 1, block)
    graphs[ROLLOUT] = export_graph(
        RolloutGraph(copy), inputs, latent_names(horizon), {'actions': {0: samples}}
    )
    return graphs


def export_graph(
    module: nn.Module,
    inputs: dict[str, torch.Tensor],
    outputs: list[str],
    dynamic: dict[str, dict[int, object]],
) -> bytes:
    """Graph of a module; arguments as of ``torch.onnx.export``, ``inputs`` and sizes by name."""
    # Both log long reports on optional operators that these graphs do not use.
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
            output_names=outputs,
            dynamic_shapes=[dynamic.get(name) for name in inputs],
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        graph = onnx.load(path)
    # Remove stack traces, which hold paths of this machine, from a file that is shared.
    for part in (*graph.graph.node, *graph.graph.value_info):
        part.ClearField('metadata_props')
    return graph.SerializeToString(deterministic=True)


def export_bundle(bundle: Bundle, horizon: int | None = None) -> Bundle:
    """Re-export a bundle's graphs from its weights, in place, with this version's exporter.

    Thresholds are dropped: they belong to the old graphs. The hash changes.

    Args:
        bundle: to rewrite.
        horizon: longest rollout of the graph [blocks]; None: as it was.

    """
    manifest = bundle.manifest
    horizon = manifest.horizon if horizon is None else horizon
    if not 1 <= horizon <= MAX_BLOCKS:
        raise ModelError(f'horizon is {horizon} blocks: expected 1 to {MAX_BLOCKS}')
    manifest = replace(manifest, horizon=horizon, calibration=(), files={})
    check_writable(bundle.path)
    model = load_model(bundle)
    files: dict[str, bytes | Path] = {
        WEIGHTS: bundle.path / WEIGHTS,
        ENCODER: bundle.path / ENCODER,
        **export_graphs(model, manifest.horizon, manifest.history),
    }
    if (bundle.path / CARD).is_file():
        files[CARD] = bundle.path / CARD
    return write_bundle(bundle.path, manifest, files)
