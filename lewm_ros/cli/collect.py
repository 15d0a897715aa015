# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm collect`: record simulated episodes, or render MuJoCo recordings, into a bag."""

from __future__ import annotations

import argparse
from pathlib import Path
import sys

from lewm_ros.errors import ConfigError
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import NAMES
from lewm_ros.sim.collect import collect_task, image_size

#: Options valid with a TASK only, with defaults; options valid with --mjcf only, all required.
TASK_ONLY = {'episodes': 1200, 'seconds': 5.0, 'policy': 'random', 'bundle': '', 'seed': 0}
MJCF_ONLY = ('camera', 'trajectory', 'contract')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Record simulated episodes of a task, or render recorded MuJoCo trajectories (--mjcf), '
        'into a rosbag2 MCAP bag.'
    )
    parser.add_argument('task', nargs='?', help=f'simulated task: {NAMES}')
    parser.add_argument('--out', required=True, type=Path, help='bag folder to create')
    parser.add_argument(
        '--camera-rate',
        type=float,
        help='[Hz] (default 20, or the next lower one with whole steps between; that of the bundle '
        'with --policy planner)',
    )
    parser.add_argument(
        '--image-size', type=image_size, default=64, metavar='PX', help='64 (default) or 640x480'
    )
    task = parser.add_argument_group('with TASK')
    task.add_argument('--episodes', type=int, help='episodes (default 1200)')
    task.add_argument('--seconds', type=float, help='of each [s] (default 5)')
    task.add_argument(
        '--policy',
        choices=('random', 'planner'),
        help="random: the task's own for training data (scripted, or random commands); planner: "
        "the planner reaching random goals (default 'random')",
    )
    task.add_argument('--bundle', help='bundle of the planner (default: named like the task)')
    task.add_argument('--seed', type=int, help='of the episodes and their commands (default 0)')
    mjcf = parser.add_argument_group('instead of TASK')
    mjcf.add_argument('--mjcf', type=Path, metavar='MODEL.xml', help='MuJoCo model')
    mjcf.add_argument('--camera', metavar='NAME', help='camera of the model')
    mjcf.add_argument(
        '--trajectory',
        type=Path,
        nargs='+',
        action='extend',
        metavar='FILE.npz',
        help='arrays qpos (T, nq), qvel (T, nv), command (T, A) and time (T,) [s]; a command is '
        'held until the next row. A new episode begins where time decreases, or where the integers '
        'of episode (T,) change. Without command, ctrl (T, nu) is used, with one actuator per '
        'action dimension',
    )
    mjcf.add_argument(
        '--contract', help='names the topics; columns of command are its action dimensions'
    )


def run(args: argparse.Namespace) -> int:
    """Collect the episodes."""
    _check_options(args)
    command = ' '.join(['lewm', *sys.argv[1:]])
    if args.mjcf is None:
        collect_task(
            args.task,
            args.out,
            episodes=args.episodes,
            seconds=args.seconds,
            camera_rate=args.camera_rate,
            size=args.image_size,
            policy_name=args.policy,
            bundle=args.bundle,
            seed=args.seed,
            command=command,
        )
        return 0
    from lewm_ros.sim.trajectory import collect_trajectories

    contract = Contract.load(find('contract', args.contract))
    size, rate = args.image_size, args.camera_rate or 20.0
    collect_trajectories(
        args.mjcf, args.camera, args.trajectory, contract, args.out, size, rate, command
    )
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Reject options that exclude each other; set the defaults of a task."""
    if (args.task is None) == (args.mjcf is None):
        given = 'neither is' if args.task is None else 'both are'
        raise ConfigError(f'expected either a task ({NAMES}) or --mjcf MODEL.xml: {given} given')
    if args.mjcf is None:
        wrong, needed = [n for n in MJCF_ONLY if getattr(args, n) is not None], []
    else:
        wrong = [name for name in TASK_ONLY if getattr(args, name) is not None]
        needed = [name for name in MJCF_ONLY if getattr(args, name) is None]
    if wrong:
        where = 'with --mjcf' if args.mjcf is None else 'with a task'
        raise ConfigError(f'--{wrong[0]} only has a meaning {where}: leave it out')
    if args.bundle and args.policy != 'planner':
        raise ConfigError('--bundle only has a meaning with --policy planner: leave it out')
    if args.camera_rate is not None and args.policy == 'planner':
        raise ConfigError(
            '--camera-rate has no meaning with --policy planner, whose bundle is of one camera '
            'rate: leave it out'
        )
    if needed:
        raise ConfigError(f'--mjcf needs --{" and --".join(needed)} as well')
    for name, default in TASK_ONLY.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    for name in ('episodes', 'seconds', 'camera_rate'):
        value = getattr(args, name)
        if value is not None and not 0 < value < float('inf'):
            raise ConfigError(f'--{name.replace("_", "-")} is {value}: expected more than 0')
