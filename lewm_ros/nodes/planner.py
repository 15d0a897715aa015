# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""planner_node: latents and a goal latent in, stamped plans out; never a command."""

from __future__ import annotations

from dataclasses import fields
import os
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.bringup.compose import main_of
from lewm_ros.control.playback import Playback
from lewm_ros.engines import PRECISIONS, describe
from lewm_ros.nodes.base import LATCHED, NEWEST
from lewm_ros.nodes.diagnostics import OK, Rate, Recent
from lewm_ros.nodes.goals import GOAL, goal_message, goal_settings
from lewm_ros.nodes.messages import plan_message, stamp_of, vector
from lewm_ros.nodes.observer import ENGINE, ObserverNode
from lewm_ros.nodes.parameters import Parameter, dynamic
from lewm_ros.planning import Plan, PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.costs import KINDS
from lewm_ros.planning.goal import Goal, GoalState
from lewm_ros.robot.history import Context, block_edges
from lewm_ros.time import NS_PER_S

#: Without a usable context for this long, the node says what is missing [s].
PATIENCE = 2.0
#: How often a goal's time is looked at [s].
LOOK = 0.1

_SEARCH = (
    Parameter('horizon', 5, 'Length of a plan, committed block included [blocks].', 2, 1000),
    Parameter(
        'exact_iterations',
        2,
        'Last iterations in f32 where precision is bf16, at most half of them.',
        0,
        1000,
    ),
    Parameter('cost', 'ramp', 'Weight of the distance to the goal over the plan.', choices=KINDS),
    Parameter('clip', True, 'Keep candidates within the limits of the contract.'),
    Parameter('seed', 0, 'Seed of the search.', 0, 2**31 - 1),
)
_NEXT_SEARCH = dynamic(
    Parameter('samples', 64, 'Candidates in an iteration of a warm search.', 1, 100_000),
    Parameter('elites', 10, 'Best candidates that the next mean comes from.', 1, 100_000),
    Parameter('iterations', 3, 'Iterations of a warm search.', 1, 1000),
    Parameter('cold_samples', 128, 'Candidates in an iteration of a cold search.', 1, 100_000),
    Parameter('cold_iterations', 5, 'Iterations of a cold search.', 1, 1000),
    Parameter('std', 1.0, 'Spread of a cold search [standard deviations of the data].', 0.01, 10.0),
    Parameter('warm_std', 0.5, 'Spread of a warm search [same].', 0.01, 10.0),
    Parameter('keep_elites', 5, 'Elites of the last plan tried again in a warm search.', 0, 1000),
    Parameter(
        'min_gain', 0.0, 'A search ends when its elites get better by less; 0: never.', 0.0, 0.99
    ),
    Parameter(
        'common_noise', 0.0, 'Part of the noise that the ticks of a block have in common.', 0.0, 1.0
    ),
    Parameter('execute', 1, 'Blocks played before a new plan is asked for.', 1, 999),
    Parameter('deadline_fraction', 0.7, 'Part of a block that a plan may take.', 0.01, 100.0),
)


