# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Gradient of a plan's cost with respect to the plan, by torch autograd or as an ONNX graph.

At batch size 1 torch spends most of its time on launching operators. onnxruntime runs the traced
and exported gradient of the fast rollout in a fraction of that time.
"""

from __future__ import annotations

from collections.abc import Callable
import functools
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from lewm_ros.bundle import Bundle
from lewm_ros.engines.torch_engine import load_model
from lewm_ros.model import FastRollout

#: plan (N − 1, k·A), latents (H, D), past (H − 1, k·A), first block (k·A,), goal (D,),
#: weights (N,) → derivative (N − 1, k·A), cost; float32
Gradient = Callable[..., tuple[np.ndarray, float]]


def gradient(bundle: Bundle, runtime: str, blocks: int) -> Gradient:
    """Return the derivative for plans of N − 1 = ``blocks`` blocks.

    Args:
        bundle: the model.
        runtime: 'torch' or 'onnxruntime', in float32, on one thread.
        blocks: free blocks of a plan.

    """
    if runtime == 'torch':
        return _torch(bundle)
    return _onnxruntime(_exported(bundle.path, blocks))


def _cost(rollout: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Return the cost of a plan, with the inputs of a :data:`Gradient`, as torch computes it.

    ``rollout`` takes latents, past and actions (N, k·A), and returns latents (N, D).
    """

    def cost(
        plan: torch.Tensor,
        latents: torch.Tensor,
        past: torch.Tensor,
        first: torch.Tensor,
        goal: torch.Tensor,
        weights: torch.Tensor,
    ) -> torch.Tensor:
        predicted = rollout(latents, past, torch.cat([first[None], plan]))
        return ((predicted - goal) ** 2).sum(dim=1) @ weights

    return cost


def _torch(bundle: Bundle) -> Gradient:
    model = load_model(bundle).eval().requires_grad_(False)
    # The plain rollout: it starts fewer operations than the fast one's many small products.
    cost = _cost(
        lambda latents, past, actions: model.rollout(
            latents[None], past[None], actions[None, None]
        )[0, 0]
    )

    def run(*inputs: np.ndarray) -> tuple[np.ndarray, float]:
        plan, *rest = (torch.tensor(x, dtype=torch.float32) for x in inputs)
        value = cost(plan.requires_grad_(), *rest)
        value.backward()
        assert plan.grad is not None  # noqa: S101
        return plan.grad.numpy(), value.item()

    return run


@functools.cache
def _exported(path: Path, blocks: int) -> bytes:
    bundle = Bundle.load(path)
    rollout = FastRollout(load_model(bundle).eval())
    cost = _cost(lambda latents, past, actions: torch.cat(rollout(latents, past, actions[None])))
    manifest = bundle.manifest
    block = manifest.frameskip * bundle.contract.action.size
    shapes: list[tuple[int, ...]] = [
        (blocks, block),
        (manifest.history, manifest.latent_size),
        (manifest.history - 1, block),
        (block,),
        (manifest.latent_size,),
        (blocks + 1,),
    ]
    example = [torch.randn(shape) for shape in shapes]
    table = dict(torch._decomp.core_aten_decompositions())
    # The exporter does not support empty_permuted; its content is overwritten anyway.
    table[torch.ops.aten.empty_permuted.default] = lambda size, *_, **__: torch.full(size, 0.0)
    derivative = torch.func.functionalize(torch.func.grad_and_value(cost), remove='mutations')
    traced = make_fx(derivative, decomposition_table=table)(*example)
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / 'gradient.onnx'
        program: Any = torch.onnx.export(traced.eval(), tuple(example), dynamo=True, verbose=False)
        program.save(str(graph))
        return graph.read_bytes()


def _onnxruntime(graph: bytes) -> Gradient:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=['CPUExecutionProvider'])
    names = [given.name for given in session.get_inputs()]

    def run(*inputs: np.ndarray) -> tuple[np.ndarray, float]:
        feed = {name: np.asarray(x, dtype=np.float32) for name, x in zip(names, inputs)}
        derivative, cost = session.run(None, feed)
        return derivative, float(cost)

    return run
