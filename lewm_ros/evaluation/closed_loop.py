# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The planner driving a simulated task that waits for it, frame by frame as on a robot.

The same history, planner and track as in the nodes, without ROS and without a clock: a plan is
there at once, but its free part still starts one block after the frame it stands on.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from lewm_ros.bundle import Bundle
from lewm_ros.control.playback import Playback
from lewm_ros.engines import Engine, load_engine
from lewm_ros.errors import BringupError, ModelError, YamlError, one_line
from lewm_ros.files import find
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.history import History, block_edges
from lewm_ros.robot.imaging import prepare
from lewm_ros.sim import Task
from lewm_ros.time import NS_PER_S
from lewm_ros.yaml_reader import read_yaml

#: How often a robot that does nothing in particular gets a new goal [s].
GOAL_SECONDS = 6.0


def planner_config(preset: str, seed: int) -> PlannerConfig:
    """Read the planner's settings from the same preset that the nodes get."""
    path = find('preset', preset)
    try:
        given = read_yaml(path)['/**/planner_node']['ros__parameters']
        known = {f.name for f in fields(PlannerConfig)} & set(given)
        return PlannerConfig(**{key: given[key] for key in known} | {'seed': seed})
    except (KeyError, TypeError, ModelError, YamlError) as error:
        raise BringupError(
            f'preset {path}: no parameters of planner_node ({one_line(error)})'
        ) from error


class PlannerPolicy:
    """Encodes frames, plans towards a goal picture, plays the plan.

    Args:
        bundle: the model.
        contract: the robot.
        engine: runs the bundle.
        config: of the planner.
        new_goal: called at the start of an episode and then every ``goal_seconds``; returns a
            goal picture (S, S, 3) uint8.
        goal_seconds: [s].

    """

    def __init__(
        self,
        bundle: Bundle,
        contract: Contract,
        engine: Engine,
        config: PlannerConfig,
        new_goal: Any,
        goal_seconds: float = float('inf'),
    ) -> None:
        manifest = bundle.manifest
        self._engine, self._config, self._size = engine, config, manifest.image_size
        self._crop = contract.camera.crop
        self._planner = RecedingHorizonPlanner(bundle.spec, contract, engine, config)
        self._history = History(
            manifest.history,
            manifest.frameskip,
            bundle.block,
            manifest.camera_period,
            contract.action.size,
        )
        self._playback = Playback(contract.action.size)
        self._rest = np.zeros(contract.action.size)
        self._period = round(contract.period * NS_PER_S)
        self._block = round(bundle.block * NS_PER_S)
        self._ticks = manifest.frameskip
        self._new_goal, self._goal_seconds = new_goal, goal_seconds
        self.reset()

    @classmethod
    def from_bundle(
        cls,
        name: str,
        task: Task,
        contract: Contract,
        seed: int,
        goal_seconds: float = GOAL_SECONDS,
    ) -> PlannerPolicy:
        """Drive ``task`` to a new random goal every ``goal_seconds`` [s], with its preset."""
        bundle = Bundle.load(find('bundle', name))
        config = planner_config(task.preset, seed)
        return cls(
            bundle,
            contract,
            load_engine(bundle, horizon=config.rollout_blocks(bundle.spec)),
            config,
            lambda: task.set_goal(task.sample_goal()),
            goal_seconds,
        )

    def reset(self) -> None:
        """Begin an episode: nothing remembered, the next frame asks for a goal."""
        self._history.clear()
        self._planner.reset()
        self._playback.clear()
        self._goal: np.ndarray | None = None
        self._goal_due = self._plan_due = 0

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """See a frame, and plan if a block has passed since the last plan."""
        if self._goal is None or stamp >= self._goal_due:
            self._goal = self._encode(self._new_goal())
            self._plan_due = stamp
            if self._goal_seconds < float('inf'):
                self._goal_due = stamp + round(self._goal_seconds * NS_PER_S)
            else:
                self._goal_due = np.iinfo(np.int64).max
        self._history.append_latent(stamp, self._encode(image))
        if stamp < self._plan_due:
            return
        context = self._history.context(stamp)
        if context is None:
            return
        edges = block_edges(stamp, stamp + self._block, self._ticks)
        committed = self._playback.expected(*self._history.actions(), stamp, edges)
        if committed is None:
            return
        plan = self._planner.plan(context, committed, self._goal)
        self._playback.add(plan.start, plan.period, plan.actions)
        self._plan_due = stamp + self._config.execute * self._block

    def act(self, stamp: int) -> np.ndarray:
        """Return the plan's command for the control period from ``stamp`` on."""
        command = self._playback.command(stamp, self._period)
        if command is None:
            command = self._rest
        self._history.append_action(stamp, command)
        self._playback.forget(stamp)
        return command

    def _encode(self, image: np.ndarray) -> np.ndarray:
        return self._engine.encode(prepare(image, self._size, self._crop))
