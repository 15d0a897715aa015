# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The camera image and the goal, with the level of surprise around them."""

from __future__ import annotations

import cv2
import numpy as np

from lewm_ros.view.canvas import (
    FAINT,
    HEADLINE,
    LEVELS,
    PAPER,
    WIDTH,
    blank,
    headline,
    text_width,
    write,
)
from lewm_ros.view.trace import Level, Snapshot

CELL = (WIDTH // 2, 240)  #: width and height that an image is fitted into [px]
FRAME = 6  #: thickness of the coloured frame [px]


def annotated(
    image: np.ndarray | None,
    goal: np.ndarray | None,
    crop: tuple[int, int, int, int] | None,
    snapshot: Snapshot,
    time_to_goal: float = float('nan'),
) -> np.ndarray:
    """Draw camera and goal side by side under the headline: (268, WIDTH, 3).

    Args:
        image: RGB (H, W, 3) uint8 of any size, None while there is none; its aspect ratio is
            kept.
        goal: the same.
        crop: x, y, width, height [px] of what the model sees of the images, None for all.
        snapshot: what the headline says, and the colour of the frame unless all is normal.
        time_to_goal: by the roadmap [s]; NaN where it is unknown.

    """
    canvas = blank(HEADLINE + CELL[1], FAINT)
    canvas[:HEADLINE] = headline(snapshot)
    away = f' in {time_to_goal:.1f} s' if np.isfinite(time_to_goal) else ''
    for left, name, seen, more in ((0, 'camera', image, ''), (CELL[0], 'goal', goal, away)):
        if seen is None:
            write(canvas, f'no {name} image', left + 110, HEADLINE + CELL[1] // 2)
        else:
            _place(canvas, seen, crop, left)
        width = max(text_width(name + more) + 8, 58)
        label = (left + 8, HEADLINE + 8), (left + 8 + width, HEADLINE + 26)
        cv2.rectangle(canvas, *label, FAINT, cv2.FILLED)
        write(canvas, name + more, left + 12, HEADLINE + 21)
    if snapshot.level is not Level.NORMAL:
        corner = (CELL[0] - 1 - FRAME // 2, HEADLINE + CELL[1] - 1 - FRAME // 2)
        top = (FRAME // 2, HEADLINE + FRAME // 2)
        cv2.rectangle(canvas, top, corner, LEVELS[snapshot.level], FRAME)
    return canvas


def _place(
    canvas: np.ndarray, image: np.ndarray, crop: tuple[int, int, int, int] | None, left: int
) -> None:
    height, width = image.shape[:2]
    scale = min(CELL[0] / width, CELL[1] / height)
    size = (max(round(width * scale), 1), max(round(height * scale), 1))
    # Nearest-neighbour upscaling shows the pixels that the model sees.
    method = cv2.INTER_NEAREST if scale > 1 else cv2.INTER_AREA
    x = left + (CELL[0] - size[0]) // 2
    y = HEADLINE + (CELL[1] - size[1]) // 2
    canvas[y : y + size[1], x : x + size[0]] = cv2.resize(image, size, interpolation=method)
    if crop is not None:
        first = (x + round(crop[0] * scale), y + round(crop[1] * scale))
        last = (x + round((crop[0] + crop[2]) * scale), y + round((crop[1] + crop[3]) * scale))
        cv2.rectangle(canvas, first, last, PAPER, 1)
