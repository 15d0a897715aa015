# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Whether the stamps of images and commands are of one clock, by the times they were logged at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lewm_ros.time import NS_PER_S

#: Stamps of images and commands may be apart by so much [s]: more is no delay of a message.
APART = 0.5


def clocks_differ(images: Sequence[int], commands: Sequence[int]) -> str | None:
    """Compare header stamps less log times [ns] of images and commands; None if they agree.

    Either may be empty: messages without stamps are used by their log times. The medians of the
    first and of the last quarter are compared, so that a clock that drifts is found as well.
    """
    told = {'images': _quarters(images), 'commands': _quarters(commands)}
    apart = np.abs(np.subtract(told['images'], told['commands'])).max()
    if apart <= APART:
        return None
    texts = []
    for (name, (first, last)), given in zip(told.items(), (images, commands)):
        if not len(given):
            texts.append(f'{name} have no stamp')
        elif abs(last - first) > APART:
            texts.append(
                f'{name} are stamped {_side(first)} their log times at first, '
                f'{_side(last)} them at last'
            )
        else:
            texts.append(f'{name} are stamped {_side(first)} their log times')
    return (
        f'clocks differ by {apart:.2f} s: {", ".join(texts)}; frames would be paired with the '
        'commands of another time: synchronise the clocks (chrony or PTP) and record again'
    )


def _quarters(offsets: Sequence[int]) -> tuple[float, float]:
    """Medians [s] of the first and of the last quarter."""
    if not len(offsets):
        return 0.0, 0.0
    values = np.asarray(offsets, dtype=np.int64) / NS_PER_S
    size = -(-len(values) // 4)
    return float(np.median(values[:size])), float(np.median(values[-size:]))


def _side(offset: float) -> str:
    return f'{abs(offset):.2f} s {"ahead of" if offset > 0 else "behind"}'
