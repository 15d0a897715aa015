# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The `lewm` command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
import logging
import os
import signal
import sys
from threading import current_thread, main_thread
from typing import Any

from lewm_ros import __version__
from lewm_ros.errors import ConfigError, LewmError

#: Commands by name: the module and its help. The module is imported only when the command is run;
#: it has ``add_arguments(parser)`` and ``run(args) -> int``.
COMMANDS = {
    'up': ('cli.up', 'start the nodes of the robot, or of the demo'),
    'record': ('cli.record', 'record a robot into a rosbag2 bag'),
    'goal': ('cli.goal', 'make an image file the goal of a running robot'),
    'watch': ('cli.watch', 'plot the surprise score in this terminal'),
    'collect': (
        'cli.collect',
        'simulate a task, or render MuJoCo recordings (--mjcf), into a rosbag2 bag',
    ),
    'check': ('cli.check', 'check a contract, and whether bags fit it'),
    'inspect': ('cli.inspect_bags', 'what bags hold: rates, gaps, episodes, usable windows'),
    'train': ('cli.train', 'train a model from bags'),
    'tune': ('cli.tune', 'find the SIGReg weight for bags, by short trainings'),
    'roadmap': ('cli.roadmap', 'build a roadmap from bags, for goals beyond the reach of one plan'),
    'decoder': ('cli.decoder', 'train the decoder that renders latents as images, for view/plan'),
    'inverse': ('cli.inverse', 'train a policy that replaces the search: an inverse model of bags'),
    'imagine': ('cli.imagine', 'train a policy that replaces the search, in imagination'),
    'evaluate': (
        'cli.evaluate',
        'check a bundle on held-out bags (--data); measure success and surprise (--voe) in '
        'simulation',
    ),
    'calibrate': ('cli.calibrate', 'compute surprise thresholds from nominal bags'),
    'export': ('cli.export', "write a bundle's ONNX graphs anew from its weights"),
    'import-official': (
        'cli.import_official',
        'turn a published LeWM checkpoint into a bundle',
    ),
    'benchmark': ('cli.benchmark', 'time the engines and the planner on this machine'),
}

#: Commands that plan: numpy then computes many small products between the engine's calls.
PLANNING = {'up', 'evaluate', 'collect', 'benchmark'}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0: done. 2: bad input, one line on stderr. 130: interrupted. 143: terminated (SIGTERM), after
    files such as a bag were completed.
    """
    argv = sys.argv[1:] if argv is None else list(argv)
    stopped: list[int] = []

    def stop(number: int, frame: object) -> None:
        """Leave by an exception, so that what is open is closed."""
        stopped.append(number)
        raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    if argv[:1] and argv[0] in PLANNING:  # see prepare_environment: before numpy is imported
        os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
    logging.basicConfig(format='%(message)s')
    logging.getLogger('lewm').setLevel(logging.INFO)
    try:
        args = _parser(argv).parse_args(argv)
        seed = getattr(args, 'seed', None)
        if seed is not None and seed < 0:
            raise ConfigError(f'--seed is {seed}: expected 0 or more')
        threads = getattr(args, 'threads', None)
        if threads is not None and threads < 1:
            raise ConfigError(f'--threads is {threads}: expected 1 or more')
        with (
            _handler(signal.SIGTERM, signal.SIG_DFL, stop),
            _handler(signal.SIGINT, signal.default_int_handler, stop),
        ):
            return args.run(args)
    except LewmError as error:
        print(f'lewm: error: {error}', file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:  # some are imported only where they are needed
        print(f'lewm: error: lewm {argv[0]}: {_missing(error)}', file=sys.stderr)
        return 2
    except BrokenPipeError:  # such as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f'{error.filename}: ' if error.filename else ''
        print(f'lewm: error: {where}{error.strerror or error}', file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print('lewm: interrupted', file=sys.stderr)
        return 130
    except Exception:
        if not stopped:
            raise
        # ctypes turns what is raised while it converts an argument into an error of its own.
        return 128 + stopped[0]


def _parser(argv: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog='lewm',
        description='LeWorldModel on robots: training, planning and anomaly detection over ROS 2.',
    )
    parser.add_argument('--version', action='version', version=f'lewm {__version__}')
    commands = parser.add_subparsers(title='commands', dest='command', required=True)
    chosen = next((a for a in argv if not a.startswith('-')), None)
    for name, (place, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text, description=text)
        if name == chosen:
            module = _module(place)
            module.add_arguments(command)
            command.set_defaults(run=module.run)
    return parser


def _leave(number: int, frame: object) -> None:
    """End the process at once: during imports libraries turn Ctrl-C into other errors."""
    print('lewm: interrupted', file=sys.stderr, flush=True)
    os._exit(130)


@contextmanager
def _handler(number: int, default: Any, handler: Any) -> Iterator[None]:
    """Handle a signal for a while, in the main thread, if its handler is the default one."""
    before = signal.getsignal(number)
    ours = before is default and current_thread() is main_thread()
    if ours:
        signal.signal(number, handler)
    try:
        yield
    finally:
        if ours:
            signal.signal(number, before)


def _module(place: str) -> Any:
    with _handler(signal.SIGINT, signal.default_int_handler, _leave):
        return import_module(f'lewm_ros.{place}')


def _missing(error: ModuleNotFoundError) -> str:
    missing = (error.name or '').partition('.')[0]
    if missing == 'lewm_ros':
        return f'not part of this installation ({error})'
    from lewm_ros.install import missing_package  # slow to import

    return missing_package(missing)
