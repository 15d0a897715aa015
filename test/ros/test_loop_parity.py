# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The nodes and the library make the same plans and commands from the same frames.

Real nodes: their callbacks get real messages as from the executor, their workers run synchronously,
and the test controls their clocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import Bench
import numpy as np
import pytest
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import String

from lewm_ros import Policy
from lewm_ros.api import planner_config
from lewm_ros.bundle import FILES, Bundle, write_bundle
from lewm_ros.engines import load_engine
from lewm_ros.nodes.controller import ControllerNode
from lewm_ros.nodes.encoder import EncoderNode
from lewm_ros.nodes.messages import (
    header,
    image_message,
    read_plan,
    to_time,
)
from lewm_ros.nodes.planner import PlannerNode
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.fields import read_fields
from lewm_ros.time import NS_PER_S

START, TICK = 1000 * NS_PER_S, NS_PER_S // 20
PHASE = 13_000_000  #: of the control ticks against the frames [ns]
SECONDS = 6
SILENT = 3.0, 3.8  #: no frames come [s]
#: Changes to the contract of the arm.
ROBOTS: dict[str, dict[str, Any]] = {
    'effort': {},
    'delayed': {'delay': 0.1, 'max_step': [0.3, 0.2]},
    'position': {
        'type': 'sensor_msgs/msg/JointState',
        'fields': ['position[0]', 'position[1]'],
        'kind': 'position',
    },
}


class Nodes:
    """An encoder, a planner and a controller; each message reaches the others at once."""

    def __init__(
        self, bench: Bench, bundle: Bundle, contract: Contract, file: Path, patch: Any
    ) -> None:
        self.plans: list[tuple[int, int, np.ndarray]] = []
        self.commands: list[tuple[int, np.ndarray]] = []
        self.clock = START
        patch.setattr('lewm_ros.nodes.controller.monotonic', lambda: self.clock / NS_PER_S)
        settings = {'bundle': str(bundle.path), 'contract': str(file), 'threads': 1}
        settings |= {'autostart': False, 'use_sim_time': True, 'deadline_fraction': 100.0}
        self._nodes = [
            bench.run(
                kind,
                f'{name}_node',
                parameter_overrides=[Parameter(k, value=v) for k, v in settings.items()],
                cli_args=['--ros-args', '-r', 'image:=camera/image'],
            )
            for kind, name in (
                (ControllerNode, 'controller'),
                (PlannerNode, 'planner'),
                (EncoderNode, 'encoder'),
            )
        ]
        controller, planner, encoder = self._nodes
        self.tell_time()
        for node in self._nodes:
            node.trigger_configure()
            node.trigger_activate()
            assert node.failure is None
        (self.tick,) = (t.callback for t in controller.timers if t.timer_period_ns == TICK)
        for node in (planner, encoder):
            self._at_once(node)

        def plan(message: Any) -> None:
            self.plans.append(read_plan(message, contract.action, TICK))
            self.take('plan', message)

        def command(message: Any) -> None:
            self.commands.append((self.clock, read_fields(message, contract.action.fields)))
            self.take('action', message)

        planner._plan.publish = plan
        controller._command.publish = command
        encoder._latent.publish = lambda message: self.take('latent', message)
        encoder._goal_latent.publish = lambda message: self.take('goal_latent', message)
        self.take('model', String(data=bundle.hash))

    @staticmethod
    def _at_once(node: Any) -> None:
        work = node._worker._work
        node._worker.request = lambda item, slot='': work(item)

    def tell_time(self) -> None:
        """Pass the clock to the nodes."""
        for node in self._nodes:
            node._time_source.clock_callback(Clock(clock=to_time(self.clock)))

    def take(self, topic: str, message: Any) -> None:
        """Deliver a message to all subscribers."""
        for node in self._nodes:
            for subscription in node.subscriptions:
                if subscription.topic_name == f'/lewm/{topic}':
                    subscription.callback(message, {'received_timestamp': 0})


def events(rate: int) -> Iterator[tuple[int, str]]:
    """Times [ns] of the frames and of the control ticks, in order."""
    frames = [(START + i * NS_PER_S // rate, 'frame') for i in range(SECONDS * rate)]
    ticks = [(START + PHASE + i * TICK, 'tick') for i in range(SECONDS * 20)]
    silent = [START + round(s * NS_PER_S) for s in SILENT]
    yield from sorted(
        (t, what) for t, what in frames + ticks if what == 'tick' or not silent[0] < t < silent[1]
    )


@pytest.fixture
def at_rate(tiny_bundle: Bundle, tmp_path: Path) -> Callable[[int, Contract], Bundle]:
    """Return a maker of bundles trained at a camera rate [Hz] on a robot."""

    def make(rate: int, contract: Contract) -> Bundle:
        files: dict[str, bytes | Path] = {name: tiny_bundle.read(name) for name in FILES}
        period = 1 / rate
        manifest = replace(tiny_bundle.manifest, contract=contract, camera_period=period, files={})
        return write_bundle(tmp_path / 'bundle', manifest, files)

    return make


@pytest.mark.parametrize(
    ('rate', 'robot'), [(30, 'effort'), (20, 'effort'), (30, 'delayed'), (20, 'position')]
)
def test_nodes_and_library_do_the_same(
    bench: Bench,
    at_rate: Callable[[int, Contract], Bundle],
    contract_file: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    rate: int,
    robot: str,
) -> None:
    """Plans and commands are bitwise equal, across a new goal and a silent camera."""
    file = contract_file(action=ROBOTS[robot])
    contract = Contract.load(file)
    bundle = at_rate(rate, contract)
    config = planner_config('live')
    engine = load_engine(bundle, horizon=config.rollout_blocks(bundle.spec))
    policy = Policy(bundle, contract, engine, config)
    nodes = Nodes(bench, bundle, contract, file, monkeypatch)
    plans, commands = [], []
    rng = np.random.default_rng(0)
    goals = {n: rng.integers(0, 256, (32, 32, 3), np.uint8) for n in (5, 3 * rate // 2)}
    seen = 0
    for stamp, what in events(rate):
        nodes.clock = stamp
        nodes.tell_time()
        if what == 'tick':
            nodes.tick()
            command = policy.command(stamp)
            if command is not None:
                commands.append((stamp, command))
            continue
        image = rng.integers(0, 256, (32, 32, 3), np.uint8)
        seen += 1
        nodes.take('camera/image', image_message(image, header(stamp)))
        plans.append(policy.observe(image, stamp))
        if seen in goals:
            nodes.take('goal_image', image_message(goals[seen], header(stamp)))
            before = policy.plan
            policy.set_goal(goals[seen], stamp)
            plans.append(None if policy.plan is before else policy.plan)
    made = [plan for plan in plans if plan is not None]
    assert len(made) > 15
    assert [(p.start, p.period) for p in made] == [(s, d) for s, d, _ in nodes.plans]
    for plan, (_, _, actions) in zip(made, nodes.plans):
        np.testing.assert_array_equal(plan.actions, actions)
    assert [stamp for stamp, _ in commands] == [stamp for stamp, _ in nodes.commands]
    for (_, ours), (_, theirs) in zip(commands, nodes.commands):
        np.testing.assert_array_equal(ours, theirs)
    assert policy.loop.stops['stale'] == 1
    # A plan a block, on the frame nearest to the due time.
    starts = np.diff([p.start for p in made])
    assert np.median(starts) == pytest.approx(NS_PER_S / 4, abs=NS_PER_S / rate)
    assert np.std([c for _, c in commands]) > 0.01
