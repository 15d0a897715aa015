# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What recorder and readers of bags share; imports no package that reads bags."""

from __future__ import annotations

from pathlib import Path
import re
import struct

from lewm_ros.time import NS_PER_S

#: A log time further behind the newest than this [ns]: the clock was set back. Less is tolerated:
#: the middleware does not deliver topics in the order of arrival.
SET_BACK = NS_PER_S

#: File that describes a bag, in its folder.
METADATA = 'metadata.yaml'
#: Key of a bag's custom data: the command that made the bag.
COMMAND = 'lewm_command'


def header_stamp(data: bytes) -> int:
    """Stamp [ns] of a message in CDR that begins with a std_msgs/Header.

    0 where it is not set or the message is too short.
    """
    if len(data) < 12:
        return 0
    seconds, rest = struct.unpack_from('<iI' if data[1] & 1 else '>iI', data, 4)
    return seconds * NS_PER_S + rest


def natural(path: Path) -> list[int | str]:
    """Sort key that puts bag_10 after bag_9."""
    # Text and numbers alternate, so that equal places have equal types.
    parts = re.split(r'(\d+)', path.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
