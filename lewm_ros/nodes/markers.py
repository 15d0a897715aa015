# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The level of surprise as markers: a bar with a mark at the threshold, and a line of text."""

from __future__ import annotations

from builtin_interfaces.msg import Duration
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
import numpy as np
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from lewm_ros.view.canvas import INK, LEVELS, PAPER, Colour
from lewm_ros.view.scale import decades, height
from lewm_ros.view.trace import Snapshot

#: RViz removes markers after this time, so that a dead node leaves no green bar [s].
LIFETIME = 2
LENGTH, THICKNESS = 1.0, 0.1  #: of the bar [m]
AHEAD = 1.0  #: in front of the camera [m]
LETTERS = 0.06  #: height of a capital [m]
TEXT = -0.3  #: from the bar to the middle of the text, up to five lines [m]


def gauge(snapshot: Snapshot, head: Header) -> MarkerArray:
    """Draw score and level in a camera's optical frame (x right, y down, z forward: REP-103).

    The bar is 1 m long and logarithmic: from a hundredth of the threshold to ten times it; so
    the threshold is always at two thirds. Not calibrated, it spans decades and has no mark.
    """
    if snapshot.threshold is None:
        low, high = map(float, decades(snapshot.scores, None))
    else:
        low, high = np.log10(snapshot.threshold) - 2, np.log10(snapshot.threshold) + 1
    filled = LENGTH * float(height(np.array([snapshot.score]), low, high)[0])
    if not snapshot.scores.size:
        filled = 0.0
    colour = LEVELS[snapshot.level]
    # RViz rejects a box of zero length, so the bar is at least 1 mm long.
    markers = [
        _box(head, 'track', LENGTH / 2, (LENGTH, THICKNESS, 0.02), INK, 0.4),
        _box(head, 'score', filled / 2, (max(filled, 0.001), THICKNESS, 0.04), colour),
    ]
    if snapshot.threshold is not None:
        at = LENGTH * 2 / 3
        markers.append(_box(head, 'threshold', at, (0.01, 1.6 * THICKNESS, 0.06), PAPER))
    label = _marker(head, 'label', Marker.TEXT_VIEW_FACING, LENGTH / 2, TEXT, colour)
    label.scale = Vector3(z=LETTERS)
    label.text = '\n'.join([snapshot.level.value, *snapshot.texts()])
    return MarkerArray(markers=[*markers, label])


def _box(
    head: Header,
    name: str,
    x: float,
    size: tuple[float, float, float],
    colour: Colour,
    opacity: float = 1.0,
) -> Marker:
    marker = _marker(head, name, Marker.CUBE, x, 0.0, colour, opacity)
    marker.scale = Vector3(x=size[0], y=size[1], z=size[2])
    return marker


def _marker(
    head: Header,
    name: str,
    kind: int,
    x: float,
    y: float,
    colour: Colour,
    opacity: float = 1.0,
) -> Marker:
    red, green, blue = (part / 255 for part in colour)
    return Marker(
        header=head,
        ns=name,
        type=kind,
        action=Marker.ADD,
        pose=Pose(position=Point(x=x, y=y, z=AHEAD), orientation=Quaternion(w=1.0)),
        color=ColorRGBA(r=red, g=green, b=blue, a=opacity),
        lifetime=Duration(sec=LIFETIME),
    )
