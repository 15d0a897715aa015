# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""When messages count, and whether images and commands are stamped by one clock."""

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
    """When messages count [ns]: by their headers, or when they were logged.

    Log times where the contract says so, and where there is no stamp or it is zero, which is
    logged once for each topic.

    Args:
        unstamped: names of topics with zero stamps, which are added here.

    Attributes:
        offsets: header stamps less log times [ns] of messages that count by their headers, by
            the key of a contract's section.

    """

    def __init__(self, unstamped: set[str]) -> None:
        self._unstamped = unstamped
        self.offsets: defaultdict[str, array[int]] = defaultdict(lambda: array('q'))

    def read(
        self, message: Any, logged: int, topic: Topic, source: Camera | Channel, delay: int = 0
    ) -> int:
        """Return when a message of a section counts; ``delay`` [ns] is added to a log time."""
        header = getattr(message, 'header', None)
        if header is None or source.stamp == 'log':
            return logged + delay
        stamp = header.stamp.sec * NS_PER_S + header.stamp.nanosec
        return self.note(stamp, logged, topic, source, delay)

    def note(
        self, stamp: int, logged: int, topic: Topic, source: Camera | Channel, delay: int = 0
    ) -> int:
        """Return when a message of this header stamp [ns] counts."""
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
    """Compare header stamps less log times [ns] of images and commands; None if they agree.

    Either may be empty: its messages count by their log times. The medians of the first and of
    the last quarter are compared, so that a clock that drifts is found as well. ``applied`` is
    the section of the contract that names the commands.
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
            texts.append(f'{name} count by their log times')
        elif abs(last - first) > APART:
            texts.append(
                f'{name} are stamped {side(first)} their log times at first, '
                f'{side(last)} them at last'
            )
        else:
            texts.append(f'{name} are stamped {side(first)} their log times')
    return (
        f'clocks differ by {apart:.2f} s: {", ".join(texts)}{origin_hint(apart)}; frames would be '
        'paired with the commands of another time: synchronise the clocks (chrony or PTP) and '
        f'record again, or set {" and ".join(remedies)} in the contract'
    )


def _quarters(offsets: Sequence[int]) -> tuple[float, float]:
    """Medians [s] of the first and of the last quarter."""
    if not len(offsets):
        return 0.0, 0.0
    values = np.asarray(offsets, dtype=np.int64) / NS_PER_S
    size = -(-len(values) // 4)
    return float(np.median(values[:size])), float(np.median(values[-size:]))
