# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reading and writing rosbag2 recordings, without ROS.

Writing: :mod:`writer` (bag on disk), :mod:`recorder` (queue and writer thread), :mod:`session`
(one recording), :mod:`flow` (rate and gaps of a topic), :mod:`topics` (what is recorded),
:mod:`evidence` (small bags of anomalies), :mod:`repair` (bags whose recorder was killed).
Reading: :mod:`reader` (messages of a bag), :mod:`episodes` (what training reads).
Reports: :mod:`check`, :mod:`inspection`.
"""
