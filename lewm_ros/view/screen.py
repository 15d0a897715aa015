# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The trace as lines of text, for a terminal of 80 columns or more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
import math

import numpy as np

from lewm_ros.time import NS_PER_S
from lewm_ros.view.scale import decades, height
from lewm_ros.view.trace import Anomaly, Level, Snapshot, show

ROWS = 8  #: of the curve
WIDTH = 80  #: at least; a wider terminal is used up to MOST
MOST = 140
LABELS = 8  #: columns of the labels on the left
EVENTS = 6  #: of the list; the newest
_EIGHTHS = ' ▁▂▃▄▅▆▇█'

RESET = '\x1b[0m'
_BADGES = {  # white or black letters on the colour of the level
    Level.SILENT: '\x1b[30;47m',
    Level.UNCALIBRATED: '\x1b[97;44m',
    Level.NORMAL: '\x1b[30;42m',
    Level.RAISED: '\x1b[30;43m',
    Level.ANOMALY: '\x1b[1;97;41m',
}
_RED, _FAINT = '\x1b[31m', '\x1b[2m'


def screen(
    snapshot: Snapshot, name: str, notes: list[str], width: int = WIDTH, colour: bool = False
) -> list[str]:
    """Draw a snapshot: level, score, curve against threshold, events, notes.

    Args:
        snapshot: what is drawn.
        name: of the watched namespace, for the first line.
        notes: other messages, a line each.
        width: of the terminal [columns]; no line is wider.
        colour: whether lines may hold ANSI colours. The level is a word as well.

    """
    width = min(max(width, WIDTH), MOST)

    def paint(text: str, code: str) -> str:
        return f'{code}{text}{RESET}' if colour else text

    right = f'{snapshot.rate:.1f} scores/s'
    lines = [f'{name[: width - len(right) - 1]:<{width - len(right)}}{right}', '']
    badge = f' {snapshot.level.value} '
    headline = snapshot.headline()[: width - len(badge) - 2]
    lines += [f'{paint(badge, _BADGES[snapshot.level])}  {headline}', '']
    for label, cells, hot in _curve(snapshot, width - LABELS):
        row = ''.join(paint(c, _RED) if h else c for c, h in zip(cells, hot))
        lines.append(f'{label:>{LABELS - 2}} ' + paint('│', _FAINT) + row)
    left = f'{-snapshot.span:g} s'
    axis = f'{left}{"now":>{width - LABELS - len(left)}}'
    lines += [' ' * LABELS + paint(axis, _FAINT), '']
    lines += _events(snapshot, width, paint)
    lines += [paint(text[:width], _RED) for text in notes]
    return lines


def _curve(snapshot: Snapshot, columns: int) -> list[tuple[str, str, list[bool]]]:
    """Rows from the top: a label, the cells, and which of them are above the threshold."""
    low, high = decades(snapshot.scores, snapshot.threshold)
    # The highest score of each column; a column without any stays empty.
    best = np.full(columns, -math.inf)
    places = ((snapshot.times / snapshot.span + 1) * columns).astype(int)
    scores = np.where(np.isnan(snapshot.scores), math.inf, snapshot.scores)
    np.maximum.at(best, np.clip(places, 0, columns - 1), scores)
    levels = np.where(best == -math.inf, 0.0, height(best, low, high) * ROWS * 8)
    levels = np.where((best != -math.inf) & (levels < 1), 1, levels).round().astype(int)
    line = None
    if snapshot.threshold is not None:
        line = min(int(height(np.array([snapshot.threshold]), low, high)[0] * ROWS), ROWS - 1)
    rows = []
    for row in reversed(range(ROWS)):
        cells, hot = '', []
        for column in range(columns):
            filled = min(max(levels[column] - 8 * row, 0), 8)
            above = snapshot.threshold is not None and best[column] > snapshot.threshold
            dash = filled == 0 and row == line
            cells += '-' if dash else _EIGHTHS[filled]
            hot.append(dash or bool(above and filled))
        label = ''
        if row == line and snapshot.threshold is not None:
            label = show(snapshot.threshold)
        elif row == ROWS - 1:
            label = f'{10.0**high:g}'
        elif row == 0:
            label = f'{10.0**low:g}'
        rows.append((label, cells, hot))
    return rows


def _events(snapshot: Snapshot, width: int, paint: Callable[[str, str], str]) -> list[str]:
    newest = snapshot.anomalies[-EVENTS:]
    if not newest:
        return ['no events received']
    counts: dict[str, int] = {}
    for anomaly in snapshot.anomalies:
        counts[anomaly.kind] = counts.get(anomaly.kind, 0) + 1
    summary = ', '.join(f'{n} {kind}' for kind, n in sorted(counts.items()))
    lines = [f'events received: {summary}'[:width]]
    for anomaly in reversed(newest):
        text = f'  {_describe(anomaly, snapshot)}'[:width]
        lines.append(paint(text, _RED) if anomaly.end is None else text)
    return lines


def _describe(anomaly: Anomaly, snapshot: Snapshot) -> str:
    when = datetime.fromtimestamp(anomaly.start / NS_PER_S).strftime('%H:%M:%S')
    if anomaly.end is None:
        lasting = f'open for {max(-snapshot.ago(anomaly.start), 0):.1f} s'
    else:
        lasting = f'{(anomaly.end - anomaly.start) / NS_PER_S:.2f} s'
    return f'{when}  {anomaly.kind:<14} #{anomaly.id:<5} {lasting:<16} {anomaly.peak_text}'.rstrip()
