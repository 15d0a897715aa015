# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Writing a robot's topics into a rosbag2 bag that survives a kill. No ROS here.

:mod:`bag` is the folder on disk, :mod:`recorder` the queue and the thread before it,
:mod:`flow` what is noticed of each topic on the way, :mod:`topics` what is worth recording,
:mod:`repair` makes a bag whole whose recorder was killed.
"""

from __future__ import annotations

from lewm_ros.errors import BagError

try:
    import mcap  # noqa: F401
    import rosbags  # noqa: F401
except ModuleNotFoundError as error:
    raise BagError(
        f"recording needs the Python package '{error.name}': pip install 'lewm_ros[record]'"
    ) from error
