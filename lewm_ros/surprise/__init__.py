# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Surprise: score, calibrated threshold, events. Numpy only; no ROS, no torch."""

from lewm_ros.surprise.calibration import conformal_threshold, window_maxima, windows_needed
from lewm_ros.surprise.events import Event, EventDetector
from lewm_ros.surprise.monitor import Edge, SurpriseMonitor, SurpriseReading, Thresholds
from lewm_ros.surprise.monitors import FrameGap, FrozenCamera, RunningMean
from lewm_ros.surprise.score import contributions, nominal_scale, score

__all__ = [
    'Edge',
    'Event',
    'EventDetector',
    'FrameGap',
    'FrozenCamera',
    'RunningMean',
    'SurpriseMonitor',
    'SurpriseReading',
    'Thresholds',
    'conformal_threshold',
    'contributions',
    'nominal_scale',
    'score',
    'window_maxima',
    'windows_needed',
]
