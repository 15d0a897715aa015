# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Simulated episodes, recorded into the same kind of bag as a robot's."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from lewm_ros.bags import messages
from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.control.limits import Limits
from lewm_ros.errors import ConfigError
from lewm_ros.progress import progress
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import Task, make_task
from lewm_ros.sim.cube_policy import CubePolicy
from lewm_ros.sim.gymnasium_task import PREFIX, registered_id
from lewm_ros.sim.push_policy import PushPolicy
from lewm_ros.sim.push_t_policy import PushTPolicy
from lewm_ros.sim.two_room_policy import TwoRoomPolicy
from lewm_ros.time import NS_PER_S

NAMESPACE = '/lewm'
JOINT_STATES = 'joint_states'  #: topic of the state if the contract names none
#: Simulated time of the first episode [ns], and pause between episodes [ns].
START = NS_PER_S
REST = 10 * NS_PER_S


class Policy(Protocol):
    """Controller of a simulated episode."""

    def reset(self) -> None:
        """Begin an episode."""

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """Receive the frame (S, S, 3) uint8 taken at ``stamp`` [ns]."""

    def act(self, stamp: int) -> np.ndarray:
        """Return the command (A,), contract units, held from ``stamp`` [ns] on."""


#: Policies of training data, by task or Gymnasium environment; the others have random commands.
SCRIPTED: dict[str, Callable[[Contract, np.random.Generator, Task], Policy]] = {
    'push': PushPolicy,
    'two_room': TwoRoomPolicy,
    'gym_pusht/PushT-v0': PushTPolicy,
    'visual-cube-single-v0': CubePolicy,
}


def scripted_name(task: str) -> str:
    """Return the key of a task in :data:`SCRIPTED`: ``gym:MODULE:ID`` is the environment ID."""
    return registered_id(task) if task.startswith(PREFIX) else task


class RandomPolicy:
    """Random commands of varying smoothness, for training data.

    Each dimension of each episode is an autoregressive process with a time constant between
    0.05 and 0.8 s and a standard deviation between 0.3 and 1.3 of half the range, clipped to
    the contract's limits, from white noise to long pushes.
    """

    def __init__(self, contract: Contract, rng: np.random.Generator) -> None:
        self._limits = Limits(contract.action, contract.period)
        self._period = contract.period
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """Draw new time constants and amplitudes."""
        size = len(self._limits.low)
        self._last: np.ndarray | None = None
        time = np.exp(self._rng.uniform(np.log(0.05), np.log(0.8), size))
        self._keep = np.exp(-self._period / time)
        self._std = self._rng.uniform(0.3, 1.3, size)
        self._x = self._rng.normal(size=size) * self._std

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """Ignore the frame: commands do not depend on it."""

    def act(self, stamp: int) -> np.ndarray:
        """Return the next command (A,)."""
        noise = self._rng.normal(size=len(self._x)) * self._std
        self._x = self._keep * self._x + np.sqrt(1 - self._keep**2) * noise
        self._last = self._limits.project(self._wanted()[None], self._last)[0]
        return self._last

    def _wanted(self) -> np.ndarray:
        """Command (A,) before the limits."""
        low, high = self._limits.low, self._limits.high
        return (low + high) / 2 + (high - low) / 2 * self._x


class WanderPolicy(RandomPolicy):
    """Random position commands that wander from the robot's initial position.

    Their change per tick is the process of :class:`RandomPolicy`, scaled to the largest step that
    the contract allows, or else to the whole range in one second. It is reflected at the limits.
    """

    def __init__(self, contract: Contract, rng: np.random.Generator, task: Task) -> None:
        self._rest = task.rest
        super().__init__(contract, rng)
        limits = self._limits
        rate = limits.high - limits.low if limits.max_rate is None else limits.max_rate
        self._step = rate * self._period if limits.max_step is None else limits.max_step

    def _wanted(self) -> np.ndarray:
        """Position (A,) before the limits."""
        before = self._rest() if self._last is None else self._last
        position = before + self._step * np.clip(self._x, -1, 1)
        low, high = self._limits.low, self._limits.high
        self._x = np.where((position < low) | (position > high), -self._x, self._x)
        return position


class UniformPolicy:
    """Independent uniform commands within the usual limits: the paper's random baseline."""

    def __init__(self, contract: Contract, rng: np.random.Generator) -> None:
        self._limits = Limits(contract.action, contract.period)
        self._rng = rng
        self.reset()

    def reset(self) -> None:
        """Forget the last command."""
        self._last: np.ndarray | None = None

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """Ignore the frame: commands do not depend on it."""

    def act(self, stamp: int) -> np.ndarray:
        """Return the next command (A,)."""
        command = self._rng.uniform(self._limits.low, self._limits.high)
        self._last = self._limits.project(command[None], self._last)[0]
        return self._last


def simulate(
    task: Task,
    contract: Contract,
    policy: Policy,
    seconds: float,
    camera_rate: float,
    phase: float,
    start: int,
    held: np.ndarray | None = None,
) -> Iterator[tuple[str, int, np.ndarray]]:
    """Run one episode in simulated time; the simulator waits for the policy.

    Commands begin ``phase`` [s] after frames, because a robot does not synchronise them; until
    then ``held`` (A,) is in effect, by default the task's rest command. Yields
    ('action', stamp, command), ('state', stamp, state) and ('image', stamp, image) in time
    order; stamps are ``start`` [ns] plus the simulated time. At equal times the frame comes
    before the command. A frame is taken at the physics step nearest to its time.
    """
    refuse_delay(contract)
    frame_steps = _frame_steps(camera_rate, task)
    tick_steps = _whole(contract.period / task.timestep, 'control period')
    offset = round(phase / task.timestep) % tick_steps
    policy.reset()
    command = np.clip(task.rest() if held is None else held, *contract.action.bounds)
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


