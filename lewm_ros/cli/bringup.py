# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Shared by the commands that run nodes: launch arguments as options, running the nodes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from lewm_ros.bringup.groups import ARGUMENTS, Bringup, Override, enclave
from lewm_ros.bringup.supervisor import signals_noted
from lewm_ros.errors import ConfigError


def add_launch_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the launch arguments as options."""
    described = {a.name: a for a in ARGUMENTS}
    for name in ('bundle', 'contract', 'params_file', 'namespace', 'log_level'):
        argument = described[name]
        default = f" (default '{argument.default}')" if argument.default else ''
        parser.add_argument(
            f'--{name.replace("_", "-")}',
            default=argument.default,
            choices=argument.choices or None,
            help=argument.description + default,
        )
    parser.add_argument(
        '--use-sim-time', action='store_true', help=described['use_sim_time'].description
    )


@signals_noted()
def run_nodes(bringup: Bringup, args: argparse.Namespace, overrides: Sequence[Override]) -> int:
    """Run the nodes in this process."""
    compose = import_compose()
    nodes = [(name, compose.node_class(name)) for name in bringup.nodes]
    arguments = bringup.ros_arguments(args.namespace, args.log_level)
    if len(bringup.nodes) == 1:  # else none fits all
        arguments += ['--enclave', enclave(args.namespace, bringup.nodes[0])]
    return compose.run(nodes, arguments, [*bringup.own, *overrides], exit_on_failure=True)


def import_compose() -> Any:
    """Import :mod:`lewm_ros.bringup.compose`."""
    try:
        return import_module('lewm_ros.bringup.compose')
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"Python package '{error.name}' is missing: source a ROS 2 installation, or "
            'pip install the ros-* wheels (README)'
        ) from error
