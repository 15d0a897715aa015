# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Times of messages, and whether images and commands are stamped by the same clock."""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Sequence
import logging
from typing import Any

import numpy as np

from lewm_ros.bags.raw import Topic
from lewm_ros.robot.contract import Camera, Channel, Contract
from lewm_ros.time import APART, NS_PER_S, origin_hint, side

log = logging.getLogger('lewm')


class Stamps:
    """Times of messages [ns]: header stamps or log times.

    Log times are used if the contract says so, and for messages with no stamp or a zero stamp. A
    zero stamp is logged once for each topic.

    Args:
        unstamped: names of topics with zero stamps; new ones are added.

    Attributes:
        offsets: header stamps minus log times [ns] of the messages timed by their headers, by
            the key of the contract's section.

    """

    def __init__(self, unstamped: set[str]) -> None:
        self._unstamped = unstamped
        self.offsets: defaultdict[str, array[int]] = defaultdict(lambda: array('q'))

    def read(
        self, message: Any, logged: int, topic: Topic, source: Camera | Channel, delay: int = 0
    ) -> int:
        """Return the time of a message of a section; ``delay`` [ns] is added to a log time."""
        header = getattr(message, 'header', None)
        if header is None or source.stamp == 'log':
            return logged + delay
        stamp = header.stamp.sec * NS_PER_S + header.stamp.nanosec
        return self.note(stamp, logged, topic, source, delay)

    def note(
        self, stamp: int, logged: int, topic: Topic, source: Camera | Channel, delay: int = 0
    ) -> int:
        """Return the time of a message with this header stamp [ns]."""
        if stamp:
            self.offsets[source.key].append(stamp - logged)
            return stamp
        if topic.name not in self._unstamped:
            self._unstamped.add(topic.name)
            log.warning('%s: messages have a zero stamp; their log time is used', topic.name)
        return logged + delay

    def differ(self, contract: Contract) -> str | None:
        """Say how the clocks of images and commands differ; None if they agree."""
        applied = contract.action.applied.key
        return clocks_differ(self.offsets['camera'], self.offsets[applied], applied)


def clocks_differ(
    images: Sequence[int], commands: Sequence[int], applied: str = 'action'
) -> str | None:
    """Compare header stamps minus log times [ns] of images and commands; None if they agree.

    Either may be empty: its messages are timed by log time. The medians of the first and of the
    last quarter are compared, so that a drifting clock is found too. ``applied`` is the section of
    the contract that names the commands.
    """
    told = {'images': _quarters(images), 'commands': _quarters(commands)}
    apart = np.abs(np.subtract(told['images'], told['commands'])).max()
    if apart <= APART:
        return None
    texts, remedies = [], []
    for (name, (first, last)), given, key in zip(
        told.items(), (images, commands), ('camera', applied)
    ):
        if max(abs(first), abs(last)) > APART:
            remedies.append(f'{key}.stamp: log')
        if not len(given):
            texts.append(f'{name} use their log times')
        elif abs(last - first) > APART:
            texts.append(
                f'{name} are stamped {side(first)} their log times at the start, '
                f'{side(last)} them at the end'
            )
        else:
            texts.append(f'{name} are stamped {side(first)} their log times')
    return (
        f'clocks differ by {apart:.2f} s: {", ".join(texts)}{origin_hint(apart)}; frames would be '
        'paired with commands from another time: synchronise the clocks (chrony or PTP) and '
        f'record again, or set {" and ".join(remedies)} in the contract'
    )


def _quarters(offsets: Sequence[int]) -> tuple[float, float]:
    """Medians [s] of the first and of the last quarter."""
    if not len(offsets):
        return 0.0, 0.0
    values = np.asarray(offsets, dtype=np.int64) / NS_PER_S
    size = -(-len(values) // 4)
    return float(np.median(values[:size])), float(np.median(values[-size:]))
