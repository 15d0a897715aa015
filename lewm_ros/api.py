# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Public Python API: a policy and a surprise monitor loaded from a bundle, without ROS.

Both are made of the same parts as the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.bundle import Bundle, Calibration
from lewm_ros.bundle.policy_file import read_policy
from lewm_ros.bundle.roadmap_file import read_roadmap
from lewm_ros.control.loop import CommandLoop, Reaction
from lewm_ros.engines import Engine, EngineConfig, load_engine
from lewm_ros.engines.encoding import FrameEncoder
from lewm_ros.errors import CalibrationError, ConfigError, ObservationError
from lewm_ros.files import find
from lewm_ros.planning import Plan, PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.config import GoalConfig
from lewm_ros.planning.goal import TOLERANCE, Goal
from lewm_ros.planning.policy import PlanningAgent
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.params_file import for_node, is_qos_override, read_params_file
from lewm_ros.robot.settings import from_values
from lewm_ros.surprise import config as surprise_config
from lewm_ros.surprise import monitor
from lewm_ros.surprise.config import SurpriseConfig
from lewm_ros.surprise.monitor import Thresholds
from lewm_ros.time import NS_PER_S

#: Full name of the node whose settings a preset holds.
_PLANNER = '/lewm/planner_node'
_GOAL = GoalConfig()
#: Parameters of planner_node that are not planning settings.
_NODE_ONLY = {
    *('autostart', 'bundle', 'contract', 'engine', 'precision', 'provider', 'threads'),
    'use_sim_time',
}
#: All parameters of planner_node that a parameter file may set.
PLANNER_PARAMETERS = sorted(
    {f.name for c in (PlannerConfig, GoalConfig) for f in fields(c)} | _NODE_ONLY
)


