# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The curves of a training run: losses, and how the latents spread and move."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np


def draw(metrics: Path, target: Path) -> None:
    """Draw the rows of a metrics.csv as a PNG."""
    from matplotlib.figure import Figure

    with metrics.open(newline='') as file:
        rows = list(csv.DictReader(file))
    steps = np.array([int(row['step']) for row in rows])

    def line(axes, name: str, label: str, style: str) -> None:  # noqa: ANN001 (matplotlib's)
        values = np.array([float(row[name] or 'nan') for row in rows])
        there = np.isfinite(values)
        axes.plot(steps[there], values[there], style, label=label, linewidth=1.2, markersize=3)

    figure = Figure(figsize=(14, 7), layout='constrained')
    panels = figure.subplots(2, 3, sharex=True)
    prediction, regulariser, std = panels[0]
    rank, straight, unused = panels[1]
    unused.remove()
    line(prediction, 'prediction', 'training', 'C0-')
    line(prediction, 'validation_prediction', 'held out', 'C1o-')
    line(prediction, 'validation_copy_last', 'held out, copying the last latent', 'C7.--')
    prediction.set(title='prediction loss')
    line(regulariser, 'regulariser', 'training', 'C0-')
    regulariser.set(title='regulariser')
    for axes in (prediction, regulariser):
        if not axes.dataLim.ymax > 0:  # nothing is added to the prediction
            continue
        axes.set_yscale('log')
        axes.yaxis.set_major_formatter('{x:g}')
        axes.yaxis.set_minor_formatter('{x:g}')
    line(std, 'latent_std', 'training', 'C0-')
    line(std, 'validation_latent_std', 'held out', 'C1o-')
    std.set(title='standard deviation of the latents', ylim=(0, None))
    line(rank, 'effective_rank', 'training batches', 'C0-')
    line(rank, 'validation_effective_rank', 'held out', 'C1o-')
    rank.set(title='effective rank of the latents', ylim=(0, None))
    line(straight, 'validation_straightness', 'held out', 'C1o-')
    straight.set(title='straightness of the latent paths')
    for axes in (prediction, regulariser, std, rank, straight):
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
    for axes in (std, rank, straight):
        axes.set_xlabel('step')
        axes.tick_params(labelbottom=True)
    figure.savefig(target, dpi=100, format='png')
