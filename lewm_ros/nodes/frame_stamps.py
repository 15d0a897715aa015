# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Checks the stamps of camera frames and of commands: their rate and their clock."""

from __future__ import annotations

from lewm_ros.nodes.figures import StampRate
from lewm_ros.time import APART, NS_PER_S, origin_hint, side

#: A camera counts as slow below the first share of its training rate, until it reaches the second.
SLOW, FAST_ENOUGH = 0.8, 0.9
#: Its rate is measured over this time [s], or over this many frames if they take longer.
RATE_SECONDS, RATE_FRAMES = 5.0, 20


def silence_text(topic: str, seconds: float, publishers: int, came: bool) -> str:
    """Report that no frames came for ``seconds`` [s], with the remedy.

    ``publishers`` of the topic exist now; ``came``: there were frames before.
    """
    text = f'no frames on {topic} for {seconds:.0f} s (publishers: {publishers}): '
    if not publishers:
        return text + 'start the camera driver, or correct camera.topic in the contract'
    if came:
        return text + 'restart the camera driver'
    return text + (
        'if they are raw images above 512 KiB, set config/fastdds.xml for the camera driver too; '
        'run it as the same user as this node (docs/safety.md)'
    )


class StampClock:
    """Compares the clock that stamps the messages of a topic with that of the node.

    Args:
        what: the messages, such as frames.
        key: section of the contract that names their topic.
        ahead: stamps may be ahead by up to this [s].

    """

    def __init__(self, what: str, key: str, ahead: float = 0.0) -> None:
        self._what, self._key, self._ahead = what, key, ahead
        self._newest: float | None = None  # smallest offset since the last check [s]
        self._offset = 0.0  # the same at the last check that had a message [s]

    def add(self, stamp: int, received: int) -> None:
        """Add the stamp of a message and its receive time by the node's clock [ns]."""
        offset = (stamp - received) / NS_PER_S
        offset -= min(max(offset, 0.0), self._ahead)
        self._newest = offset if self._newest is None else min(self._newest, offset, key=abs)

    def clear(self) -> None:
        """Start over, after a silence."""
        self._newest, self._offset = None, 0.0

    def differs(self, topic: str) -> str | None:
        """Warn if the messages of a topic since the last call are stamped by another clock."""
        if self._newest is not None:
            self._offset, self._newest = self._newest, None
        if abs(self._offset) <= APART:
            return None
        return (
            f"{self._what} on {topic} are stamped {side(self._offset)} this node's clock"
            f'{origin_hint(self._offset)}: synchronise the clocks (chrony or PTP), or set '
            f'{self._key}.stamp: log in the contract and train with it'
        )


class FrameStamps:
    """Watches the stamps of the frames of one topic.

    Args:
        period: between frames in training [s].

    """

    def __init__(self, period: float) -> None:
        self._trained = 1 / period
        self._rate = StampRate(max(RATE_SECONDS, RATE_FRAMES * period))
        self._slow = False
        self._clock = StampClock('frames', 'camera')

    def add(self, stamp: int, received: int) -> None:
        """Add the stamp of a frame and its receive time by the node's clock [ns]."""
        self._rate.add(stamp)
        self._clock.add(stamp, received)

    def clear(self) -> None:
        """Start over, after a silence."""
        self._rate.clear()
        self._clock.clear()

    def slow(self, topic: str) -> str | None:
        """Warn if the camera of a topic is slower than in training: contexts then lack frames."""
        rate = self._rate.hz
        self._slow = rate < (FAST_ENOUGH if self._slow else SLOW) * self._trained
        if not self._slow:
            return None
        return (
            f'frames at {rate:.1f} Hz on {topic}, the bundle was trained at '
            f'{self._trained:.1f} Hz: set the camera to that rate'
        )

    def other_clock(self, topic: str) -> str | None:
        """Warn if the frames of a topic since the last call are stamped by another clock."""
        return self._clock.differs(topic)
