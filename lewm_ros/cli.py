# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The `lewm` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
import logging
import sys

from lewm_ros import __version__
from lewm_ros.bringup import ARGUMENTS, GROUPS, Bringup, Override, stay_local, supervise
from lewm_ros.errors import BringupError, LewmError

#: Subcommands that live in lewm_training and are imported only when they are chosen: each
#: module (with _ for -) has ``add_arguments(parser)`` and ``run(args) -> int``.
TRAINING = {
    'collect': 'record simulated episodes of a task into a rosbag2 bag',
    'train': 'train a model from bags',
    'evaluate': 'measure a bundle: success in waiting simulation, linear probes',
    'calibrate': 'compute surprise thresholds from nominal bags',
    'export': "write a bundle's ONNX graphs anew from its weights",
    'import-official': 'turn a published LeWM checkpoint into a bundle',
    'benchmark': 'time the engines and the planner on this machine',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0: done. 2: bad input, one line on stderr. 130: interrupted.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    logging.basicConfig(format='%(message)s')
    logging.getLogger('lewm').setLevel(logging.INFO)
    try:
        args = _parser(argv).parse_args(argv)
        return args.run(args)
    except LewmError as error:
        print(f'lewm: error: {error}', file=sys.stderr)
        return 2
    except OSError as error:
        print(f'lewm: error: {error.filename or ""}: {error.strerror or error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('lewm: interrupted', file=sys.stderr)
        return 130


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='lewm',
        description='LeWorldModel on robots: train, plan and watch for surprises over ROS 2.',
    )
    parser.add_argument('--version', action='version', version=f'lewm {__version__}')
    commands = parser.add_subparsers(title='commands', dest='command', required=True)
    _add_up(commands.add_parser('up', help='start the nodes of the robot, or of the demo'))
    chosen = next((a for a in argv if not a.startswith('-')), None)
    for name, text in TRAINING.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            module = _training(name)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _training(name: str):  # noqa: ANN202 (a module)
    try:
        return import_module(f'lewm_training.{name.replace("-", "_")}')
    except ModuleNotFoundError as error:
        missing = error.name or ''
        if missing.split('.')[0] == 'lewm_training':
            raise BringupError(f'lewm {name}: not part of this installation ({error})') from error
        raise BringupError(
            f"lewm {name}: Python package '{missing}' is missing: pip install 'lewm_ros[train]'"
        ) from error


def _add_up(parser: argparse.ArgumentParser) -> None:
    described = {a.name: a for a in ARGUMENTS}
    parser.description = (
        'Start nodes: plan (a robot reaching goal images), surprise (watch a robot that '
        'something else drives), demo (a simulated robot with goals and teleports). Ends with '
        'status 0 on Ctrl-C; the last command sent is the stop command.'
    )
    parser.add_argument('group', choices=GROUPS, help='what to start')
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
    parser.add_argument(
        '--processes', action='store_true', help='one process for each node, not one for all'
    )
    parser.add_argument(
        '-p',
        '--parameter',
        action='append',
        default=[],
        metavar='NODE.PARAMETER:=VALUE',
        help='set a parameter of one node, such as planner_node.samples:=128',
    )
    parser.set_defaults(run=_up)


def _up(args: argparse.Namespace) -> int:
    stay_local(args.group)
    overrides = [Override.parse(text, GROUPS[args.group]) for text in args.parameter]
    bringup = Bringup.of(
        args.group, args.bundle, args.contract, args.params_file, args.use_sim_time
    )
    if args.processes:
        return supervise(bringup.commands(args.namespace, args.log_level, overrides))
    try:
        from lewm_ros.nodes.compose import node_class, run
    except ModuleNotFoundError as error:
        raise BringupError(
            f"Python package '{error.name}' is missing: source a ROS 2 installation, or "
            'pip install the ros-* wheels (README)'
        ) from error
    nodes = [(name, node_class(name)) for name in bringup.nodes]
    arguments = bringup.ros_arguments(args.namespace, args.log_level)
    return run(nodes, arguments, overrides, exit_on_failure=True)


if __name__ == '__main__':
    sys.exit(main())
