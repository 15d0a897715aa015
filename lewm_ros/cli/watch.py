# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm watch`: the surprise of a running robot in this terminal."""

from __future__ import annotations

import argparse
from importlib import import_module
import os
import sys

from lewm_ros.bringup.groups import check_namespace, enclave
from lewm_ros.cli.bringup import import_compose
from lewm_ros.errors import ConfigError
from lewm_ros.robot.settings import help_of
from lewm_ros.view.config import ViewConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Draw the surprise of a running robot in this terminal: score against threshold, level, '
        'events. Subscribes only. Exit status 0 after Ctrl-C; with --once or --seconds, 0 if '
        'scores arrived, else 1. No colour with NO_COLOR or if the output is a file.'
    )
    parser.add_argument('--namespace', default='lewm', help="of the nodes (default 'lewm')")
    parser.add_argument(
        '--window',
        type=float,
        default=ViewConfig.seconds,
        metavar='SECONDS',
        help=help_of(ViewConfig, 'seconds'),
    )
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument('--once', action='store_true', help='print one frame and end')
    ending.add_argument(
        '--seconds', type=float, default=0.0, help='end after this time [s], with a last frame'
    )


def run(args: argparse.Namespace) -> int:
    """Draw until a signal, or until --once or --seconds is over."""
    if not (args.once or args.seconds or sys.stdout.isatty()):
        raise ConfigError('lewm watch: output is no terminal: give --once or --seconds')
    check_namespace(args.namespace)
    compose = import_compose()
    node = import_module('lewm_ros.nodes.watch').WatchNode
    given = {'seconds': args.window, 'once': str(args.once).lower(), 'end_after': args.seconds}
    # Problems are shown on the screen; log lines would corrupt it.
    arguments = ['--ros-args', '-r', f'__ns:=/{args.namespace.strip("/")}', '--log-level', 'fatal']
    arguments += ['--enclave', enclave(args.namespace, 'watch')]
    for name, value in given.items():
        arguments += ['-p', f'{name}:={value}']
    # Several may watch at once.
    return compose.run([(f'watch_{os.getpid()}', node)], arguments, exit_on_failure=True)
