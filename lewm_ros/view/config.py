# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Settings of what is drawn, see :mod:`lewm_ros.robot.settings`."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.robot.settings import setting


@dataclass(frozen=True)
class ViewConfig:
    """How often and how far back scores are drawn; checked as parameters of the nodes."""

    rate: float = setting(
        10.0, 'Images of each output per second, at most [Hz].', 1.0, 60.0, dynamic=True
    )
    seconds: float = setting(60.0, 'Length of the plot [s].', 5.0, 600.0, dynamic=True)
