# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Time as ROS counts it: whole nanoseconds."""

from __future__ import annotations

NS_PER_S = 1_000_000_000  #: nanoseconds in a second
#: Clocks further apart than this [s] are not synchronised: no message is delayed that long.
APART = 0.5


def side(offset: float) -> str:
    """Say how far a stamp is ahead of, or behind, another time [s]."""
    return f'{abs(offset):.2f} s {"ahead of" if offset > 0 else "behind"}'


def origin_hint(offset: float) -> str:
    """Return a hint if clocks may have different epochs: more than a day apart [s]."""
    return ' (simulated time, or time since boot?)' if abs(offset) > 86_400 else ''
