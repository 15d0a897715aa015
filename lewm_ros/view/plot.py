# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The score over time against its threshold, as an image."""

from __future__ import annotations

import cv2
import numpy as np

from lewm_ros.view.canvas import (
    FAINT,
    HEADLINE,
    INK,
    LINE,
    PAPER,
    THRESHOLD,
    WIDTH,
    Colour,
    blank,
    headline,
    text_width,
    write,
)
from lewm_ros.view.scale import decades, height
from lewm_ros.view.trace import Anomaly, Snapshot

HEIGHT = 256  #: of the image [px]
LEFT, RIGHT = 56, WIDTH - 12  #: of the axes [px]
TOP, BOTTOM = HEADLINE + 18, HEIGHT - 36
#: Spans of events, by what raised them.
SHADES: dict[str, Colour] = {'surprise': (255, 214, 214)}
OTHER_SHADE: Colour = (255, 229, 194)  #: of the monitors

_SHIFT = 4  # OpenCV draws lines at fractions of 1/16 px


def x_of(times: np.ndarray, span: float) -> np.ndarray:
    """Return the column of times in [-span, 0] s, as float [px]."""
    return LEFT + (times / span + 1) * (RIGHT - LEFT)


def y_of(scores: np.ndarray, low: int, high: int) -> np.ndarray:
    """Return the row of scores between 10^low and 10^high, as float [px]."""
    return BOTTOM - height(scores, low, high) * (BOTTOM - TOP)


def plot(snapshot: Snapshot) -> np.ndarray:
    """Draw the scores of a snapshot: (HEIGHT, WIDTH, 3).

    The axis is logarithmic. The threshold is dashed, events are shaded, gaps are left open, and
    scores that are not finite are red marks at the top.
    """
    image = blank(HEIGHT)
    image[:HEADLINE] = headline(snapshot)
    low, high = decades(snapshot.scores, snapshot.threshold)
    for anomaly in snapshot.anomalies:
        _shade(image, snapshot, anomaly)
    _axes(image, snapshot, low, high)
    if snapshot.threshold is not None:
        _threshold(image, snapshot, low, high)
    _scores(image, snapshot, low, high)
    if not snapshot.scores.size:
        write(image, f'no scores in the last {snapshot.span:g} s', LEFT + 12, TOP + 40)
    return image


def _shade(image: np.ndarray, snapshot: Snapshot, anomaly: Anomaly) -> None:
    end = 0.0 if anomaly.end is None else snapshot.ago(anomaly.end)
    edges = np.array([max(snapshot.ago(anomaly.start), -snapshot.span), min(end, 0.0)])
    if edges[1] < -snapshot.span or edges[0] > 0:
        return
    left, right = x_of(edges, snapshot.span).round().astype(int)
    right = max(right, left + 1)  # at least one pixel, to stay visible
    image[TOP : BOTTOM + 1, left : right + 1] = SHADES.get(anomaly.kind, OTHER_SHADE)
    label = anomaly.kind if anomaly.kind != 'surprise' else f'#{anomaly.id}'
    write(image, label, min(left, RIGHT - text_width(label, 0.36)), TOP - 5, THRESHOLD, 0.36)


def _axes(image: np.ndarray, snapshot: Snapshot, low: int, high: int) -> None:
    for power in range(low, high + 1):
        y = round(float(y_of(np.array([10.0**power]), low, high)[0]))
        cv2.line(image, (LEFT, y), (RIGHT, y), FAINT, 1)
        label = f'{10.0**power:g}'
        write(image, label, LEFT - 6 - text_width(label), y + 4)
    step = next(s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600) if snapshot.span / s <= 6.5)
    for ago in range(0, int(snapshot.span) + 1, step):
        x = round(float(x_of(np.array([-float(ago)]), snapshot.span)[0]))
        cv2.line(image, (x, TOP), (x, BOTTOM), FAINT, 1)
        label = 'now' if ago == 0 else f'-{ago}'
        place = min(x - text_width(label) // 2, WIDTH - 2 - text_width(label))
        write(image, label, place, BOTTOM + 15)
    cv2.rectangle(image, (LEFT, TOP), (RIGHT, BOTTOM), INK, 1)
    write(image, 'score', 6, TOP - 5)
    label = 'time [s]'
    write(image, label, (LEFT + RIGHT - text_width(label)) // 2, HEIGHT - 6)


def _threshold(image: np.ndarray, snapshot: Snapshot, low: int, high: int) -> None:
    y = round(float(y_of(np.array([snapshot.threshold]), low, high)[0]))
    for x in range(LEFT, RIGHT, 10):
        cv2.line(image, (x, y), (min(x + 6, RIGHT), y), THRESHOLD, 1)
    label = snapshot.threshold_text()
    # On a blank background, so that no curve or grid line crosses the letters.
    image[y - 15 : y - 2, LEFT + 4 : LEFT + 10 + text_width(label, 0.4)] = PAPER
    write(image, label, LEFT + 7, y - 5, THRESHOLD, 0.4)


def _scores(image: np.ndarray, snapshot: Snapshot, low: int, high: int) -> None:
    times, scores = snapshot.times, snapshot.scores
    if not scores.size:
        return
    x, y = x_of(times, snapshot.span), y_of(scores, low, high)
    points = np.stack([x, y], axis=1)
    broken = ~np.isfinite(scores)
    gaps = np.diff(times)
    apart = gaps > 3 * np.median(gaps) if gaps.size else gaps
    apart = apart | broken[1:] | broken[:-1]
    cuts = np.flatnonzero(apart) + 1
    for part, bad in zip(np.split(points, cuts), np.split(broken, cuts)):
        fixed = (part * 2**_SHIFT).round().astype(np.int32)
        cv2.polylines(image, [fixed], False, LINE, 1, cv2.LINE_AA, _SHIFT)
        if len(part) == 1 and not bad[0]:
            _dot(image, part[0], 2)  # a single score between two gaps has no line
    for column in x[broken].round().astype(int):
        cv2.line(image, (column, TOP), (column, TOP + 8), THRESHOLD, 2)
    if not broken[-1]:
        _dot(image, points[-1], 3)


def _dot(image: np.ndarray, point: np.ndarray, radius: int) -> None:
    x, y = point.round().astype(int).tolist()
    cv2.circle(image, (x, y), radius, LINE, cv2.FILLED, cv2.LINE_AA)
