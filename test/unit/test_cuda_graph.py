# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the torch engine captures in CUDA graphs is capturable, and a replay equals a call."""

from __future__ import annotations

from collections.abc import Callable
import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.engines.cuda_graph import CapturedCall
from lewm_ros.engines.torch_engine import load_model
from lewm_ros.model import BatchedRollout, LeWorldModel

SHAPES = (3, 8), (2, 10), (24, 4, 10)  #: context, past and actions of the tiny bundle
FUNCTIONS = {
    'encode': (lambda model: model.encode, [(1, 1, 3, 32, 32)]),
    'rollout': (BatchedRollout, SHAPES),
    'rollout in bf16': (lambda model: BatchedRollout(model, torch.bfloat16), SHAPES),
}
CAPTURED = pytest.mark.parametrize(('make', 'shapes'), FUNCTIONS.values(), ids=FUNCTIONS)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')
Make = Callable[[LeWorldModel], Callable[..., torch.Tensor]]


@pytest.fixture(scope='module')
def model(tiny_bundle: Bundle) -> LeWorldModel:
    """Return the tiny bundle's network."""
    return load_model(tiny_bundle).eval().requires_grad_(False)


def drawn(shapes: tuple[tuple[int, ...], ...], seed: int = 0) -> list[np.ndarray]:
    """Return standard normal arrays."""
    rng = np.random.default_rng(seed)
    return [rng.normal(size=shape).astype(np.float32) for shape in shapes]


class Recorder(TorchDispatchMode):
    """Records operations as a capture does; a replay is wrong if a value was baked in."""

    #: Operations that synchronise with the device: tensors to numbers, data-dependent shapes.
    WAITING = ('_local_scalar_dense', 'item', 'nonzero', 'masked_select', 'equal', 'is_nonzero')

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> torch.Tensor:
        """Run an operation and record it; fail if it waits for the device."""
        name = func.overloadpacket.__name__
        indices = args[1] if name == 'index' else ()
        if name in self.WAITING or any(index.dtype == torch.bool for index in indices):
            raise AssertionError(f'{func} waits for the device')
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        """Run all operations again, writing into the same results."""
        for func, args, kwargs, result in self.operations:
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs))):
                if isinstance(old, torch.Tensor) and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


def test_waiting_is_noticed() -> None:
    """The recorder detects the usual ways to synchronise with a device."""
    x = torch.ones(3)
    for wait in (x[0].item, lambda: x[x > 0], x.nonzero, lambda: bool(x[0])):
        with pytest.raises(AssertionError, match='waits for the device'), Recorder():
            wait()


@CAPTURED
@torch.inference_mode()
def test_it_can_be_captured(
    model: LeWorldModel, make: Make, shapes: tuple[tuple[int, ...], ...]
) -> None:
    """Recorded on zeros and replayed on other inputs, a function is right and never syncs."""
    function = make(model)
    buffers = [torch.zeros(shape) for shape in shapes]
    with Recorder() as recorder:
        result = function(*buffers)
    assert len(recorder.operations) > 10
    for seed in range(2):
        given = [torch.tensor(array) for array in drawn(shapes, seed)]
        for buffer, value in zip(buffers, given):
            buffer.copy_(value)
        recorder.replay()
        torch.testing.assert_close(result, function(*given), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize('precision', [torch.float32, torch.bfloat16])
@torch.inference_mode()
def test_a_rollout_stays_on_its_device(model: LeWorldModel, precision: torch.dtype) -> None:
    """On the meta device, no operation uses or creates a tensor on the host."""
    function = BatchedRollout(copy.deepcopy(model).to('meta'), precision)
    with Recorder() as recorder:
        function(*(torch.zeros(shape, device='meta') for shape in SHAPES))
    for func, *tensors in recorder.operations:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == 'meta', f'{func} meets a tensor of the host'


@needs_cuda
@CAPTURED
def test_a_replay_is_the_call(
    model: LeWorldModel, make: Make, shapes: tuple[tuple[int, ...], ...]
) -> None:
    """A replay equals a call for new inputs, even after a graph of another size was used."""
    function = make(copy.deepcopy(model).cuda())
    captured = CapturedCall(function, shapes, 'cuda')
    other = CapturedCall(function, [*shapes[:-1], (7, *shapes[-1][1:])], 'cuda')
    for seed in range(3):
        arrays = drawn(shapes, seed)
        with torch.inference_mode():
            expected = function(*(torch.tensor(array, device='cuda') for array in arrays))
        other(*arrays[:-1], np.repeat(arrays[-1][:1], 7, axis=0))
        np.testing.assert_allclose(captured(*arrays), expected.cpu().numpy(), rtol=1e-5, atol=1e-6)


@needs_cuda
@pytest.mark.parametrize('precision', ['f32', 'auto'])
def test_engine_on_cuda_equals_the_reference(tiny_bundle: Bundle, precision: str) -> None:
    """Latents and exact rollouts equal the reference, for more sizes than graphs are cached."""
    engine = load_engine(tiny_bundle, 'torch', precision=precision, provider='cuda')
    reference = load_engine(tiny_bundle, 'reference', provider='cpu')
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    np.testing.assert_allclose(engine.encode(image), reference.encode(image), atol=1e-4)
    context, past, actions = drawn(SHAPES)
    for samples in [*range(1, 20), 1, 2]:
        found = engine.rollout(context, past, actions[:samples])
        expected = reference.rollout(context, past, actions[:samples])
        np.testing.assert_allclose(found, expected, atol=1e-4)
