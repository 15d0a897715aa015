# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bundle's ONNX graphs: checked before they run, and the rollout pruned to a horizon."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lewm_ros.bundle import DECODER, ENCODER, ROLLOUT, Bundle, Manifest
from lewm_ros.errors import EngineError, ModelError, one_line, shown
from lewm_ros.install import how_to_install


def encoder_graph(bundle: Bundle) -> bytes:
    """Return the encoder: pixels (1, 3, S, S) → latent (1, D).

    Raises ModelError unless it has these inputs and outputs, only standard ONNX operators, and
    all tensors in the file itself.
    """
    size = bundle.manifest.image_size
    model = _parse(bundle, ENCODER)
    _check(bundle, ENCODER, model.graph.input, {'pixels': [1, 3, size, size]})
    _check(bundle, ENCODER, model.graph.output, {'latent': [1, bundle.manifest.latent_size]})
    return model.SerializeToString()


def decoder_graph(bundle: Bundle, size: int) -> bytes:
    """Return the decoder: latents (n, D) → images (n, size, size, 3) of values in [0, 255].

    Raises ModelError as :func:`encoder_graph`.
    """
    model = _parse(bundle, DECODER)
    latents = [None, bundle.manifest.latent_size]
    _check(bundle, DECODER, model.graph.input, {'latents': latents})
    _check(bundle, DECODER, model.graph.output, {'images': [None, size, size, 3]})
    return model.SerializeToString()


def rollout_graph(bundle: Bundle, horizon: int) -> bytes:
    """Return the rollout, pruned to what its first ``horizon`` steps need.

    context (H, D), past (H − 1, k·A; absent where H is 1), actions (S, N, k·A) →
    latent_1 … latent_horizon, each (S, D). N stays the bundle's.

    Raises ModelError as :func:`encoder_graph`.
    """
    manifest = bundle.manifest
    block = manifest.frameskip * manifest.contract.action.size
    model = _parse(bundle, ROLLOUT)
    graph = model.graph
    inputs: dict[str, Sequence[int | None]] = {'context': [manifest.history, manifest.latent_size]}
    if manifest.history > 1:
        inputs['past'] = [manifest.history - 1, block]
    inputs['actions'] = [None, manifest.horizon, block]
    _check(bundle, ROLLOUT, graph.input, inputs)
    latent = [None, manifest.latent_size]
    _check(bundle, ROLLOUT, graph.output, dict.fromkeys(latent_names(manifest.horizon), latent))
    # Runtimes compute every node of a graph, requested or not. Nodes are in topological order, so
    # one backward pass finds what the kept outputs need.
    kept, needed = [], set(latent_names(horizon))
    for node in reversed(graph.node):
        if not needed.isdisjoint(node.output):
            kept.append(node)
            needed.update(node.input)
    nodes = [type(node).FromString(node.SerializeToString()) for node in reversed(kept)]
    del graph.output[horizon:]
    del graph.node[:]
    graph.node.extend(nodes)
    tensors = [tensor for tensor in graph.initializer if tensor.name in needed]
    tensors = [type(tensor).FromString(tensor.SerializeToString()) for tensor in tensors]
    del graph.initializer[:]
    graph.initializer.extend(tensors)
    return model.SerializeToString()


def latent_names(horizon: int) -> list[str]:
    """Names of the rollout's outputs, first step first."""
    return [f'latent_{step + 1}' for step in range(horizon)]


def rollout_feed(
    manifest: Manifest, context: np.ndarray, past: np.ndarray, actions: np.ndarray
) -> dict[str, np.ndarray]:
    """Inputs of the rollout graph by name; a shorter plan is padded to the graph's length."""
    samples, steps, block = actions.shape
    if steps < manifest.horizon:
        padded = np.zeros((samples, manifest.horizon, block), dtype=np.float32)
        padded[:, :steps] = actions
        actions = padded
    feed = {'context': context, 'actions': actions}
    if manifest.history > 1:
        feed['past'] = past
    return {name: np.ascontiguousarray(array, np.float32) for name, array in feed.items()}


def parse_graph(data: bytes, name: str) -> Any:
    """Return a graph as an ``onnx.ModelProto``; ``name`` is its origin, for error messages.

    Raises ModelError unless it has only standard ONNX operators, and all tensors in the file
    itself, and EngineError without onnx.
    """
    try:
        import onnx
    except ImportError as error:
        raise EngineError(
            f'ONNX graphs cannot be read ({error}): {how_to_install("cpu")}'
        ) from error
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's errors have no common base
        raise ModelError(f'{name} is not an ONNX graph ({one_line(error)})') from error
    outside = [
        t.name for t in model.graph.initializer if onnx.external_data_helper.uses_external_data(t)
    ]
    if outside:
        raise ModelError(
            f'{name} keeps {shown(outside[0])} in another file: expected a single-file graph'
        )
    others = [n for n in model.graph.node if n.domain not in ('', 'ai.onnx')]  # both mean ONNX
    if others:
        found = shown(f'{others[0].domain}.{others[0].op_type}')
        raise ModelError(f"{name} has operator {found}: expected only ONNX's own")
    return model


def _parse(bundle: Bundle, file: str) -> Any:
    return parse_graph(bundle.read(file), f'bundle {bundle.path}: {file}')


def _check(
    bundle: Bundle, file: str, nodes: Any, expected: dict[str, Sequence[int | None]]
) -> None:
    """Compare a graph's inputs or outputs with the manifest; None stands for any size."""
    import onnx

    found = {}
    for node in nodes:
        tensor = node.type.tensor_type
        sizes = [d.dim_value if d.HasField('dim_value') else d.dim_param for d in tensor.shape.dim]
        found[node.name] = (onnx.TensorProto.DataType.Name(tensor.elem_type), sizes)
    for name, shape in expected.items():
        kind, sizes = found.get(name, ('nothing', []))
        fits = len(sizes) == len(shape) and all(
            want is None or have == want for have, want in zip(sizes, shape)
        )
        if kind != 'FLOAT' or not fits:
            raise ModelError(
                f'bundle {bundle.path}: {file} has {kind} {shown(sizes)} for {name!r}: the '
                f'manifest needs FLOAT {["S" if n is None else n for n in shape]}'
            )
    if len(found) != len(expected):
        raise ModelError(
            f'bundle {bundle.path}: {file} has {shown(sorted(found))}: expected {sorted(expected)}'
        )
