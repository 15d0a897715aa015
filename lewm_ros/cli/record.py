# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm record`: record a robot into a bag, or repair the bag of a killed recorder."""

from __future__ import annotations

import argparse
from pathlib import Path

from lewm_ros.bringup.groups import GROUPS, Bringup, Override, prepare_environment, yaml_text
from lewm_ros.cli.bringup import add_launch_arguments, run_nodes
from lewm_ros.errors import BagError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        "Record the contract's topics and the outputs of the nodes into a rosbag2 bag (MCAP, zstd, "
        'CRC). In a terminal, space starts and stops an episode; q or Ctrl-C ends the recording '
        'and completes the bag. A kill loses the last second at most; --repair completes the bag.'
    )
    parser.add_argument(
        '--out',
        default='',
        metavar='FOLDER',
        help='the bag; must not exist (default recording_<date>_<time> here)',
    )
    parser.add_argument(
        '--all',
        action='store_true',
        help='record every topic that is published, for a first bag: needs no contract',
    )
    parser.add_argument(
        '--topics',
        nargs='+',
        action='extend',
        default=[],
        metavar='TOPIC',
        help='topics to record besides those of the contract, of any standard type, such as /tf',
    )
    add_launch_arguments(parser)
    parser.add_argument(
        '-p',
        '--parameter',
        action='append',
        default=[],
        metavar='PARAMETER:=VALUE',
        help='set a parameter of recorder_node, such as split_seconds:=600.0',
    )
    parser.add_argument(
        '--repair',
        metavar='FOLDER',
        help='record nothing: complete, in place, a bag whose recorder was killed',
    )


def run(args: argparse.Namespace) -> int:
    """Record until a signal or q, or repair."""
    if args.repair is not None:
        from lewm_ros.bags.repair import repair

        print(*repair(Path(args.repair)), sep='\n')
        return 0
    if args.out and Path(args.out).expanduser().exists():
        # The node would take the next name, as it does when it is started again.
        raise BagError(f'bag {args.out}: exists already; choose another name or remove it')
    prepare_environment('record')
    # What is not given may be in the parameter file.
    overrides = [Override('recorder_node', 'keys', 'true')]
    if args.out:  # quoted for ROS, which reads values as YAML: a folder named 5 is text
        overrides.append(Override('recorder_node', 'out', yaml_text(args.out)))
    if args.all:
        overrides.append(Override('recorder_node', 'all', 'true'))
    if args.topics:
        names = ', '.join(map(yaml_text, args.topics))
        overrides += [Override('recorder_node', 'topics', f'[{names}]')]
    for text in args.parameter:
        overrides.append(Override.parse(f'recorder_node.{text}', GROUPS['record']))
    bringup = Bringup.of('record', args.bundle, args.contract, args.params_file, args.use_sim_time)
    return run_nodes(bringup, args, overrides)
