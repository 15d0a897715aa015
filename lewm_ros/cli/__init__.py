# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The `lewm` command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from importlib import import_module
import logging
import os
from pathlib import Path
import sys

from lewm_ros import __version__
from lewm_ros.bringup.groups import (
    ARGUMENTS,
    GROUPS,
    Bringup,
    Override,
    enclave,
    prepare_environment,
)
from lewm_ros.bringup.supervisor import signals_noted, supervise
from lewm_ros.errors import BagError, BringupError, LewmError
from lewm_ros.sim import TASKS

#: Commands whose modules are imported only when they are chosen: where each has its
#: ``add_arguments(parser)`` and ``run(args) -> int``, and its help.
COMMANDS = {
    'collect': (
        'cli.collect',
        'simulate a task, or render MuJoCo recordings (--mjcf), into a rosbag2 bag',
    ),
    'check': ('cli.check', 'check a contract, and whether bags fit it'),
    'inspect': ('cli.inspect_bags', 'what bags hold: rates, gaps, episodes, usable windows'),
    'train': ('training.train', 'train a model from bags'),
    'evaluate': (
        'evaluation.evaluate',
        'measure a bundle in waiting simulation: success, probes, surprise (--voe)',
    ),
    'calibrate': ('evaluation.calibrate', 'compute surprise thresholds from nominal bags'),
    'export': ('training.export', "write a bundle's ONNX graphs anew from its weights"),
    'import-official': (
        'training.import_official',
        'turn a published LeWM checkpoint into a bundle',
    ),
    'benchmark': ('evaluation.benchmark', 'time the engines and the planner on this machine'),
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
        seed = getattr(args, 'seed', None)
        if seed is not None and seed < 0:
            raise BringupError(f'--seed is {seed}: expected 0 or more')
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
    _add_record(commands.add_parser('record', help='record a robot into a rosbag2 bag'))
    _add_watch(commands.add_parser('watch', help='see surprise in this terminal'))
    chosen = next((a for a in argv if not a.startswith('-')), None)
    for name, (place, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            module = _module(name, place)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _module(command: str, place: str):  # noqa: ANN202 (a module)
    try:
        return import_module(f'lewm_ros.{place}')
    except ModuleNotFoundError as error:
        missing = error.name or ''
        if missing.split('.')[0] == 'lewm_ros':
            raise BringupError(
                f'lewm {command}: not part of this installation ({error})'
            ) from error
        raise BringupError(
            f"lewm {command}: Python package '{missing}' is missing: pip install 'lewm_ros[train]'"
        ) from error


def _add_up(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Start nodes: plan (a robot reaching goal images), surprise (watch a robot that '
        'something else drives), record (into a bag, see also `lewm record`), demo (a simulated '
        'robot with goals and teleports). Ends with '
        'status 0 on Ctrl-C; the last command sent is the stop command.'
    )
    parser.add_argument('group', choices=GROUPS, help='what to start')
    _add_shared(parser)
    parser.add_argument(
        '--task', default='', choices=TASKS, help="the demo's simulation (default 'reacher')"
    )
    parser.add_argument(
        '--processes', action='store_true', help='one process for each node, not one for all'
    )
    parser.add_argument(
        '--respawn',
        action='store_true',
        help='start a process that died again, after a pause; needs --processes',
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


def _add_record(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Record the contract's topics and what the nodes say of them into a rosbag2 bag (MCAP, "
        'zstd, CRC). In a terminal, space starts and stops an episode, q or Ctrl-C ends; the bag '
        'is whole then. After a kill all but the last second is there: --repair.'
    )
    parser.add_argument(
        '--out',
        default='',
        metavar='FOLDER',
        help='the bag; must not exist (default recording_<date>_<time> here)',
    )
    _add_shared(parser)
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
    parser.set_defaults(run=_record)


def _add_watch(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        'Draw the surprise of a running robot in this terminal: score against threshold, level, '
        'events. Listens only. Ctrl-C ends with status 0; so do --once and --seconds where '
        'scores came, and with 1 where none did. No colour with NO_COLOR or into a file.'
    )
    parser.add_argument('--namespace', default='lewm', help="of the nodes (default 'lewm')")
    parser.add_argument(
        '--window', type=float, default=60.0, metavar='SECONDS', help='length of the curve [s] (60)'
    )
    ending = parser.add_mutually_exclusive_group()
    ending.add_argument('--once', action='store_true', help='print one frame and end')
    ending.add_argument(
        '--seconds', type=float, default=0.0, help='end after that long, with a last frame [s]'
    )
    parser.set_defaults(run=_watch)


def _add_shared(parser: argparse.ArgumentParser) -> None:
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
def _up(args: argparse.Namespace) -> int:
    if args.respawn and not args.processes:
        raise BringupError(
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
    return _run(bringup, args, overrides)


def _record(args: argparse.Namespace) -> int:
    if args.repair is not None:
        from lewm_ros.bags.repair import repair

        print(*repair(Path(args.repair)), sep='\n')
        return 0
    if args.out and Path(args.out).expanduser().exists():
        # The node would take the next name, as it does when it is started again.
        raise BagError(f'bag {args.out}: exists already; choose another name or remove it')
    prepare_environment('record')
    # Quoted for ROS, which reads values as YAML: a folder named 5 is text.
    overrides = [Override('recorder_node', 'out', "'" + args.out.replace("'", "''") + "'")]
    overrides += [Override('recorder_node', 'keys', 'true')]
    for text in args.parameter:
        overrides.append(Override.parse(f'recorder_node.{text}', GROUPS['record']))
    bringup = Bringup.of('record', args.bundle, args.contract, args.params_file, args.use_sim_time)
    return _run(bringup, args, overrides)


@signals_noted()
def _run(bringup: Bringup, args: argparse.Namespace, overrides: Sequence[Override]) -> int:
    """Run the nodes in this process."""
    compose = _compose()
    nodes = [(name, compose.node_class(name)) for name in bringup.nodes]
    arguments = bringup.ros_arguments(args.namespace, args.log_level)
    return compose.run(nodes, arguments, [*bringup.own, *overrides], exit_on_failure=True)


def _watch(args: argparse.Namespace) -> int:
    if not (args.once or args.seconds or sys.stdout.isatty()):
        raise BringupError('lewm watch: output is no terminal: give --once or --seconds')
    compose = _compose()
    node = import_module('lewm_ros.nodes.watch').WatchNode
    given = {'seconds': args.window, 'once': str(args.once).lower(), 'end_after': args.seconds}
    # What is wrong is part of the picture: log lines would run through it.
    arguments = ['--ros-args', '-r', f'__ns:=/{args.namespace.strip("/")}', '--log-level', 'fatal']
    arguments += ['--enclave', enclave(args.namespace, 'watch')]
    for name, value in given.items():
        arguments += ['-p', f'{name}:={value}']
    # Several may watch at once.
    return compose.run([(f'watch_{os.getpid()}', node)], arguments, exit_on_failure=True)


def _compose():  # noqa: ANN202 (a module)
    """Import what runs nodes."""
    try:
        return import_module('lewm_ros.bringup.compose')
    except ModuleNotFoundError as error:
        raise BringupError(
            f"Python package '{error.name}' is missing: source a ROS 2 installation, or "
            'pip install the ros-* wheels (README)'
        ) from error


if __name__ == '__main__':
    sys.exit(main())
