# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A function in torch as one captured CUDA graph: numpy in, numpy out, a single launch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from lewm_ros.errors import EngineError, one_line

_WARM_UP = 3  #: calls before the capture: they allocate and tune, which it does not allow


class CapturedCall:
    """Replays a function of float32 arrays of fixed shapes on a GPU.

    Hundreds of small kernels take longer to launch than to run; a captured graph launches them
    at once. Every replay reads and writes the same buffers, so inputs are copied into them, and the
    function must not have control flow or shapes that depend on their values. Not thread safe.

    Args:
        function: maps tensors on ``device`` to one tensor; runs in inference mode.
        shapes: shapes of its inputs.
        device: a CUDA device, such as 'cuda' or 'cuda:1'.

    Raises EngineError if the capture fails.

    """

    def __init__(
        self,
        function: Callable[..., torch.Tensor],
        shapes: Sequence[tuple[int, ...]],
        device: str,
    ) -> None:
        self._device = torch.device(device)
        # Pinned memory is copied to and from the device without a staging buffer.
        self._given = [torch.empty(shape, pin_memory=True) for shape in shapes]
        self._inputs = [torch.zeros(shape, device=device) for shape in shapes]
        try:
            with torch.inference_mode(), torch.cuda.device(self._device):
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    for _ in range(_WARM_UP):
                        function(*self._inputs)
                self._graph = torch.cuda.CUDAGraph()
                # Other threads (the encoder's) may use CUDA during the capture.
                with torch.cuda.graph(
                    self._graph, stream=stream, capture_error_mode='thread_local'
                ):
                    self._output = function(*self._inputs)
        except RuntimeError as error:
            raise EngineError(
                f'a graph cannot be captured on {device} ({one_line(error)}): torch.compile needs '
                "Triton, a C compiler and Python's headers; or use the provider 'cpu'"
            ) from error

    @torch.inference_mode()
    def __call__(self, *arrays: np.ndarray) -> np.ndarray:
        """Run on arrays of the captured shapes; blocks until the float32 result is there."""
        with torch.cuda.device(self._device):
            for given, buffer, array in zip(self._given, self._inputs, arrays):
                given.numpy()[...] = array
                buffer.copy_(given, non_blocking=True)
            self._graph.replay()
            result = torch.empty(self._output.shape, pin_memory=True)
            result.copy_(self._output, non_blocking=True)
            torch.cuda.current_stream().synchronize()
        return result.numpy()
