# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm collect TASK`: simulated episodes into a rosbag2 MCAP bag."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
import sys
from typing import Any, Protocol

import numpy as np
from tqdm import tqdm

from lewm_ros.contract import Contract
from lewm_ros.errors import SimulationError
from lewm_ros.history import NANOSECOND
from lewm_ros.share import find
from lewm_ros.sim import TASKS, make_task
from lewm_training.bags import BagWriter

NAMESPACE = '/lewm'
#: Simulated clocks start here [ns], and rest this long between episodes.
START = NANOSECOND
REST = 10 * NANOSECOND


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
    task: Any,
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
    before the command.
    """
    frame_steps = _whole(1 / camera_rate / task.timestep, 'camera period')
    tick_steps = _whole(contract.period / task.timestep, 'control period')
    offset = round(phase / task.timestep) % tick_steps
    policy.reset()
    command = np.clip(np.zeros(contract.action.size), *contract.action.bounds)
    total = round(seconds / task.timestep)
    if offset:
        yield 'action', start, command
    step = 0
    while step < total:
        stamp = start + round(step * task.timestep * NANOSECOND)
        if step % frame_steps == 0:
            image = task.render()
            policy.observe(stamp, image)
            yield 'state', stamp, task.state()
            yield 'image', stamp, image
        if step % tick_steps == offset:
            command = policy.act(stamp)
            yield 'action', stamp, command
        next_frame = frame_steps - step % frame_steps
        next_tick = (offset - step - 1) % tick_steps + 1
        advance = min(next_frame, next_tick, total - step)
        task.step(command, advance)
        step += advance


def _whole(steps: float, name: str) -> int:
    if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
        raise SimulationError(f'{name} is {steps:g} physics steps: it must be a whole number')
    return round(steps)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('task', choices=TASKS, help='simulated task')
    parser.add_argument('--out', required=True, type=Path, help='bag folder to create')
    parser.add_argument('--episodes', type=int, default=1200, help='episodes (default 1200)')
    parser.add_argument('--seconds', type=float, default=5.0, help='of each [s] (default 5)')
    parser.add_argument(
        '--policy',
        choices=('random', 'planner'),
        default='random',
        help='random torques, or the planner reaching random goals (default random)',
    )
    parser.add_argument('--bundle', default='reacher', help='bundle of the planner')
    parser.add_argument('--camera-rate', type=float, default=20.0, help='[Hz] (default 20)')
    parser.add_argument('--image-size', type=int, default=64, help='[px] (default 64)')
    parser.add_argument('--seed', type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Collect the episodes."""
    for name in ('episodes', 'seconds', 'camera_rate', 'image_size'):
        if not getattr(args, name) > 0:
            raise SimulationError(
                f'--{name.replace("_", "-")} is {getattr(args, name)}: expected more than 0'
            )
    rng = np.random.default_rng(args.seed)
    task = make_task(args.task, args.image_size, args.seed)
    contract = Contract.load(find('contract', task.contract))
    policy: Policy
    if args.policy == 'random':
        policy = RandomPolicy(contract, rng)
    else:
        from lewm_training.closed_loop import PlannerPolicy

        policy = PlannerPolicy.from_bundle(args.bundle, task, contract, seed=args.seed)
    _whole(1 / args.camera_rate / task.timestep, 'camera period')  # before a bag is there
    start = START
    with BagWriter(args.out, ' '.join(['lewm', *sys.argv[1:]])) as bag:
        for number in tqdm(range(1, args.episodes + 1), desc='collect', unit='episode'):
            task.reset()
            bag.write(
                f'{NAMESPACE}/episode', 'std_msgs/msg/UInt32', start, latched=True, data=number
            )
            phase = rng.uniform(0, contract.period)
            for kind, stamp, value in simulate(
                task, contract, policy, args.seconds, args.camera_rate, phase, start
            ):
                _WRITERS[kind](bag, contract, stamp, value)
            start += round(args.seconds * NANOSECOND) + REST
    task.close()
    return 0


def _write_action(bag: BagWriter, contract: Contract, stamp: int, value: np.ndarray) -> None:
    layout = bag.make('std_msgs/msg/MultiArrayLayout', dim=[], data_offset=0)
    bag.write(
        f'{NAMESPACE}/{contract.action.topic}',
        contract.action.type,
        stamp,
        layout=layout,
        data=value,
    )


def _write_state(bag: BagWriter, contract: Contract, stamp: int, value: np.ndarray) -> None:
    joints = len(value) // 2
    bag.write(
        f'{NAMESPACE}/joint_states',
        'sensor_msgs/msg/JointState',
        stamp,
        header=bag.header(stamp),
        name=list(contract.action.names),
        position=value[:joints],
        velocity=value[joints:],
        effort=np.empty(0),
    )


def _write_image(bag: BagWriter, contract: Contract, stamp: int, value: np.ndarray) -> None:
    height, width = value.shape[:2]
    bag.write(
        f'{NAMESPACE}/{contract.camera.topic}',
        contract.camera.type,
        stamp,
        header=bag.header(stamp, 'camera_optical'),
        height=height,
        width=width,
        encoding='rgb8',
        is_bigendian=0,
        step=3 * width,
        data=value.reshape(-1),
    )


_WRITERS = {'action': _write_action, 'state': _write_state, 'image': _write_image}
