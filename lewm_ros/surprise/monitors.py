# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Cheap monitors for faults that the surprise score misses: drift, frozen camera, missing frames.

Each turns the stream of frames into one figure that an
:class:`~lewm_ros.surprise.events.EventDetector` compares with a threshold.
"""

from __future__ import annotations

from collections import deque
import math

import numpy as np

from lewm_ros.time import NS_PER_S

#: Span of the running mean of the score [s].
DRIFT_SPAN = 10.0
#: A longer pause between frames resets the running mean [s].
PAUSE = 1.0
#: Commands that change by more than this should move the robot [standard deviations].
MOVING = 0.2
#: Share of the time without such commands that is subtracted while the image stands still.
TRUST = 0.25


class RunningMean:
    """Mean of the scores of the last :data:`DRIFT_SPAN` seconds.

    It responds to changes that are too slow or too small to show in a single score. Its threshold
    is calibrated on nominal running means, by the same rule as that of the score.
    """

    def __init__(self) -> None:
        self._span = round(DRIFT_SPAN * NS_PER_S)
        self.reset()

    def reset(self) -> None:
        """Start over (new episode, pause, clock jump)."""
        self._scores: deque[tuple[int, float]] = deque()
        self._begun: int | None = None

    def update(self, stamp: int, score: float) -> float | None:
        """Take the score of the frame at ``stamp`` [ns]; None until a whole span is there."""
        newest = self._scores[-1][0] if self._scores else stamp
        if not 0 <= stamp - newest <= PAUSE * NS_PER_S:
            self.reset()
        if self._begun is None:
            self._begun = stamp
        self._scores.append((stamp, score))
        while self._scores[0][0] <= stamp - self._span:
            self._scores.popleft()
        if stamp - self._begun < self._span:
            return None
        return math.fsum(s for _, s in self._scores) / len(self._scores)


def running_means(stamps: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Running mean (n,) at each frame of one episode, NaN where there is none yet.

    ``stamps`` (n,) int64 [ns] ascending, ``scores`` (n,).
    """
    mean = RunningMean()
    found = [mean.update(stamp, score) for stamp, score in zip(stamps.tolist(), scores.tolist())]
    return np.array([math.nan if m is None else m for m in found])


def commands_move(executed: np.ndarray, std: np.ndarray, kind: str) -> bool:
    """Whether executed commands should move the robot, as opposed to holding it in place.

    They should if one of them changes by more than :data:`MOVING` standard deviations of the
    training commands; velocities also if they are as far from zero. A constant position or
    effort may be what holds the robot.

    Args:
        executed: (n, A) commands, contract units, tick by tick.
        std: (A,) of the training commands, above 0.
        kind: of the contract's action.

    """
    spread = np.ptp(executed, axis=0)
    if kind == 'velocity':
        spread = np.maximum(spread, np.abs(executed).max(axis=0))
    return bool((spread > MOVING * std).any())


class FrozenCamera:
    """Seconds for which the image stood still although commands should have moved the robot.

    Equal frames have bit-equal latents, and the frames of a real camera are never equal. A
    simulated one sends equal frames of a robot at rest. Time therefore counts only while the robot
    should move, and :data:`TRUST` of the other time is subtracted. Commands that change repeatedly
    add up; occasional twitches that are too small to show do not. Once above ``limit`` [s] the
    figure is held until the image changes, because a robot that was stopped for it should no longer
    move.
    """

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.reset()

    def reset(self) -> None:
        """Start over (new episode)."""
        self._last: tuple[int, np.ndarray] | None = None
        self._seconds = 0.0

    def update(self, stamp: int, latent: np.ndarray, moving: bool) -> float:
        """Update with the latent (D,) of the frame at ``stamp`` [ns] and :func:`commands_move`."""
        last, self._last = self._last, (stamp, latent)
        elapsed = 0.0 if last is None else (stamp - last[0]) / NS_PER_S
        # After a pause nothing is known of the frames between.
        if last is None or not 0 < elapsed <= PAUSE or not np.array_equal(latent, last[1]):
            self._seconds = 0.0
            return 0.0
        if moving:
            self._seconds += elapsed
        elif self._seconds <= self.limit:
            self._seconds = max(0.0, self._seconds - TRUST * elapsed)
        return self._seconds


class FrameGap:
    """Seconds without a new frame, by the frames' stamps and by their arrival times.

    The figure is the pause that the newest frame ended, or the current pause.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start over (new episode, clock jump): the time until the next frame is no gap."""
        self.newest: int | None = None  #: stamp of the last frame [ns]
        self._came = 0.0

    def frame(self, stamp: int, now: float) -> float:
        """Add a frame of ``stamp`` [ns] that arrived at ``now`` [s, steady]; return its gap [s]."""
        pause = self.silence(now)
        if self.newest is not None:
            pause = max(pause, (stamp - self.newest) / NS_PER_S)
        self.newest, self._came = stamp, now
        return pause

    def silence(self, now: float) -> float:
        """Seconds since the last frame came; 0 before the first."""
        return 0.0 if self.newest is None else now - self._came
