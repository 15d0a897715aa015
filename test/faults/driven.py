# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A controller_node in its own process, and what drives it: planner, encoder, clock, motors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import time
from typing import Any

from harness import Bench
import numpy as np
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory
import yaml

from lewm_ros.nodes.messages import action_message, message_class, plan_message, to_time
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.fields import read_fields
from lewm_ros.time import NS_PER_S

TICK = 0.025  #: of the test [s], half a control period
#: Allowance for the delivery of a message on a busy machine [s].
DELIVERY = 0.1


class Robot:
    """Stands in for the nodes around a controller; each part can be switched off.

    Attributes:
        commands: received so far: receive time (monotonic [s]) and values (A,).
        camera: whether latents are published.
        seen: when the last latent was sent (monotonic [s]).
        target: command that plans are made of, or None for no plans.
        clock: the simulated time [ns], or None for the system clock; it runs if ``runs``.
        override: what the robot reports as executed instead of the command sent: values, or
            'nothing' for no reports; None for the command itself.

    """

    def __init__(self, bench: Bench, process: Any, contract: Contract, simulated: bool) -> None:
        self.bench, self.process, self.action = bench, process, contract.action
        self.period = round(contract.period * NS_PER_S)
        self.timeout = contract.stop.observation_timeout
        #: Longest time from a fault to the last command that may differ from a stop [s].
        self.deadline = self.timeout + contract.period + DELIVERY
        self.commands: list[tuple[float, np.ndarray]] = []
        self.camera = self.runs = True
        self.seen = 0.0
        self.target: np.ndarray | None = None
        self.override: np.ndarray | str | None = None
        self.clock = 1000 * NS_PER_S if simulated else None
        self._clock = bench.node.create_publisher(Clock, '/clock', 10) if simulated else None
        kind, executed = message_class(self.action.type), self.action.executed
        self._applied = None
        if executed is not None:
            self._applied = bench.node.create_publisher(kind, executed.topic, 10)
        bench.node.create_subscription(kind, self.action.topic, self._on_command, 10)
        self._latent = bench.publisher(Image, 'latent')
        self.connect_planner()

    def connect_planner(self) -> None:
        """Create a publisher on plan, as a starting planner_node does."""
        self.plan = self.bench.publisher(JointTrajectory, 'plan')

    @property
    def now(self) -> int:
        """The time on which plans are based [ns]."""
        return self.bench.now() if self.clock is None else self.clock

    def send(self, ahead: float = 0.0, seconds: float = 1.0) -> None:
        """Publish a plan of ``target`` that starts so far ahead [s]."""
        commands = np.tile(self.target, (round(seconds * NS_PER_S / self.period), 1))
        start = self.now + round(ahead * NS_PER_S)
        self.plan.publish(plan_message(start, self.period, commands, self.action))

    def live(self, seconds: float, plans: bool = True) -> list[np.ndarray]:
        """Let time pass, and return the commands heard meanwhile; a plan comes every 0.2 s."""
        first, end = len(self.commands), time.monotonic() + seconds
        number = 0
        while (now := time.monotonic()) < end:
            if self._clock is not None:
                self._clock.publish(Clock(clock=to_time(self.clock)))
            if self.camera:
                self.seen = now
                self._latent.publish(Image())
            if plans and self.target is not None and number % 8 == 0:
                self.send()
            number += 1
            self.bench.spin(TICK)
            if self.clock is not None and self.runs:
                self.clock += round((time.monotonic() - now) * NS_PER_S)
        return [command for _, command in self.commands[first:]]

    def until(self, target: float, what: str) -> None:
        """Let time pass until the first value of a command is ``target``."""
        end = time.monotonic() + 5.0
        while not (heard := self.live(0.1)) or abs(heard[-1][0] - target) > 1e-9:
            assert time.monotonic() < end, what

    def moved_after(self, began: float) -> float:
        """Time from ``began`` [s] to the last non-zero command [s]."""
        return max((t - began for t, c in self.commands if c.any()), default=0.0)

    def said(self, text: str) -> tuple[int, int]:
        """How often a warning was logged, and how often it was cleared."""
        lines = self.process.output.splitlines()
        began = [line for line in lines if text in line and '[WARN]' in line]
        return len(began), sum(f'cleared: {text}' in line for line in lines)

    def _on_command(self, message: Any) -> None:
        values = read_fields(message, self.action.fields)
        self.commands.append((time.monotonic(), values))
        if self._applied is not None and not isinstance(self.override, str):
            done = values if self.override is None else self.override
            self._applied.publish(action_message(done, self.action, self.now))


@contextmanager
def driven(
    bench: Bench, contract: Contract, folder: Path, simulated: bool = False, **action: Any
) -> Iterator[Robot]:
    """Run a controller with changes to its contract's action; yield the robot around it."""
    data = contract.to_dict()
    data['action'].update(action)
    data['stop']['mode'] = 'hold' if data['action']['kind'] == 'position' else 'zero'
    file = folder / 'robot.yaml'
    file.write_text(yaml.safe_dump(data))
    given = {'use_sim_time': simulated}
    with bench.nodes('controller_node', contract=file, **given) as process:
        bench.active('controller_node')
        yield Robot(bench, process, Contract.load(file), simulated)