class Policy:
    """Drives a robot or a simulator towards a goal image, in one process and without ROS.

    Call :meth:`set_goal`, then :meth:`act` at every control tick, or :meth:`observe` at every
    frame and :meth:`command` at every control tick where the two have different rates. Images are
    RGB, (H, W, 3) uint8; stamps are int [ns] of one clock; commands are in contract units.

    It is not thread-safe. A plan that is due is computed in the calling thread: :meth:`act`,
    :meth:`observe` and :meth:`set_goal` may take ``config.deadline_fraction`` of a block, which is
    longer than a tick. Where every tick must be on time, use the nodes.

    Args:
        bundle: the model.
        contract: the robot.
        engine: runs the bundle, for rollouts of ``config.rollout_blocks(bundle.spec)``.
        config: of the planner.
        clock: a steady clock [s] such as ``time.monotonic``, for the deadline of plans and the
            timeouts of watchdogs. None: stamps are the only clock and plans have no deadline, for
            a simulator that waits.
        goal: when a goal is reached and when it is given up.
        on_anomaly: what an open anomaly does: 'ignore', 'slow' or 'stop'.
        slow_factor: factor on velocities and efforts while slow.

    Attributes:
        agent: the planning agent: history, goal and plans.
        loop: the command loop: limits, watchdogs and their warnings.
        plan: the newest plan, or None.
        refused: why the newest plan is not played, such as too old a frame; None if it is played.

    """

    def __init__(
        self,
        bundle: Bundle,
        contract: Contract,
        engine: Engine,
        config: PlannerConfig,
        clock: Callable[[], float] | None = None,
        goal: GoalConfig = _GOAL,
        on_anomaly: str = Reaction.on_anomaly,
        slow_factor: float = Reaction.slow_factor,
    ) -> None:
        self._contract = contract
        self._encoder = FrameEncoder(bundle.spec, contract.camera, engine)
        self._clock, self._reaction = clock, Reaction(on_anomaly, slow_factor)
        planner = make_planner(bundle, contract, engine, config)
        if clock is not None:  # first calls are slow
            size = bundle.spec.image_size
            engine.encode(np.zeros((size, size, 3), np.uint8))
            planner.warm_up()
        self.agent = PlanningAgent(bundle.spec, contract, planner, make_goal(bundle, goal))
        self.reset()

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        contract: str | Path | None = None,
        preset: str | Path = 'live',
        engine: str = EngineConfig.engine,
        threads: int = 1,
        precision: str = EngineConfig.precision,
        seed: int = 0,
        **options: Any,
    ) -> Policy:
        """Load a policy.

        Args:
            bundle: a folder, or a name under ``models/``.
            contract: a file, or a name under ``config/robots``; None: the bundle's own.
            preset: a parameter file of planner_node, or a name under ``config/presets``.
            engine: see :func:`lewm_ros.engines.load_engine`.
            threads: see :func:`lewm_ros.engines.load_engine`.
            precision: see :func:`lewm_ros.engines.load_engine`.
            seed: seed of the search.
            options: ``clock``, ``on_anomaly`` and ``slow_factor`` of the class.

        Raises LewmError if one of them is missing, is invalid or does not fit the others.

        """
        loaded, robot = load_bundle(bundle, contract)
        config, goal = read_preset(preset, seed)
        blocks = config.rollout_blocks(loaded.spec)
        runtime = load_engine(loaded, engine, threads, precision, horizon=blocks)
        return cls(loaded, robot, runtime, config, goal=goal, **options)

    def reset(self) -> None:
        """Start a new episode, in which stamps may start over; the goal stays."""
        self.agent.reset()
        self._untimed = self._clock is None and self.agent.goal.pursued is not None
        self.loop = CommandLoop(self._contract, self._reaction)
        self.plan: Plan | None = None
        self.refused: str | None = None

    def set_goal(self, image: np.ndarray, stamp: int | None = None) -> None:
        """Set the goal that an uncropped image of the camera shows.

        If there are enough frames, a plan is made at once, on the newest one. ``stamp`` is the
        current time; None: that of the newest frame.
        """
        self._plan(self.aim(image, stamp))

    def aim(self, image: np.ndarray, stamp: int | None = None) -> int:
        """Set a goal as :meth:`set_goal` does, for the plan on the next frame; return the time."""
        newest = self.agent.history.newest
        self._untimed = newest is None and stamp is None and self._clock is None
        now = (newest or 0) if stamp is None else stamp
        self.agent.set_goal(self._encoder.goal(image), now, self._steady(now))
        return now

    def observe(self, image: np.ndarray, stamp: int) -> Plan | None:
        """Process the frame taken at ``stamp`` [ns]; return the plan made on it, if one was due."""
        latent, steady = self._encoder.frame(image), self._steady(stamp)
        if self._untimed:  # the goal was set before this episode's time was known
            self.agent.goal.start(steady)
            self._untimed = False
        if not self.agent.history.append_latent(stamp, latent):
            return None
        self.loop.observe(stamp, stamp, steady)
        self.agent.observe(stamp, latent, steady)
        self.agent.goal.expire(steady)
        return self._plan(stamp)

    def command(self, stamp: int, anomaly: bool = False) -> np.ndarray | None:
        """Return the command (A,) to send at ``stamp``, the stop command where nothing is planned.

        Call it once per control period, whether or not a frame has come. The result is None where
        ``stop.mode`` is hold and there is nothing to hold yet.

        Args:
            stamp: the time now [ns], by the clock that stamps the frames.
            anomaly: whether an anomaly is open, such as :attr:`SurpriseMonitor.open`.

        """
        command = self.loop.tick(stamp, self._steady(stamp), anomaly)
        if command is not None and self._contract.action.executed is None:
            self.agent.history.append_action(stamp + self.loop.delay, command)
        return command

    def executed(self, values: np.ndarray, stamp: int) -> None:
        """Record what the robot reports as executed from ``stamp`` on, (A,).

        Needed at every tick where the contract has ``action.executed``; else only before the first
        command of a robot of positions, with those measured.
        """
        self.loop.executed(values, self._steady(stamp))
        self.agent.history.append_action(stamp, values)

    def _plan(self, now: int) -> Plan | None:
        plan = self.agent.plan(now, self._steady(now), live=self._clock is not None)
        if plan is None:
            return None
        self.plan, self.refused = plan, None
        try:
            self.loop.add_plan(plan.start, plan.period, plan.actions, now, self._steady(now))
        except ObservationError as error:
            self.refused = str(error)
        return plan

    def _steady(self, stamp: int) -> float:
        return stamp / NS_PER_S if self._clock is None else self._clock()


class SurpriseMonitor(monitor.SurpriseMonitor):
    """A :class:`lewm_ros.surprise.monitor.SurpriseMonitor` that reads its model from a bundle."""

    _encoder: FrameEncoder

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        contract: str | Path | None = None,
        alpha: float = SurpriseConfig.alpha,
        horizon: int = SurpriseConfig.horizon,
        engine: str = EngineConfig.engine,
        threads: int = 1,
    ) -> SurpriseMonitor:
        """Load a monitor with the thresholds that a bundle has for ``alpha`` and ``horizon``.

        Args:
            bundle: a folder, or a name under ``models/``.
            contract: a file, or a name under ``config/robots``; None: the bundle's own.
            alpha: probability of a false alarm in a window of the calibration.
            horizon: how far ahead frames are predicted [blocks].
            engine: see :func:`lewm_ros.engines.load_engine`.
            threads: see :func:`lewm_ros.engines.load_engine`.

        Raises CalibrationError if it has none, LewmError if something is missing or does not fit.
        """
        loaded, robot = load_bundle(bundle, contract)
        thresholds = thresholds_of(require_calibration(loaded, alpha, horizon))
        runtime = load_engine(loaded, engine, threads, horizon=horizon)
        return cls.of_bundle(loaded, robot, runtime, thresholds, horizon)

    @classmethod
    def of_bundle(
        cls,
        bundle: Bundle,
        contract: Contract,
        engine: Engine,
        thresholds: Thresholds | None = None,
        horizon: int = SurpriseConfig.horizon,
        ahead: float = 0.0,
    ) -> SurpriseMonitor:
        """Make a monitor with the scale of a bundle; for other arguments see the class."""
        scale = bundle.surprise_scale(horizon)
        made = cls(bundle.spec, contract, engine, scale, thresholds, horizon, ahead)
        made._encoder = FrameEncoder(bundle.spec, contract.camera, engine)
        return made

    def see(self, image: np.ndarray, stamp: int) -> monitor.SurpriseReading:
        """Score the image (H, W, 3) uint8 RGB taken at ``stamp`` [ns]; see :meth:`update`."""
        return self.update(stamp, self._encoder.frame(image))


