# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What `planners.py` compares: each variant as its differences from the preset `live`."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Variant:
    """How one variant differs from the preset `live`."""

    changes: dict[str, Any] = field(default_factory=dict)
    engine: str = 'onnxruntime'
    precision: str = 'f32'
    memory: bool = True
    kind: str = 'cem'  #: of the search: cem, mppi or adam
    options: dict[str, Any] = field(default_factory=dict)  #: of MPPI or Adam


def _warm(samples: int, iterations: int, **changes: Any) -> Variant:
    return Variant({'samples': samples, 'iterations': iterations} | changes)


def _cold(samples: int, iterations: int, elites: int = 10, **changes: Any) -> Variant:
    sizes = {'cold_samples': samples, 'cold_iterations': iterations, 'elites': elites}
    return Variant(sizes | changes, memory=False)


def _openvino(variant: Variant, precision: str, **changes: Any) -> Variant:
    changes = variant.changes | changes
    return replace(variant, changes=changes, engine='openvino', precision=precision)


def _mppi(temperature: float, decay: float | None, elites: int = 0, **changes: Any) -> Variant:
    """MPPI with 64 x 3 samples; without elites all samples are averaged."""
    options = {'temperature': temperature, 'decay': decay, 'elites': elites}
    return Variant(changes, kind='mppi', options=options)


def _adam(steps: int, rate: float, before: int = 0, runtime: str = 'onnxruntime') -> Variant:
    """Adam after ``before`` iterations of the CEM with 64 samples; see ``gradients.py``."""
    options = {'steps': steps, 'rate': rate, 'before': before, 'runtime': runtime}
    return Variant(kind='adam', options=options)


LIVE = Variant()
WIDE = {'elites': 5, 'warm_std': 0.8}
VARIANTS = {
    'live 64x3': LIVE,
    'no kept elites': Variant({'keep_elites': 0}),
    'keep 10': Variant({'keep_elites': 10}),
    '32x2': _warm(32, 2),
    '32x3': _warm(32, 3),
    '32x5': _warm(32, 5),
    '64x1': _warm(64, 1),
    '64x2': _warm(64, 2),
    '64x5': _warm(64, 5),
    '64x8': _warm(64, 8),
    '128x2': _warm(128, 2),
    '128x3': _warm(128, 3),
    '128x5': _warm(128, 5),
    '300x3': _warm(300, 3),
    '300x3, 30 elites': _warm(300, 3, elites=30),
    '5 elites': Variant({'elites': 5}),
    '20 elites': Variant({'elites': 20}),
    'std 0.3': Variant({'warm_std': 0.3}),
    'std 0.8': Variant({'warm_std': 0.8}),
    '64x2, 5 elites, std 0.8': _warm(64, 2, **WIDE),
    '64x3, 5 elites, std 0.8': _warm(64, 3, **WIDE),
    '48x4, 5 elites, std 0.8': _warm(48, 4, **WIDE),
    '32x6, 5 elites, std 0.8': _warm(32, 6, **WIDE),
    '32x4, 5 elites, std 0.8': _warm(32, 4, **WIDE),
    '64x5, 5 elites, std 0.8': _warm(64, 5, **WIDE),
    '64x10, std 0.8': _warm(64, 10, warm_std=0.8),
    'live, openvino f32': _openvino(LIVE, 'f32'),
    'live, bf16, last 0 exact': _openvino(LIVE, 'bf16', exact_iterations=0),
    'live, bf16, last 2 exact': _openvino(LIVE, 'bf16', exact_iterations=2),
    '128x5, bf16, last 0 exact': _openvino(_warm(128, 5), 'bf16', exact_iterations=0),
    '128x5, bf16, last 2 exact': _openvino(_warm(128, 5), 'bf16', exact_iterations=2),
    'cold 64x3': _cold(64, 3),
    'cold 128x5': _cold(128, 5),
    'cold 128x5, 5 elites': _cold(128, 5, 5),
    'cold 64x10': _cold(64, 10),
    'cold 64x10, 5 elites': _cold(64, 10, 5),
    'cold 128x8': _cold(128, 8),
    'cold 128x8, 5 elites': _cold(128, 8, 5),
    'cold 64x16, 5 elites': _cold(64, 16, 5),
    'cold 128x10': _cold(128, 10),
    'cold 300x5': _cold(300, 5, 30),
    'cold 300x10': _cold(300, 10, 30),
    'cold 300x10, 10 elites': _cold(300, 10, 10),
    'cold 300x10, openvino f32': _openvino(_cold(300, 10, 30), 'f32'),
    'cold 300x10, bf16, last 0 exact': _openvino(_cold(300, 10, 30), 'bf16', exact_iterations=0),
    'cold 300x10, bf16, last 2 exact': _openvino(_cold(300, 10, 30), 'bf16', exact_iterations=2),
    'cold 300x30': _cold(300, 30, 30),
    # The preset `cold`: though it searches widely, its mean starts from the shifted last plan.
    'preset cold': _warm(300, 10, elites=30, warm_std=1.0, keep_elites=0),
    # Temperatures and rates are the best of several on other seeds.
    'MPPI, all samples': _mppi(0.1, 1.0),
    'MPPI, 10 best': _mppi(0.3, 1.0, elites=10),
    'MPPI, 10 best, decay 0.6': _mppi(0.3, 0.6, elites=10),
    'MPPI, 10 best, weighted std 0.8': _mppi(1.0, None, elites=10, warm_std=0.8),
    'Adam 5': _adam(5, 0.4),
    'Adam 7': _adam(7, 0.4),
    'Adam 10': _adam(10, 0.4),
    'Adam 20': _adam(20, 0.2),
    '64x1, Adam 5': _adam(5, 0.4, before=1),
    '64x1, Adam 10': _adam(10, 0.4, before=1),
    'Adam 10, torch': _adam(10, 0.4, runtime='torch'),
}
