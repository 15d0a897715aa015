# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm goal`: make an image file the goal of a running robot."""

from __future__ import annotations

import argparse
from importlib import import_module
import os
from pathlib import Path

from lewm_ros.bringup.groups import check_namespace, enclave, prepare_environment, yaml_text
from lewm_ros.cli.bringup import import_compose


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Make an image of the whole camera view the goal of a running robot. Exit status 0 once '
        'planner_node has the goal, or with --wait once the goal is reached; 1 if nobody answers, '
        'or if the goal ends otherwise. The robot keeps the goal when the command ends, also '
        'after Ctrl-C.'
    )
    parser.add_argument('image', help='PNG or JPEG')
    parser.add_argument('--namespace', default='lewm', help="of the nodes (default 'lewm')")
    parser.add_argument(
        '--wait',
        action='store_true',
        help='print the states of the goal until it is reached, times out (parameters goal_timeout '
        'and goal_timeout_factor of planner_node; by default never) or is replaced',
    )


def run(args: argparse.Namespace) -> int:
    """Publish the goal, and wait for planner_node."""
    check_namespace(args.namespace)
    compose = import_compose()
    image = str(Path(args.image).expanduser().absolute())
    import_module('lewm_ros.nodes.goals').read_image_file(image)  # an error here is one line
    prepare_environment('goal')
    node = import_module('lewm_ros.nodes.goal_sender').GoalSenderNode
    arguments = ['--ros-args', '-r', f'__ns:=/{args.namespace.strip("/")}', '--log-level', 'warn']
    arguments += ['--enclave', enclave(args.namespace, 'goal')]
    arguments += ['-p', f'image:={yaml_text(image)}', '-p', f'wait:={str(args.wait).lower()}']
    # Several may run at once.
    return compose.run([(f'goal_{os.getpid()}', node)], arguments, exit_on_failure=True)
