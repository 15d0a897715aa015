# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm up`: start the nodes of a robot, or of the demo."""

from __future__ import annotations

import argparse

from lewm_ros.bringup.groups import GROUPS, Bringup, Override, prepare_environment
from lewm_ros.bringup.supervisor import signals_noted, supervise
from lewm_ros.cli.bringup import add_launch_arguments, run_nodes
from lewm_ros.errors import ConfigError
from lewm_ros.sim import NAMES


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Start nodes: plan (a robot reaching goal images), surprise (watch a robot that '
        'something else drives), record (into a bag, see also `lewm record`), demo (a simulated '
        'robot with goals and teleports). Ends with status 0 on Ctrl-C, 1 after a recording that '
        'lacks camera or commands; the last command sent is the stop command.'
    )
    parser.add_argument('group', choices=GROUPS, help='what to start')
    add_launch_arguments(parser)
    parser.add_argument(
        '--task', default='', help=f"the demo's simulation: {NAMES} (default reacher)"
    )
    parser.add_argument(
        '--processes', action='store_true', help='one process for each node, not one for all'
    )
    parser.add_argument(
        '--respawn',
        action='store_true',
        help='restart a process that died, after a delay; needs --processes',
    )
    parser.add_argument(
        '-p',
        '--parameter',
        action='append',
        default=[],
        metavar='NODE.PARAMETER:=VALUE',
        help='set a parameter of one node, such as planner_node.samples:=128',
    )


@signals_noted()
def run(args: argparse.Namespace) -> int:
    """Run the nodes until a signal or the end of one that ends all."""
    if args.respawn and not args.processes:
        raise ConfigError(
            '--respawn needs --processes: without, all nodes live and die in one process'
        )
    prepare_environment(args.group)
    overrides = [Override.parse(text, GROUPS[args.group]) for text in args.parameter]
    bringup = Bringup.of(
        args.group,
        args.bundle,
        args.contract,
        args.params_file,
        args.use_sim_time,
        task=args.task,
    )
    if args.processes:
        commands = bringup.commands(args.namespace, args.log_level, overrides)
        return supervise(commands, respawn=args.respawn)
    return run_nodes(bringup, args, overrides)
