# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""An image of success against the offset from start to goal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np


def draw(target: Path, rows: Sequence[dict[str, Any]], title: str) -> None:
    """Draw a PNG: planner and random commands by offset, with 95 % intervals.

    Args:
        target: the file.
        rows: of `lewm evaluate --episodes`: offset [control steps], None for goals of other
            episodes, and the figures of 'planner' and 'random'.
        title: above it.

    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.2), layout='constrained')
    axes = figure.subplots()
    places = np.arange(len(rows))
    for name, label, colour in (('planner', 'planner', 'C0'), ('random', 'random', 'C7')):
        share = np.array([row[name]['successes'] / row[name]['episodes'] for row in rows])
        bounds = [[row[name][f'success_{end}'] for row in rows] for end in ('low', 'high')]
        spans = np.abs(np.array(bounds) - share)
        axes.errorbar(places, share, spans, color=colour, label=label, marker='o', capsize=3)
    axes.set_xticks(places, [str(row['offset'] or 'other episode') for row in rows])
    axes.set(title=title, xlabel='from start to goal [control steps]', ylabel='reached')
    axes.set_ylim(0, 1.02)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(target, dpi=120, format='png')
