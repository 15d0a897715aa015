# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Rows of decoded latents as images: a plan as a film strip, what was expected and seen."""

from __future__ import annotations

from collections.abc import Sequence
import textwrap

import cv2
import numpy as np

from lewm_ros.view.canvas import INK, LINE, THRESHOLD, WIDTH, blank, text_width, write

LABEL = 16  #: height of the labels over a row [px]
TALLEST = 152  #: of an image in a row; of one with a curve below it, TALL [px]
TALL = 84
CURVE = 64  #: height of the curve below a row [px]
MOST = 8  #: images in a row, so that a person can read them
DIFFERENT = 64.0  #: difference of values in [0, 255] that is fully red


def row(images: Sequence[np.ndarray | None], labels: Sequence[str], tall: int = TALL) -> np.ndarray:
    """Draw images (S, S, 3) side by side under their labels; None is left empty."""
    size = min(tall, WIDTH // len(images) - 4)
    canvas = blank(LABEL + size + 4)
    for centre, image, label in zip(centres(len(images)), images, labels):
        write(canvas, label, centre - text_width(label, 0.38) // 2, 12, INK, 0.38)
        if image is not None:
            left = centre - size // 2
            # Nearest-neighbour upscaling, as in view/image.
            method = cv2.INTER_NEAREST if size > image.shape[0] else cv2.INTER_AREA
            tile = cv2.resize(image, (size, size), interpolation=method)
            canvas[LABEL : LABEL + size, left : left + size] = tile
    return canvas


def centres(count: int) -> list[int]:
    """Horizontal centres of ``count`` images [px]."""
    return [round((i + 0.5) * WIDTH / count) for i in range(count)]


def curve(values: np.ndarray, columns: int, name: str) -> np.ndarray:
    """Draw values (n,) below the first n of ``columns`` images, and their name on the right."""
    canvas = blank(CURVE)
    known = values[np.isfinite(values)]
    top = max(float(known.max()), 1e-9) if len(known) else 1.0
    points = [
        (x, round(CURVE - 6 - (CURVE - 26) * max(float(value), 0.0) / top))
        for x, value in zip(centres(columns), values)
        if np.isfinite(value)
    ]
    if points:
        cv2.polylines(canvas, [np.array(points, np.int32)], False, LINE, 1, cv2.LINE_AA)
    for (x, y), value in zip(points, known):
        cv2.circle(canvas, (x, y), 3, LINE, cv2.FILLED, cv2.LINE_AA)
        text = f'{value:.2f}' if value < 10 else f'{value:.0f}'
        write(canvas, text, x - text_width(text, 0.38) // 2, y - 7, INK, 0.38)
    for line, part in enumerate(name.split('\n')):
        width = text_width(part, 0.38)
        write(canvas, part, centres(columns)[-1] - width // 2, 28 + 15 * line, LINE, 0.38)
    return canvas


def difference(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Mark the differences of two images (S, S, 3) in red, on a pale grey ``other``."""
    apart = np.abs(one.astype(np.float32) - other).max(axis=2, keepdims=True) / DIFFERENT
    pale = 160 + 0.35 * other.mean(axis=2, keepdims=True)
    share = np.clip(apart, 0, 1)
    return (
        np.rint((1 - share) * pale + share * np.array(THRESHOLD, np.float32))
        .clip(0, 255)
        .astype(np.uint8)
    )


def notice(text: str) -> np.ndarray:
    """Say in words why there is no image."""
    canvas = blank(100)
    for line, part in enumerate(textwrap.wrap(text, 84)[:5]):
        write(canvas, part, 8, 20 + 18 * line)
    return canvas
