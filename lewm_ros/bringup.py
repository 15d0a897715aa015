# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What starts together: plain data that `lewm up` and the launch files read, and a supervisor.

No node is imported here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import signal
import subprocess
import sys
import time

from lewm_ros.bundle import Bundle
from lewm_ros.contract import Contract
from lewm_ros.errors import BringupError
from lewm_ros.share import find
from lewm_ros.sim import make_task

#: Every node: name → where its class is. Console scripts have the same names.
NODES = {
    'encoder_node': 'lewm_ros.nodes.encoder:EncoderNode',
    'planner_node': 'lewm_ros.nodes.planner:PlannerNode',
    'controller_node': 'lewm_ros.nodes.controller:ControllerNode',
    'surprise_node': 'lewm_ros.nodes.surprise:SurpriseNode',
    'sim_node': 'lewm_ros.nodes.sim:SimNode',
    'trial_node': 'lewm_ros.nodes.trial:TrialNode',
}
