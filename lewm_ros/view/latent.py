# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The latents of the last seconds and where they surprise, one row per dimension."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from lewm_ros.view.canvas import FAINT, HEADLINE, INK, WIDTH, blank, headline, text_width, write
from lewm_ros.view.trace import Snapshot

LEFT, RIGHT = 56, WIDTH - 12  #: of both panels [px]
PANEL = 84  #: height of a panel [px]
TOPS = (HEADLINE + 20, HEADLINE + 20 + PANEL + 22)  #: of the latent, of the contributions [px]
HEIGHT = TOPS[1] + PANEL + 22
#: Contributions are 1 / D on average on nominal data; this many decades of them are told apart.
DECADES = 4.0

_TURBO = cv2.applyColorMap(np.arange(256, dtype=np.uint8)[:, None], cv2.COLORMAP_TURBO)
_TURBO = np.ascontiguousarray(_TURBO[:, 0, ::-1])  # (256, 3) RGB

#: Stamp [ns] and one number for each dimension (D,).
Row = tuple[int, np.ndarray]


def strips(latents: Sequence[Row], parts: Sequence[Row], snapshot: Snapshot) -> np.ndarray:
    """Draw latents and contributions over time: (HEIGHT, WIDTH, 3).

    Columns without a frame stay grey. A latent is coloured from minus to plus the largest
    magnitude shown (blue, green, red); a contribution by its logarithm.
    """
    picture = blank(HEIGHT)
    picture[:HEADLINE] = headline(snapshot)
    values, seen = _columns(latents, snapshot)
    most = max(float(np.abs(values[:, seen]).max()), 1e-9) if seen.any() else 1.0
    title = f'latent, {values.shape[0]} dimensions from -{most:.2g} to {most:.2g}'
    _panel(picture, TOPS[0], title, values / most / 2 + 0.5, seen)
    values, seen = _columns(parts, snapshot)
    usual = 1 / max(values.shape[0], 1)
    brightness = np.log10(np.maximum(values, 1e-12) / usual) / DECADES + 0.25
    low, high = usual * 10 ** (-DECADES / 4), usual * 10 ** (DECADES * 3 / 4)
    title = f'contribution of each dimension to the score, from {low:.1g} to {high:.2g}'
    _panel(picture, TOPS[1], title, brightness, seen)
    write(picture, f'-{snapshot.span:g} s', LEFT, HEIGHT - 6)
    write(picture, 'now', RIGHT - text_width('now'), HEIGHT - 6)
    return picture


def _columns(rows: Sequence[Row], snapshot: Snapshot) -> tuple[np.ndarray, np.ndarray]:
    """Sort rows into columns of pixels: values (D, n), and which columns (n,) have any.

    Of several frames in a column the largest numbers stay, so that one bad frame is seen. A
    frame reaches to the next one, unless that is three usual steps away.
    """
    count = RIGHT - LEFT
    kept = [(s, v) for s, v in rows if v.size == rows[-1][1].size]
    if not kept:
        return np.zeros((1, count)), np.zeros(count, bool)
    times = np.array([snapshot.ago(stamp) for stamp, _ in kept])
    columns = np.floor((times / snapshot.span + 1) * count).astype(int)
    inside = (columns >= 0) & (columns < count)
    columns, numbers = columns[inside], np.stack([vector for _, vector in kept])[inside]
    values = np.full((count, numbers.shape[1]), -np.inf, dtype=np.float32)
    np.maximum.at(values, columns, numbers)
    taken = np.zeros(count, bool)
    taken[columns] = True
    hold = 3 * np.median(np.diff(times)) / snapshot.span * count if times.size > 1 else 1
    last = np.maximum.accumulate(np.where(taken, np.arange(count), -1))
    seen = (last >= 0) & (np.arange(count) - last < max(hold, 1))
    return np.where(seen[:, None], values[last], 0).T, seen


def _panel(picture: np.ndarray, top: int, title: str, values: np.ndarray, seen: np.ndarray) -> None:
    """Colour values (D, n) in [0, 1]; NaN is the brightest."""
    index = (np.clip(np.nan_to_num(values, nan=1.0), 0, 1) * 255).astype(np.uint8)
    tall = cv2.resize(index, (index.shape[1], PANEL), interpolation=cv2.INTER_NEAREST)
    coloured = _TURBO[tall]
    coloured[:, ~seen] = FAINT
    picture[top : top + PANEL, LEFT:RIGHT] = coloured
    cv2.rectangle(picture, (LEFT - 1, top - 1), (RIGHT, top + PANEL), INK, 1)
    write(picture, title, LEFT, top - 6)
    for label, y in (('0', top + 10), (f'{values.shape[0] - 1}', top + PANEL - 2)):
        write(picture, label, LEFT - 6 - text_width(label), y)
    write(picture, 'dim', 6, top + PANEL // 2 + 4)
