# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Inference engines for bundles: numpy in, numpy out. An engine's packages load on demand."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module

from lewm_ros.bundle import Bundle
from lewm_ros.engines.base import PRECISIONS, Engine
from lewm_ros.errors import EngineError
from lewm_ros.robot.settings import setting

__all__ = ['ENGINES', 'PRECISIONS', 'Engine', 'EngineConfig', 'describe', 'load_engine']

_CLASSES = {
    'onnxruntime': ('onnxruntime_engine', 'OnnxRuntimeEngine'),
    'openvino': ('openvino_engine', 'OpenVinoEngine'),
    'torch': ('torch_engine', 'TorchEngine'),
    'reference': ('torch_engine', 'ReferenceEngine'),
}
ENGINES = tuple(_CLASSES)


@dataclass(frozen=True)
class EngineConfig:
    """Engine settings that nodes and commands expose; :func:`load_engine` checks them."""

    engine: str = setting('onnxruntime', 'What runs the model.', choices=ENGINES)
    provider: str = setting(
        '',
        'Device, as the engine names it (an onnxruntime execution provider, an OpenVINO device, a '
        'torch device); empty: a GPU if the engine finds one, else the CPU.',
    )
    precision: str = setting(
        'f32',
        'Of the products of a rollout; auto: bf16 where the hardware multiplies it natively.',
        choices=PRECISIONS,
    )


def load_engine(
    bundle: Bundle,
    name: str = EngineConfig.engine,
    threads: int = 1,
    precision: str = EngineConfig.precision,
    provider: str = EngineConfig.provider,
    horizon: int | None = None,
) -> Engine:
    """Load the engine ``name`` for a bundle.

    Args:
        bundle: what to run.
        name: one of :data:`ENGINES`. 'onnxruntime' is the default; 'openvino' the fastest on
            x86 processors; 'torch' needs no ONNX; 'reference' is the published loop: slow, and
            the standard that all others are compared with.
        threads: threads of one call; the torch engines set them for the whole process.
        precision: of the matrix products of a rollout: 'f32', 'bf16', or 'auto' for bf16 where the
            hardware multiplies it natively. Frames are always encoded in f32, because the
            surprise is calibrated on those latents.
        provider: what computes, by the engine's own name for it (an onnxruntime execution
            provider, an OpenVINO device, a torch device); '' for the engine's choice.
        horizon: longest rollout that will be requested [blocks], by default the bundle's; a
            shorter one makes every rollout cheaper.

    Raises EngineError if the engine, precision or provider is unknown, is not available or cannot
    run the bundle, and ModelError if a file of the bundle is invalid.

    """
    if threads < 1:
        raise EngineError(f'threads is {threads}: expected at least 1')
    if precision not in PRECISIONS:
        raise EngineError(f'precision is {precision!r}: expected one of {list(PRECISIONS)}')
    longest = bundle.manifest.horizon
    horizon = longest if horizon is None else horizon
    if not 1 <= horizon <= longest:
        raise EngineError(f'horizon is {horizon} blocks: bundle {bundle.path} has 1 to {longest}')
    if name not in _CLASSES:
        raise EngineError(f'engine is {name!r}: expected one of {list(ENGINES)}')
    module, kind = _CLASSES[name]
    chosen = getattr(import_module(f'lewm_ros.engines.{module}'), kind)
    return chosen(bundle, threads, precision, provider, horizon)


def describe(engine: Engine) -> str:
    """Describe an engine to the user: name, provider and precision."""
    return f'{engine.name} ({engine.provider}, {engine.precision})'
