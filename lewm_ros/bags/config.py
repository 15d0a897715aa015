# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Settings of what is recorded, see :mod:`lewm_ros.robot.settings`."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.robot.settings import check_settings, setting


@dataclass(frozen=True)
class RecorderConfig:
    """Settings of a recording."""

    gap: float = setting(
        0.5, 'A pause longer than this on a topic with a rate is a gap [s].', 0.001, 3600.0
    )
    split_seconds: float = setting(60.0, 'Length of one file of the bag [s].', 1.0, 86400.0)
    split_gb: float = setting(4.0, 'Size of one file of the bag [GB].', 0.001, 1000.0)
    flush_seconds: float = setting(
        1.0, 'Messages older than this are on disk and survive a kill [s].', 0.05, 60.0
    )
    queue_mb: float = setting(
        256.0, 'Buffer for the disk [MB]; more is dropped and counted.', 1.0, 65536.0
    )
    min_free_gb: float = setting(2.0, 'Free disk space below which recording ends [GB].', 0.0, 1e5)

    def __post_init__(self) -> None:
        check_settings(self)


@dataclass(frozen=True)
class EvidenceConfig:
    """Settings of the bags of events."""

    evidence_folder: str = setting('', 'Where bags of events go; empty: none.')
    evidence_seconds: float = setting(
        10.0, 'Length of such a bag, up to the event [s].', 0.1, 600.0
    )
    evidence_per_hour: int = setting(6, 'Bags in an hour, at most.', 1, 3600)
    evidence_mb: float = setting(
        1000.0,
        'Size of the folder, at most [MB]; once it is full there are no more bags.',
        1.0,
        1e7,
    )

    def __post_init__(self) -> None:
        check_settings(self)


DEFAULTS = RecorderConfig()
