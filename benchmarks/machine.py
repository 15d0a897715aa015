# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the machine does: the load of other processes, and how fast it multiplies."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
import os
from pathlib import Path
import time

import numpy as np
import torch
from torch.nn import functional

from lewm_ros.engines.base import cpu_has_bf16
from lewm_ros.errors import EngineError

ROWS = (300, 1200)  #: of a product: one frame of 300 candidates, and several
SECONDS = 0.1  #: for one product in one runtime; the best call counts

Calls = Iterator[tuple[str, Callable[[], object]]]  # by precision


class ForeignLoad:
    """Measures how many cores other processes keep busy, from construction on.

    These are all processes but this one, and the host that a virtual machine runs on.
    """

    def __init__(self) -> None:
        self._start = self._now()

    def cores(self) -> float | None:
        """Average number of cores since construction; None where there is no /proc/stat."""
        now = self._now()
        if now is None or self._start is None:
            return None
        wall, busy, own = (after - before for before, after in zip(self._start, now))
        return round(max(busy - own, 0.0) / wall, 2)

    def _now(self) -> tuple[float, float, float] | None:
        try:
            busy = busy_ticks(Path('/proc/stat').read_text()) / os.sysconf('SC_CLK_TCK')
        except OSError:
            return None
        return time.perf_counter(), busy, time.process_time()


def busy_ticks(stat: str) -> int:
    """Ticks that all cores have been busy for, from the text of Linux's /proc/stat."""
    ticks = [int(number) for number in stat.splitlines()[0].split()[1:]]
    # user, nice, system, idle, waiting, interrupts (2), stolen; guests after that are in user
    return sum(ticks[:3]) + sum(ticks[5:8])


def peak_gflops(
    width: int, inner: Sequence[int], threads: int, device: str
) -> dict[str, float | None]:
    """Measure the fastest products of a model's own layers, in any runtime that is there.

    One runtime alone is not enough: on some processors torch reaches less than half the speed of
    onnxruntime and OpenVINO.

    Args:
        width: of the layers' input and output.
        inner: widths in between.
        threads: of one product.
        device: 'cpu' or a torch device.

    Returns:
        GFLOP/s for 'f32' and 'bf16'; None where the hardware has no bfloat16.

    """
    torch.set_num_threads(threads)
    best: dict[str, float | None] = {'f32': None, 'bf16': None}
    rng = np.random.default_rng(0)
    for size in inner:
        chain = [(width, size), (size, width)] * 4
        weights = [rng.normal(scale=m**-0.5, size=(m, n)).astype(np.float32) for m, n in chain]
        for rows in ROWS:
            x = rng.normal(size=(rows, width)).astype(np.float32)
            work = 2e-9 * rows * sum(weight.size for weight in weights)
            runtimes = [_torch(x, weights, device)]
            if device == 'cpu':
                runtimes += [_onnxruntime(x, weights, threads), _openvino(x, weights, threads)]
            for runtime in runtimes:
                for precision, call in runtime:
                    reached = work / _fastest(call)
                    best[precision] = max(reached, best[precision] or 0.0)
    return best


def _fastest(call: Callable[[], object]) -> float:
    """Shortest duration of a call [s]."""
    call()
    times: list[float] = []
    while len(times) < 3 or sum(times) < SECONDS:
        started = time.perf_counter()
        call()
        times.append(time.perf_counter() - started)
    return min(times)


def _torch(x: np.ndarray, weights: list[np.ndarray], device: str) -> Calls:
    cuda = device != 'cpu'
    native = torch.cuda.is_bf16_supported() if cuda else cpu_has_bf16()
    for precision, kind in (('f32', torch.float32), ('bf16', torch.bfloat16)):
        if kind == torch.bfloat16 and not native:
            return
        start = torch.tensor(x, device=device).to(kind)
        layers = [torch.tensor(w.T.copy(), device=device).to(kind) for w in weights]

        @torch.inference_mode()
        def call(y: torch.Tensor = start, layers: list[torch.Tensor] = layers) -> None:
            for layer in layers:
                y = functional.linear(y, layer)
            if cuda:
                torch.cuda.synchronize()

        yield precision, call


def _onnxruntime(x: np.ndarray, weights: list[np.ndarray], threads: int) -> Calls:
    try:
        import onnxruntime
    except ImportError:
        return
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        _graph(x, weights), options, providers=['CPUExecutionProvider']
    )
    yield 'f32', partial(session.run, None, {'x0': x})


def _openvino(x: np.ndarray, weights: list[np.ndarray], threads: int) -> Calls:
    try:
        from lewm_ros.engines.openvino_engine import CORE
    except EngineError:
        return
    if 'CPU' not in CORE.available_devices:
        return
    native = 'BF16' in CORE.get_property('CPU', 'OPTIMIZATION_CAPABILITIES')
    for precision in ('f32', 'bf16') if native else ('f32',):
        settings = {'INFERENCE_PRECISION_HINT': precision, 'INFERENCE_NUM_THREADS': threads}
        model = CORE.compile_model(CORE.read_model(_graph(x, weights)), 'CPU', settings)
        request = model.create_infer_request()
        yield precision, partial(request.infer, {'x0': x})


def _graph(x: np.ndarray, weights: list[np.ndarray]) -> bytes:
    """Return an ONNX graph that multiplies x0 (rows, n) by one weight after the other."""
    from onnx import TensorProto, helper, numpy_helper

    last = len(weights)
    nodes = [helper.make_node('MatMul', [f'x{i}', f'w{i}'], [f'x{i + 1}']) for i in range(last)]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (('x0', x.shape), (f'x{last}', (len(x), weights[-1].shape[1])))
    ]
    tensors = [numpy_helper.from_array(weight, f'w{i}') for i, weight in enumerate(weights)]
    graph = helper.make_graph(nodes, 'products', ends[:1], ends[1:], tensors)
    opset = [helper.make_opsetid('', 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=10).SerializeToString()
