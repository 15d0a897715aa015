# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The programs of single nodes, which `ros2 run` and the launch files start.

Heavy imports come only after signals can be noted and errors reported as one line.
"""

from __future__ import annotations

from functools import partial
from importlib import import_module
import sys

from lewm_ros.bringup.supervisor import STATUS_UNUSABLE, signals_noted
from lewm_ros.errors import LewmError


def run_node(name: str) -> int:
    """Run one node with the command line's ROS arguments; return the exit status."""
    with signals_noted():
        try:
            compose = import_module('lewm_ros.bringup.compose')
            return int(compose.run([(name, compose.node_class(name))], sys.argv))
        except ModuleNotFoundError as error:
            from lewm_ros.install import missing_package  # slow to import

            text = missing_package(error.name or str(error))
        except LewmError as error:
            text = str(error).removeprefix(f'{name}: ')
    print(f'{name}: error: {text}', file=sys.stderr)
    return STATUS_UNUSABLE


encoder_node = partial(run_node, 'encoder_node')
planner_node = partial(run_node, 'planner_node')
controller_node = partial(run_node, 'controller_node')
surprise_node = partial(run_node, 'surprise_node')
recorder_node = partial(run_node, 'recorder_node')
sim_node = partial(run_node, 'sim_node')
trial_node = partial(run_node, 'trial_node')
view_node = partial(run_node, 'view_node')
