# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Whatever engine, encoder and robot deliver, every plan is finite and within limits.

A real planner_node: its callbacks get real messages as from the executor, and its worker runs
synchronously.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import Bench
import numpy as np
from odd import ODD, number
import onnx
from onnx import numpy_helper
import pytest
from rclpy.logging import LoggingSeverity
from rclpy.parameter import Parameter
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.bundle import FILES, ROLLOUT, Bundle, write_bundle
from lewm_ros.engines import Engine
from lewm_ros.nodes.messages import header, to_time, vector_message
from lewm_ros.nodes.planner import PlannerNode
from lewm_ros.robot.contract import Action
from lewm_ros.time import NS_PER_S


class Confused(Engine):
    """An engine whose rollouts are sometimes corrupted, in some samples or in all."""

    def __init__(self, engine: Engine, rng: np.random.Generator) -> None:
        self._engine, self._rng = engine, rng
        self.precision = engine.precision

    def rollout(self, *inputs: Any) -> np.ndarray:
        """Roll out, and corrupt the result at random."""
        rng, latents = self._rng, self._engine.rollout(*inputs).copy()
        how = rng.random()
        if how < 0.3:
            spoiled = rng.random(len(latents)) < rng.random()
            latents[spoiled] = rng.choice(ODD, latents[spoiled].shape)
        elif how < 0.4:
            latents[:] = rng.choice([np.nan, np.inf, 1e30])
        return latents


class Planner:
    """A planner_node with a stand-in for encoder and robot."""

    def __init__(self, bench: Bench, bundle: Bundle, **parameters: Any) -> None:
        settings = {'bundle': str(bundle.path), 'autostart': False, 'use_sim_time': True}
        settings |= {'threads': 1, 'samples': 16, 'cold_samples': 16} | parameters
        self.node: PlannerNode = bench.run(
            PlannerNode,
            'planner_node',
            parameter_overrides=[Parameter(k, value=v) for k, v in settings.items()],
        )
        self.node.get_logger().set_level(LoggingSeverity.FATAL)
        self.node.trigger_configure()
        self.node.trigger_activate()
        assert self.node.failure is None
        self._topics = {s.topic_name: s.callback for s in self.node.subscriptions}
        self.plans: list[JointTrajectory] = []
        self.node._plan.publish = self.plans.append
        self.node._worker.request = self._work  # at once, not on its thread
        self.clock = 10**18
        self.take('model', String(data=bundle.hash))

    def _work(self, item: Any) -> None:
        worker = self.node._worker
        try:
            worker._work(item)
        except Exception as error:
            worker._on_error(error)

    def take(self, topic: str, message: Any) -> None:
        """Hand a message over as the executor does."""
        self._topics[f'/lewm/{topic}'](message, {'received_timestamp': 0})

    def cycle(self, latent: np.ndarray, command: np.ndarray, goal: np.ndarray) -> None:
        """Advance by one camera period, and let the node plan if it is due."""
        self.clock += NS_PER_S // 20
        self.node._time_source.clock_callback(Clock(clock=to_time(self.clock)))
        self.take('action', Float64MultiArray(data=command))
        self.take('goal_latent', vector_message(goal, header(self.clock)))
        self.take('latent', vector_message(latent, header(self.clock)))


def assert_sound(plans: list[JointTrajectory], action: Action, clip: bool = True) -> None:
    """Assert that every number is finite and, with ``clip``, within bounds."""
    low, high = action.bounds
    for message in plans:
        commands = np.array([point.effort for point in message.points])
        assert np.isfinite(commands).all()
        assert not clip or ((low <= commands) & (commands <= high)).all()


@pytest.mark.parametrize('clip', [True, False])
@pytest.mark.filterwarnings('ignore::RuntimeWarning')  # squares of 1e30 overflow
def test_no_plan_is_wild_whatever_the_engine_says(
    bench: Bench, tiny_bundle: Bundle, clip: bool
) -> None:
    """Latents, goals, commands and rollouts contain NaN, infinities and numbers of any size."""
    rng = np.random.default_rng(0)
    planner = Planner(bench, tiny_bundle, clip=clip)
    engine = planner.node._planner._engine
    planner.node._planner._engine = Confused(engine, rng)
    goal, size = rng.normal(size=8), planner.node.contract.action.size
    for _ in range(3000):
        latent, command = rng.normal(size=8), rng.uniform(-1, 1, size)
        odd = rng.random()
        if odd < 0.02:
            goal = rng.normal(size=8)
        elif odd < 0.04:
            latent[rng.integers(8)] = number(rng)
        elif odd < 0.06:
            goal = np.array([number(rng) for _ in goal])
        elif odd < 0.08:
            command[:] = [number(rng) for _ in command]
        elif odd < 0.09:
            latent = latent[:5]
        planner.cycle(latent, command, goal)
    assert_sound(planner.plans, planner.node.contract.action, clip)
    assert len(planner.plans) > 100
    assert planner.node.callback_errors > 20


@pytest.mark.parametrize('value', [np.nan, np.inf, 1e30])
@pytest.mark.parametrize('part', [0.001, 1.0])
@pytest.mark.filterwarnings('ignore::RuntimeWarning')
def test_no_plan_is_wild_whatever_the_weights(
    bench: Bench, tiny_bundle: Bundle, tmp_path: Path, value: float, part: float
) -> None:
    """With some or all weights NaN, infinite or huge, plans are refused or within limits."""
    rng = np.random.default_rng(0)
    graph = onnx.load_model_from_string(tiny_bundle.read(ROLLOUT))
    for tensor in graph.graph.initializer:
        weights = numpy_helper.to_array(tensor).copy()
        if weights.dtype == np.float32:
            weights[rng.random(weights.shape) < part] = value
            tensor.CopyFrom(numpy_helper.from_array(weights, tensor.name))
    files: dict[str, bytes | Path] = {name: tiny_bundle.read(name) for name in FILES}
    files[ROLLOUT] = graph.SerializeToString()
    bundle = write_bundle(tmp_path / 'bundle', replace(tiny_bundle.manifest, files={}), files)
    planner = Planner(bench, bundle)
    goal = rng.normal(size=8)
    for _ in range(60):
        planner.cycle(rng.normal(size=8), rng.uniform(-1, 1, 2), goal)
    assert_sound(planner.plans, planner.node.contract.action)
    assert planner.plans or planner.node.callback_errors
    if part == 1.0 and value != 1e30:
        assert not planner.plans
        assert 'none of' in planner.node.conditions.text


def test_a_plan_begun_before_the_clock_was_set_back_is_not_published(
    bench: Bench, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its start is ahead of the clock: it would be played when it is long outdated."""
    rng = np.random.default_rng(0)
    planner = Planner(bench, tiny_bundle)
    goal = rng.normal(size=8)
    for _ in range(30):
        planner.cycle(rng.normal(size=8), rng.uniform(-1, 1, 2), goal)
    before, engine = len(planner.plans), planner.node._planner._engine
    assert before > 0
    rollout = engine.rollout

    def set_back(*inputs: Any) -> np.ndarray:
        planner.node._time_source.clock_callback(Clock(clock=to_time(planner.clock - 10**9)))
        return rollout(*inputs)

    monkeypatch.setattr(engine, 'rollout', set_back)
    for _ in range(10):
        planner.cycle(rng.normal(size=8), rng.uniform(-1, 1, 2), goal)
    assert len(planner.plans) == before
    assert planner.node.callback_errors == 0