def refuse_delay(contract: Contract) -> None:
    """Raise ConfigError for a delay of commands: a simulated robot has none."""
    if contract.action.delay:
        raise ConfigError(
            f'contract {contract.name}: action.delay is {contract.action.delay:g} s: the simulator '
            'applies commands at once, expected 0'
        )


def refuse_reports(contract: Contract) -> None:
    """Raise ConfigError for reports of applied commands, which a simulated robot does not send."""
    if contract.action.executed is not None:
        raise ConfigError(
            f'contract {contract.name}: action.executed is {contract.action.executed.topic}: the '
            'simulator reports no applied commands, expected null'
        )


def _whole(steps: float, name: str) -> int:
    if abs(steps - round(steps)) > 1e-6 or round(steps) < 1:
        raise ConfigError(f'{name} is {steps:g} physics steps: it must be a whole number')
    return round(steps)


def _frame_steps(camera_rate: float, task: Task) -> float:
    """Physics steps between frames, at least one."""
    if camera_rate * task.timestep > 1 + 1e-6:  # a rate may come from a rounded period
        raise ConfigError(
            f'--camera-rate is {camera_rate:g} Hz: expected at most {1 / task.timestep:g}, one '
            'frame in each physics step'
        )
    return 1 / camera_rate / task.timestep


def image_size(text: str) -> int | tuple[int, int]:
    """Read '64' or '640x480' (width x height) as a task takes it: one number, or (H, W) [px]."""
    width, cross, height = text.partition('x')
    return (int(height), int(width)) if cross else int(width)


def collect_task(
    name: str,
    out: Path,
    *,
    episodes: int,
    seconds: float,
    camera_rate: float | None = None,
    size: int | tuple[int, int] = 64,
    policy_name: str = 'random',
    bundle: str = '',
    seed: int = 0,
    command: str = '',
) -> None:
    """Record simulated episodes of a task into a bag.

    Args:
        name: task, such as 'reacher'.
        out: bag folder to create.
        episodes: how many.
        seconds: length of each [s].
        camera_rate: [Hz]; None: 20, or the next lower one with whole steps between.
        size: height and width of the images [px], or one number for both.
        policy_name: 'random', or 'planner', which reaches random goals, at the camera rate of its
            bundle.
        bundle: of the planner; named like the task where it is empty.
        seed: of task and policy.
        command: stored in the bag's metadata, as the provenance of models trained on it.

    Raises:
        ConfigError: the camera or the control period does not fit the simulation.
        BagError: ``out`` exists.

    """
    rng = np.random.default_rng(seed)
    with closing(make_task(name, size, seed)) as task:
        contract = task.robot()
        refuse_reports(contract)
        policy: Policy
        if policy_name == 'planner':
            from lewm_ros.evaluation.closed_loop import PlannerPolicy

            policy = PlannerPolicy.from_bundle(bundle or task.name, task, contract, seed=seed)
            camera_rate = policy.camera_rate
        elif (known := scripted_name(name)) in SCRIPTED:
            policy = SCRIPTED[known](contract, rng, task)
        elif contract.action.kind == 'position':
            policy = WanderPolicy(contract, rng, task)
        else:
            policy = RandomPolicy(contract, rng)
        if camera_rate is None:
            steps = np.ceil(round(1 / (20 * task.timestep), 6))
            camera_rate = float(1 / (steps * task.timestep))
        _frame_steps(camera_rate, task)  # checked before the bag is created
        start = START
        with BagWriter(out, command) as bag:
            for number in progress(range(1, episodes + 1), desc='collect', unit='episode'):
                task.reset()
                write_episode(bag, start, number)
                phase = rng.uniform(0, contract.period)
                for kind, stamp, value in simulate(
                    task, contract, policy, seconds, camera_rate, phase, start
                ):
                    if kind == 'state':
                        write_state(bag, contract, stamp, value, task.joints)
                    elif kind == 'action':
                        write_action(bag, contract, stamp, value)
                    else:
                        write_image(bag, contract, stamp, value)
                start += round(seconds * NS_PER_S) + REST


def topic_name(name: str) -> str:
    """Return the full name of a contract's topic; relative ones are in /lewm."""
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
    """Write a state (X,): of the named joints positions, then velocities, if it is of joints."""
    state = contract.state
    if not value.size:
        return
    if state is not None and state.type != messages.JOINT_STATE:
        message = messages.command(state, (), value)
        messages.write(bag, topic_name(state.topic), state.type, message, stamp, stamp)
        return
    position, velocity = np.split(value, 2)
    bag.write(
        topic_name(JOINT_STATES if state is None else state.topic),
        messages.JOINT_STATE,
        stamp,
        header=bag.header(stamp),
        name=list(names),
        position=position,
        velocity=velocity,
        effort=np.empty(0),
    )


def write_image(bag: BagWriter, contract: Contract, stamp: int, value: np.ndarray) -> None:
    """Write an image (H, W, 3) uint8 RGB in the type of the contract's camera, losslessly."""
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