def load_bundle(bundle: str | Path, contract: str | Path | None = None) -> tuple[Bundle, Contract]:
    """Load a bundle and the contract of a robot, and check that they agree.

    Both are paths or names in the share folder; without a contract, the bundle's own is used.
    """
    loaded = Bundle.load(find('bundle', str(bundle)))
    if not contract:
        return loaded, loaded.contract
    robot = Contract.load(find('contract', str(contract)))
    robot.check_against_bundle(loaded.contract)
    return loaded, robot


def make_planner(
    bundle: Bundle, contract: Contract, engine: Engine, config: PlannerConfig
) -> RecedingHorizonPlanner:
    """Make a planner with the roadmap and policy of the bundle that ``config`` selects.

    Raises ConfigError if it selects a policy that the bundle does not have.
    """
    roadmap = read_roadmap(bundle) if config.roadmap else None
    policy = None if config.policy == 'search' else read_policy(bundle, config.policy)
    return RecedingHorizonPlanner(bundle.spec, contract, engine, config, roadmap, policy)


def make_goal(bundle: Bundle, config: GoalConfig) -> Goal:
    """Make a goal that is not set yet, with the tolerance of the bundle.

    A bundle without its own tolerance uses that of its roadmap: the radius of a node.
    """
    manifest = bundle.manifest
    tolerance, roadmap = manifest.goal_tolerance, manifest.roadmap
    if tolerance is None:
        tolerance = TOLERANCE if roadmap is None else roadmap.radius**2 / manifest.latent_size
    return Goal(config, manifest.camera_period, tolerance)


def require_calibration(bundle: Bundle, alpha: float, horizon: int) -> Calibration:
    """Return a bundle's thresholds for ``alpha`` and ``horizon`` [blocks].

    Raises CalibrationError where it has none, ModelError where they are of another model.
    """
    found = bundle.calibration_for(alpha, horizon)
    if found is None:
        known = [c.alpha for c in bundle.manifest.calibration if c.horizon == horizon]
        every = ' '.join(f'{a:g}' for a in (*known, alpha))  # a horizon is calibrated as a whole
        raise CalibrationError(
            f'bundle {bundle.path} has thresholds for alpha {known} at horizon {horizon}, not for '
            f'{alpha:g}: run `lewm calibrate {bundle.path} --data BAG... --alpha {every} '
            f'--horizon {horizon}` first'
        )
    return found


def thresholds_of(
    calibration: Calibration, config: SurpriseConfig = surprise_config.DEFAULTS
) -> Thresholds:
    """Make thresholds of a calibration and of the settings of the other monitors."""
    return Thresholds(calibration.threshold, calibration.alpha, calibration.drift, config)


def planner_config(preset: str | Path, seed: int = 0) -> PlannerConfig:
    """Read the planner's settings from a preset; see :func:`read_preset`."""
    return read_preset(preset, seed)[0]


def read_preset(preset: str | Path, seed: int = 0) -> tuple[PlannerConfig, GoalConfig]:
    """Read the parameters of planner_node from a ROS parameter file, by path or name.

    The seed is not taken from it. If several sections match the node, later ones take precedence,
    as in ROS. Raises ConfigError if the file is invalid, or sets a parameter that does not exist.
    """
    path = find('preset', str(preset))

    def takes(name: str) -> bool:
        return name in PLANNER_PARAMETERS or is_qos_override(name)

    try:
        sections = read_params_file(path)
        settings = for_node(sections, _PLANNER, takes, PLANNER_PARAMETERS)
        if not settings:
            raise ConfigError('no parameters of planner_node')
        config = from_values(PlannerConfig, settings | {'seed': seed})
        return config, from_values(GoalConfig, settings)
    except ConfigError as error:
        raise ConfigError(f'preset {path}: {error}') from error
