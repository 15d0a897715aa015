# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Message types that bags are read and written with, without ROS."""

from __future__ import annotations

from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

#: All types that a contract may name. They are standard messages, the same in every
#: distribution, so the definitions stored in a bag are not needed.
TYPES = get_typestore(Stores.ROS2_JAZZY)


def has_header(kind: str) -> bool:
    """Whether messages of a type begin with a std_msgs/Header; False for an unknown type."""
    known = TYPES.fielddefs.get(kind)
    fields = known[1] if known is not None else []
    return bool(fields) and fields[0][1] == (Nodetype.NAME, 'std_msgs/msg/Header')
