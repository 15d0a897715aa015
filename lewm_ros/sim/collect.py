# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm collect`: a simulated task's episodes, or recorded MuJoCo states, into an MCAP bag."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
import sys
from typing import Protocol

import cv2
import numpy as np
from tqdm import tqdm

from lewm_ros.bags import messages
from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.errors import SimulationError
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import TASKS, Push, Task, make_task
from lewm_ros.sim.push_policy import PushPolicy
from lewm_ros.time import NS_PER_S

NAMESPACE = '/lewm'
JOINT_STATES = 'joint_states'  #: where a simulator's state goes that no contract reads
#: Simulated clocks start here [ns], and rest this long between episodes.
START = NS_PER_S
REST = 10 * NS_PER_S
#: Options that only a TASK has, and their defaults; options that only --mjcf has, all needed.
TASK_ONLY = {'episodes': 1200, 'seconds': 5.0, 'policy': 'random', 'bundle': '', 'seed': 0}
MJCF_ONLY = ('camera', 'trajectory', 'contract')


class Policy(Protocol):
    """Something that drives a simulated episode."""

    def reset(self) -> None:
        """Begin an episode."""

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """See the frame (S, S, 3) uint8 taken at ``stamp`` [ns]."""

    def act(self, stamp: int) -> np.ndarray:
        """Return the command (A,), contract units, held from ``stamp`` [ns] on."""


class RandomPolicy:
    """Random commands of every smoothness, for training data.

    Each dimension of each episode is an autoregressive process with a time constant between
    0.05 and 0.8 s and a standard deviation between 0.3 and 1.3 of half the range, clipped to
    the limits: white noise, swings and long pushes all occur.
    """

    def __init__(self, contract: Contract, rng: np.random.Generator) -> None:
        low, high = contract.action.bounds
        self._low, self._high = low, high
        self._period = contract.period
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """Draw new time constants and amplitudes."""
        size = len(self._low)
        time = np.exp(self._rng.uniform(np.log(0.05), np.log(0.8), size))
        self._keep = np.exp(-self._period / time)
        self._std = self._rng.uniform(0.3, 1.3, size)
        self._x = self._rng.normal(size=size) * self._std

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """Look away: this policy is blind."""

    def act(self, stamp: int) -> np.ndarray:
        """Return the next command (A,)."""
        noise = self._rng.normal(size=len(self._x)) * self._std
        self._x = self._keep * self._x + np.sqrt(1 - self._keep**2) * noise
        middle, half = (self._low + self._high) / 2, (self._high - self._low) / 2
        return np.clip(middle + half * self._x, self._low, self._high)


class UniformPolicy:
    """Independent uniform commands at every tick: the paper's random baseline."""

    def __init__(self, contract: Contract, rng: np.random.Generator) -> None:
        self._low, self._high = contract.action.bounds
        self._rng = rng

    def reset(self) -> None:
        """Nothing to forget."""

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """Look away: this policy is blind."""

    def act(self, stamp: int) -> np.ndarray:
        """Return the next command (A,)."""
        return self._rng.uniform(self._low, self._high)


