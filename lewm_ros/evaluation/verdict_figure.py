# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The figures of a verdict as one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lewm_ros.evaluation.planability import SATURATED, Planability


def draw(target: Path, found: Planability) -> None:
    """Draw a PNG: distance over time, error over the blocks, effect of each command."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.2), layout='constrained')
    distance, error, effect = figure.subplots(1, 3)
    lags = np.arange(1, len(found.by_lag) + 1) * found.camera_period / found.block
    distance.plot(lags, found.by_lag, color='C0')
    distance.axhline(found.random_pair, color='C7', label='two random frames')
    distance.axhline(SATURATED * found.random_pair, color='C3', ls='--', label='saturated')
    distance.set(title='latent distance', xlabel='time between frames [blocks]', ylim=(0, None))
    distance.legend(fontsize='small', loc='lower right')
    ahead = np.arange(1, len(found.prediction) + 1)
    error.plot(ahead, found.copying, 'o-', color='C7', label='copying the last latent')
    error.plot(ahead, found.prediction, 'o-', color='C0', label='predicted')
    error.set(title='squared error', xlabel='blocks ahead', yscale='log', xticks=ahead)
    error.legend(fontsize='small')
    places = np.arange(len(found.actions))
    effect.barh(places, [d.effect for d in found.actions], 0.5, color='C0')
    effect.axvline(1, color='C3', ls='--', label="the model's error")
    names = [
        d.name if d.precision is None else f'{d.name}\n± {d.precision:.2g} {d.unit}'
        for d in found.actions
    ]
    effect.set_yticks(places, names)
    effect.set(title='effect of each command / error', ylim=(len(places) - 0.2, -0.8))
    effect.legend(fontsize='small', loc='lower right')
    for axes in (distance, error, effect):
        axes.grid(alpha=0.3)
    figure.savefig(target, dpi=120, format='png')
