# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Settings of the detectors, see :mod:`lewm_ros.robot.settings`."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.robot.settings import check_settings, setting


@dataclass(frozen=True)
class SurpriseConfig:
    """How far ahead frames are predicted, and when events start and end."""

    alpha: float = setting(
        0.01,
        'Chance of a false alarm per calibration window; the bundle must be calibrated for it.',
        0.0001,
        0.5,
        dynamic=True,
    )
    horizon: int = setting(
        1,
        'How far ahead frames are predicted [blocks]; the bundle must be calibrated for it.',
        1,
        1000,
    )
    release: float = setting(
        0.5, 'A surprise ends below this part of its threshold.', 0.01, 1.0, dynamic=True
    )
    hold: float = setting(
        0.5,
        'Time below `release` × threshold (drift: below threshold) after which an event ends [s].',
        0.0,
        60.0,
        dynamic=True,
    )
    frozen_seconds: float = setting(
        0.3,
        'Images equal for longer than this while commands move the robot mean a frozen camera [s].',
        0.05,
        60.0,
    )
    gap_seconds: float = setting(
        0.5,
        'A longer pause between frames is a gap [s]; at least two periods of the camera.',
        0.01,
        60.0,
    )

    def __post_init__(self) -> None:
        check_settings(self)


DEFAULTS = SurpriseConfig()
