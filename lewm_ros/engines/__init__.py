# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What runs a bundle: numpy in, numpy out. Each engine's own packages load when it is asked for."""

from __future__ import annotations

from lewm_ros.bundle import Bundle
from lewm_ros.engines.base import Engine
from lewm_ros.errors import EngineError

__all__ = ['ENGINES', 'Engine', 'load_engine']

ENGINES = ('onnxruntime', 'torch')


def load_engine(bundle: Bundle, name: str = 'onnxruntime', threads: int = 1) -> Engine:
    """Make the engine ``name`` ready to run a bundle.

    Args:
        bundle: what to run.
        name: one of :data:`ENGINES`; 'torch' is the reference, 'onnxruntime' the default.
        threads: of one call; the torch engine sets them for the whole process.

    Raises EngineError where the engine is unknown, not installed, or cannot run the bundle.

    """
    if threads < 1:
        raise EngineError(f'threads is {threads}: expected at least 1')
    if name == 'onnxruntime':
        from lewm_ros.engines.onnxruntime_engine import OnnxRuntimeEngine

        return OnnxRuntimeEngine(bundle, threads)
    if name == 'torch':
        from lewm_ros.engines.torch_engine import TorchEngine

        return TorchEngine(bundle, threads)
    raise EngineError(f'engine is {name!r}: expected one of {list(ENGINES)}')