class PlannerNode(ObserverNode):
    """Plans on a worker whenever enough of the last plan is played, or the goal changed.

    A reached goal is held by planning on; after a timeout nothing is planned until another goal.
    """

    PARAMETERS = (
        *ENGINE,
        Parameter(
            'precision',
            'f32',
            'Of the products of a rollout; auto: bf16 where the hardware multiplies it natively.',
            choices=PRECISIONS,
        ),
        Parameter('threads', 0, 'Threads of a rollout; 0: all cores but one.', 0, 256),
        *_SEARCH,
        *_NEXT_SEARCH,
        *GOAL,
    )

    def configure(self) -> None:
        """Build the planner and run rollouts of every size once: first calls are slow."""
        self._config = _config(self.params)
        super().configure()
        self._planner = RecedingHorizonPlanner(
            self.bundle.spec, self.contract, self.engine, self._config
        )
        self._planner.warm_up()
        self._plan = self.publisher(JointTrajectory, 'plan', NEWEST)
        self._goal_status = self.publisher(DiagnosticArray, 'goal_status', LATCHED)

    def activate(self) -> None:
        """Wait for a goal and for enough frames."""
        self._hold = self.contract.stop.mode == 'hold'
        self._goal = Goal(*goal_settings(self.params), self.bundle.manifest.camera_period)
        self._activated = time.monotonic()
        self._asked: int | None = None  # stamp of the latent that a plan was last asked on
        self._planned_in = -1  # generation that the planner's memory belongs to
        self._playback = Playback(self.contract.action.size, hold=self._hold)
        self._delay = round(self.contract.action.delay * NS_PER_S)
        self._fruitless_since: float | None = None
        self._plans = self._late = self._missed = self._windows_missing = 0
        self._last: Plan | None = None
        self._plan_ms, self._age_ms, self._plan_rate = Recent(), Recent(), Rate()
        self._config = _config(self.params)
        self._worker = self.worker('planner', self._work)
        super().activate()
        self.subscribe(Image, 'goal_latent', self._on_goal, LATCHED)
        self._tell_goal()
        self.every(LOOK, self._look_at_goal)

    def deactivate(self) -> None:
        """Say that nothing is pursued any more."""
        self._goal.clear()
        self._tell_goal()

    def check(self, values: dict[str, Any]) -> None:
        """Refuse settings that make no search."""
        _config(values)

    def changed(self) -> None:
        """Search with the new settings from the next plan on."""
        with self.lock:
            self._config = _config(self.params)
            self._goal.tune(*goal_settings(self.params))

    def cleanup(self) -> None:
        """Drop the planner too: it holds the engine."""
        super().cleanup()
        self.release('_planner', '_playback', '_last')

    def report(self) -> dict[str, Any]:
        """Figures of the planner."""
        last = self._last
        return {
            'plans': self._plans,
            'plans_hz': self._plan_rate.hz,
            'plan_ms_last': self._plan_ms.last,
            'plan_ms_p50': self._plan_ms.percentile(50),
            'plan_ms_p95': self._plan_ms.percentile(95),
            'plan_ms_p99': self._plan_ms.percentile(99),
            'plan_age_ms_p95': self._age_ms.percentile(95),
            'late_plans': self._late,
            'deadline_missed': self._missed,
            'skipped': self._worker.skipped,
            'windows_missing': self._windows_missing,
            'goal': self._goal.state.value,
            'goal_distance': self._goal.distance,
            'plan_cost': float('nan') if last is None else last.cost,
            'rollouts': 0 if last is None else last.rollouts,
            'warm': last is not None and last.warm,
            'engine': describe(self.engine),
            **super().report(),
        }

    def engine_options(self) -> dict[str, Any]:
        """All cores but one unless told otherwise, and no longer rollouts than planning needs."""
        return {
            'threads': self.params['threads'] or max(len(os.sched_getaffinity(0)) - 1, 1),
            'precision': self.params['precision'],
            'horizon': self._config.rollout_blocks(self.bundle.spec),
        }

    def _on_goal(self, message: Image, received: int) -> None:
        if self.model_differs:
            return
        latent = vector(message, self.bundle.manifest.latent_size)
        stamp = stamp_of(message) or received
        with self.lock:
            goal = self._goal
            same = goal.pursued is not None and np.array_equal(latent, goal.pursued)
            if same:
                goal.stamp = stamp  # asked for again: acknowledged, nothing else changes
            else:
                goal.set(latent, stamp, time.monotonic())
            newest = self.history.newest
        self._tell_goal()
        if newest is not None and not same:
            self._ask(newest)

    def observed(self, stamp: int, latent: np.ndarray) -> None:
        """Ask for a plan when the last one has been played for ``execute`` blocks."""
        with self.lock:
            changed = self._goal.observe(stamp, latent, time.monotonic())
            if self._hold and not len(self.history.actions()[0]):
                # A holding controller sends nothing before its first plan, and without any
                # action there would never be one: the model's mean action stands in.
                self.history.append_action(stamp, np.array(self.bundle.manifest.action_mean))
            # Frames are a camera period apart: the one nearest to the due time counts.
            due = (
                self._asked is None
                or stamp
                >= self._asked + self._config.execute * self.block - self.camera_period // 2
            )
        if changed:
            self._tell_goal()
        if self._goal.pursued is not None and due:
            self._ask(stamp)

    def forgotten(self) -> None:
        """Drop the plans with the history; the goal stays, if it is a latent of this model."""
        self._playback.clear()
        self._asked = None
        self._goal.forget_frames()
        if self.model_differs:
            self._goal.clear()
            self._tell_goal()

    def _ask(self, stamp: int) -> None:
        self._asked = stamp
        self._worker.request(None)

    def _work(self, request: None) -> None:
        started, began = time.perf_counter(), self.now()
        with self.lock:
            generation, goal, config = self.generation, self._goal.pursued, self._config
            situation = self._situation()
            self._asked = None if situation is None else situation[0].stamp
        if goal is None:
            return
        if situation is None:
            self._note_fruitless()
            return
        context, committed = situation
        if self._planner.config is not config:
            self._planner.adopt(config)
        if self._planned_in != generation:
            self._planner.reset()
            self._planned_in = generation
        # The block begins with the frame, so the time since it was taken is spent already.
        age = (began - context.stamp) / NS_PER_S
        plan = self._planner.plan(context, committed, goal, max(self._planner.budget - age, 0.0))
        message = plan_message(plan.start, plan.period, plan.actions, self.contract.action)
        with self.lock:
            # It belongs to a past episode, or nothing is to be planned any more; or the clock was
            # set back, and it would be played long after.
            past = generation != self.generation or self.now() < began
            if past or self._goal.pursued is None:
                return
            self._playback.add(plan.start, plan.period, plan.actions)
        self._plan.publish(message)
        self._note(plan, context, 1000 * (time.perf_counter() - started))

    def _situation(self) -> tuple[Context, np.ndarray] | None:
        """Return the newest context and the commands (k, A) committed after it, if known."""
        newest = self.history.newest
        context = None if newest is None else self.history.context(newest)
        if context is None:
            return None
        parts = self.bundle.manifest.frameskip
        edges = block_edges(context.stamp, context.stamp + self.block, parts)
        # What is sent from now on takes effect after the delay; all before that is decided.
        decided = self.now() + self._delay
        committed = self._playback.expected(*self.history.actions(), decided, edges)
        self._playback.forget(context.stamp)
        return None if committed is None else (context, committed)

    def _look_at_goal(self) -> None:
        """Give a goal up whose time is over; say where there is none."""
        now = time.monotonic()
        with self.lock:
            expired = self._goal.expire(now)
            state, lacking = self._goal.state, now - self._activated
        text = None
        if state is GoalState.NONE and lacking > PATIENCE:
            topic = self.resolve_topic_name('goal_latent')
            text = f'no goal on {topic} (publishers: {self.count_publishers(topic)})'
        self.conditions.set('goal', text, OK)  # a robot without a goal stands still on purpose
        if expired:
            # What a plan lacked does not matter any more.
            self._fruitless_since = None
            self.conditions.set('context', None)
            self.conditions.set('late', None)
            self._tell_goal()

    def _tell_goal(self) -> None:
        goal, text = self._goal, None
        if goal.state is GoalState.TIMEOUT:
            text = (
                f'goal not reached within goal_timeout {self.params["goal_timeout"]:g} s (distance '
                f'{goal.distance:.3g}, goal_tolerance {self.params["goal_tolerance"]:g}): no plans '
                'until another goal comes'
            )
        self.conditions.set('goal timeout', text)
        self._goal_status.publish(goal_message(goal, self.contract.name, self.now()))

    def _note(self, plan: Plan, context: Context, milliseconds: float) -> None:
        now = self.now()
        self._last = plan
        self._plans += 1
        self._plan_rate.add()
        self._missed += plan.deadline_missed
        self._plan_ms.add(milliseconds)
        self._age_ms.add((now - context.stamp) * 1000 / NS_PER_S)
        late = now > plan.start
        self._late += late
        self._fruitless_since = None
        self.conditions.set('context', None)
        self.conditions.set(
            'late',
            f'the last plan was published {(now - plan.start) / NS_PER_S:.3f} s after its '
            'start: lower samples or iterations, or free the processor'
            if late
            else None,
        )

    def _note_fruitless(self) -> None:
        self._windows_missing += 1
        now = time.monotonic()
        if self._fruitless_since is None:
            self._fruitless_since = now
        elif now - self._fruitless_since > PATIENCE:
            manifest = self.bundle.manifest
            self.conditions.set(
                'context',
                f'no plan for {now - self._fruitless_since:.0f} s: it needs {manifest.history} '
                f'frames {self.bundle.block:g} s apart and the commands since the first on '
                f'{self.resolve_topic_name(self.contract.action.topic)}',
            )


def _config(values: dict[str, Any]) -> PlannerConfig:
    """Make the settings that parameter values are. Raises ModelError where they do not fit."""
    return PlannerConfig(**{f.name: values[f.name] for f in fields(PlannerConfig)})


def main() -> int:
    """Run the node as a program."""
    return main_of('planner_node')