def simulate(
    task: Task,
    contract: Contract,
    policy: Policy,
    seconds: float,
    camera_rate: float,
    phase: float,
    start: int,
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Run one episode in simulated time, the simulator waiting for the policy.

    Commands begin ``phase`` [s] after frames, since on a robot the two share no grid. Yields
    ('action', stamp, command), ('state', stamp, state) and ('image', stamp, picture) in time
    order; stamps are ``start`` [ns] plus the simulated time. At equal times the frame comes
    before the command. A frame is taken at the physics step nearest to its time.
    """
    frame_steps = _frame_steps(camera_rate, task)
    tick_steps = _whole(contract.period / task.timestep, 'control period')
    offset = round(phase / task.timestep) % tick_steps
    policy.reset()
    command = np.clip(np.zeros(contract.action.size), *contract.action.bounds)
    total = round(seconds / task.timestep)
    if offset:
        yield 'action', start, command
    step = frame = 0
    while step < total:
        stamp = start + round(step * task.timestep * NS_PER_S)
        if step == round(frame * frame_steps):
            frame += 1
            image = task.render()
            policy.observe(stamp, image)
            yield 'state', stamp, task.state()
            yield 'image', stamp, image
        if step % tick_steps == offset:
            command = policy.act(stamp)
            yield 'action', stamp, command
        next_frame = round(frame * frame_steps) - step
        next_tick = (offset - step - 1) % tick_steps + 1
        advance = min(next_frame, next_tick, total - step)
        task.step(command, advance)
        step += advance


def _whole(steps: float, name: str) -> int:
    if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
        raise SimulationError(f'{name} is {steps:g} physics steps: it must be a whole number')
    return round(steps)


def _frame_steps(camera_rate: float, task: Task) -> float:
    """Physics steps between frames, at least one."""
    if camera_rate * task.timestep > 1:
        raise SimulationError(
            f'--camera-rate is {camera_rate:g} Hz: expected at most {1 / task.timestep:g}, one '
            'frame in each physics step'
        )
    return 1 / camera_rate / task.timestep


def image_size(text: str) -> int | tuple[int, int]:
    """Read '64' or '640x480' (width x height) as a task takes it: one number, or (H, W) [px]."""
    width, cross, height = text.partition('x')
    return (int(height), int(width)) if cross else int(width)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Record simulated episodes of a task, or render recorded MuJoCo trajectories (--mjcf), '
        'into a rosbag2 MCAP bag.'
    )
    parser.add_argument('task', nargs='?', choices=TASKS, help='simulated task')
    parser.add_argument('--out', required=True, type=Path, help='bag folder to create')
    parser.add_argument('--camera-rate', type=float, default=20.0, help='[Hz] (default 20)')
    parser.add_argument(
        '--image-size', type=image_size, default=64, metavar='PX', help='64 (default) or 640x480'
    )
    task = parser.add_argument_group('with TASK')
    task.add_argument('--episodes', type=int, help='episodes (default 1200)')
    task.add_argument('--seconds', type=float, help='of each [s] (default 5)')
    task.add_argument(
        '--policy',
        choices=('random', 'planner'),
        help="random torques or pushes, or the planner reaching random goals (default 'random')",
    )
    task.add_argument('--bundle', help='bundle of the planner (default: named like the task)')
    task.add_argument('--seed', type=int, help='(default 0)')
    mjcf = parser.add_argument_group('instead of TASK')
    mjcf.add_argument('--mjcf', type=Path, metavar='MODEL.xml', help='MuJoCo model')
    mjcf.add_argument('--camera', metavar='NAME', help='camera of the model')
    mjcf.add_argument(
        '--trajectory',
        type=Path,
        nargs='+',
        action='extend',
        metavar='FILE.npz',
        help='qpos (T, nq), qvel (T, nv), ctrl (T, nu) held from time (T,) [s] on; a new episode '
        'begins where time jumps back, or where the whole numbers of episode (T,) change',
    )
    mjcf.add_argument(
        '--contract', help='names the topics; columns of ctrl are its action dimensions in order'
    )


def run(args: argparse.Namespace) -> int:
    """Collect the episodes."""
    _check_options(args)
    if args.mjcf is None:
        return _collect_task(args)
    from lewm_ros.sim.trajectory import collect_trajectories

    contract = Contract.load(find('contract', args.contract))
    size, rate = args.image_size, args.camera_rate
    collect_trajectories(args.mjcf, args.camera, args.trajectory, contract, args.out, size, rate)
    return 0


def _check_options(args: argparse.Namespace) -> None:
    """Refuse options that do not go together, and set the defaults of a task."""
    if (args.task is None) == (args.mjcf is None):
        given = 'neither is' if args.task is None else 'both are'
        raise SimulationError(
            f'expected either a task ({", ".join(TASKS)}) or --mjcf MODEL.xml: {given} given'
        )
    if args.mjcf is None:
        wrong, needed = [n for n in MJCF_ONLY if getattr(args, n) is not None], []
    else:
        wrong = [name for name in TASK_ONLY if getattr(args, name) is not None]
        needed = [name for name in MJCF_ONLY if getattr(args, name) is None]
    if wrong:
        where = 'with --mjcf' if args.mjcf is None else 'with a task'
        raise SimulationError(f'--{wrong[0]} only has a meaning {where}: leave it out')
    if needed:
        raise SimulationError(f'--mjcf needs --{" and --".join(needed)} as well')
    for name, default in TASK_ONLY.items():
        if getattr(args, name) is None:
            setattr(args, name, default)
    for name in ('episodes', 'seconds', 'camera_rate'):
        if not 0 < getattr(args, name) < float('inf'):
            raise SimulationError(
                f'--{name.replace("_", "-")} is {getattr(args, name)}: expected more than 0'
            )


def _collect_task(args: argparse.Namespace) -> int:
    rng = np.random.default_rng(args.seed)
    task = make_task(args.task, args.image_size, args.seed)
    contract = Contract.load(find('contract', task.contract))
    policy: Policy
    if args.policy == 'planner':
        from lewm_ros.evaluation.closed_loop import PlannerPolicy

        bundle = args.bundle or task.name
        policy = PlannerPolicy.from_bundle(bundle, task, contract, seed=args.seed)
    elif isinstance(task, Push):
        policy = PushPolicy(contract, rng, task)
    else:
        policy = RandomPolicy(contract, rng)
    _frame_steps(args.camera_rate, task)  # refused before a bag is there
    start = START
    with BagWriter(args.out, ' '.join(['lewm', *sys.argv[1:]])) as bag:
        for number in tqdm(range(1, args.episodes + 1), desc='collect', unit='episode'):
            task.reset()
            write_episode(bag, start, number)
            phase = rng.uniform(0, contract.period)
            for kind, stamp, value in simulate(
                task, contract, policy, args.seconds, args.camera_rate, phase, start
            ):
                if kind == 'state':
                    write_state(bag, contract, stamp, value, task.joints)
                elif kind == 'action':
                    write_action(bag, contract, stamp, value)
                else:
                    write_image(bag, contract, stamp, value)
            start += round(args.seconds * NS_PER_S) + REST
    task.close()
    return 0


def topic_name(name: str) -> str:
    """Return the whole name of a contract's topic: relative ones are below /lewm."""
    return name if name.startswith('/') else f'{NAMESPACE}/{name}'


def write_episode(bag: BagWriter, stamp: int, number: int) -> None:
    """Begin an episode at ``stamp`` [ns]."""
    bag.write(f'{NAMESPACE}/episode', 'std_msgs/msg/UInt32', stamp, latched=True, data=number)


def write_action(bag: BagWriter, contract: Contract, stamp: int, value: np.ndarray) -> None:
    """Write a command (A,), contract units, sent at ``stamp`` [ns]."""
    action = contract.action
    message = messages.command(action, action.names, value)
    messages.write(bag, topic_name(action.topic), action.type, message, stamp, stamp)


def write_state(
    bag: BagWriter, contract: Contract, stamp: int, value: np.ndarray, names: Sequence[str]
) -> None:
    """Write positions and velocities, the two halves of ``value``, of the named joints."""
    position, velocity = np.split(value, 2)
    bag.write(
        topic_name(JOINT_STATES if contract.state is None else contract.state.topic),
        'sensor_msgs/msg/JointState',
        stamp,
        header=bag.header(stamp),
        name=list(names),
        position=position,
        velocity=velocity,
        effort=np.empty(0),
    )


def write_image(bag: BagWriter, contract: Contract, stamp: int, value: np.ndarray) -> None:
    """Write a picture (H, W, 3) uint8 RGB as the contract's camera does, losslessly."""
    topic, kind = topic_name(contract.camera.topic), contract.camera.type
    header = bag.header(stamp, 'camera_optical')
    if kind == 'sensor_msgs/msg/CompressedImage':
        png = cv2.imencode('.png', cv2.cvtColor(value, cv2.COLOR_RGB2BGR))[1].reshape(-1)
        bag.write(topic, kind, stamp, header=header, format='png', data=png)
        return
    height, width = value.shape[:2]
    bag.write(
        topic,
        kind,
        stamp,
        header=header,
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * width,
        data=value.reshape(-1),
    )
