# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Shared by the images: size, colours, text drawing, the headline. Images are RGB uint8."""

from __future__ import annotations

import cv2
import numpy as np

from lewm_ros.view.trace import Level, Snapshot

#: Width of every image [px]. With a height of at most 268 px, a message stays below 512 KiB, above
#: which Fast DDS by default fragments messages (docs/safety.md).
WIDTH = 640
HEADLINE = 28  #: height of the headline [px]

Colour = tuple[int, int, int]

INK: Colour = (40, 40, 40)
FAINT: Colour = (222, 222, 222)
PAPER: Colour = (255, 255, 255)
LINE: Colour = (31, 119, 180)
THRESHOLD: Colour = (200, 30, 30)
LEVELS: dict[Level, Colour] = {
    Level.SILENT: (110, 110, 110),
    Level.UNCALIBRATED: (70, 100, 160),
    Level.NORMAL: (30, 130, 50),
    Level.RAISED: (205, 120, 0),
    Level.ANOMALY: (200, 30, 30),
}


def blank(height: int, colour: Colour = PAPER) -> np.ndarray:
    """Return an empty image, (height, WIDTH, 3)."""
    return np.full((height, WIDTH, 3), colour, np.uint8)


def write(
    image: np.ndarray,
    text: str,
    x: int,
    y: int,
    colour: Colour = INK,
    size: float = 0.42,
    weight: int = 1,
) -> None:
    """Write with the baseline at ``y`` [px]."""
    cv2.putText(image, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, size, colour, weight, cv2.LINE_AA)


def text_width(text: str, size: float = 0.42) -> int:
    """Return how wide a text is [px]."""
    return cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, 1)[0][0]


def headline(snapshot: Snapshot) -> np.ndarray:
    """Draw the level, by word and by colour, and the figures: (HEADLINE, WIDTH, 3)."""
    strip = blank(HEADLINE)
    colour = LEVELS[snapshot.level]
    word = snapshot.level.value
    end = 16 + cv2.getTextSize(word, cv2.FONT_HERSHEY_SIMPLEX, 0.5, 2)[0][0]
    cv2.rectangle(strip, (0, 0), (end, HEADLINE - 1), colour, cv2.FILLED)
    write(strip, word, 8, 19, PAPER, 0.5, 2)
    write(strip, snapshot.headline(), end + 10, 19, INK, 0.45)
    return strip
