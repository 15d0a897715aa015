# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""planner_node: latents and a goal latent in, stamped plans out; never a command."""

from __future__ import annotations

from dataclasses import fields
import os
import time
from typing import Any

import numpy as np
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.engines import PRECISIONS, describe
from lewm_ros.history import NANOSECOND, Context, block_edges
from lewm_ros.nodes.base import LATCHED, NEWEST
from lewm_ros.nodes.compose import main_of
from lewm_ros.nodes.diagnostics import Recent
from lewm_ros.nodes.messages import plan_message, vector
from lewm_ros.nodes.observer import ENGINE, ObserverNode
from lewm_ros.nodes.parameters import Parameter
from lewm_ros.planning import Plan, PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.costs import KINDS
from lewm_ros.planning.playback import Playback

#: Without a usable context for this long, the node says what is missing [s].
PATIENCE = 2.0

_SEARCH = (
    Parameter('horizon', 5, 'Length of a plan, committed block included [blocks].', 2, 1000),
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
        'exact_iterations',
        2,
        'Last iterations in f32 where precision is bf16, at most half of them.',
        0,
        1000,
    ),
    Parameter(
        'common_noise', 0.0, 'Part of the noise that the ticks of a block have in common.', 0.0, 1.0
    ),
    Parameter('cost', 'ramp', 'Weight of the distance to the goal over the plan.', choices=KINDS),
    Parameter('execute', 1, 'Blocks played before a new plan is asked for.', 1, 999),
    Parameter('deadline_fraction', 0.7, 'Part of a block that a plan may take.', 0.01, 100.0),
    Parameter('clip', True, 'Keep candidates within the limits of the contract.'),
    Parameter('seed', 0, 'Seed of the search.', 0, 2**31 - 1),
)


class PlannerNode(ObserverNode):
    """Plans on a worker whenever enough of the last plan is played, or the goal changed."""

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
    )

    def configure(self) -> None:
        """Build the planner and run rollouts of every size once: first calls are slow."""
        names = [f.name for f in fields(PlannerConfig)]
        self._config = PlannerConfig(**{n: self.params[n] for n in names})
        super().configure()
        self._planner = RecedingHorizonPlanner(
            self.bundle, self.contract, self.engine, self._config
        )
        self._planner.warm_up()
        self._plan = self.publisher(JointTrajectory, 'plan', NEWEST)

    def activate(self) -> None:
        """Wait for a goal and for enough frames."""
        self._hold = self.contract.stop.mode == 'hold'
        self._goal: np.ndarray | None = None
        self._asked: int | None = None  # stamp of the latent that a plan was last asked on
        self._planned_in = -1  # generation that the planner's memory belongs to
        self._playback = Playback(self.contract.action.size, hold=self.contract.stop.mode == 'hold')
        self._delay = round(self.contract.action.delay * NANOSECOND)
        self._fruitless_since: float | None = None
        self._plans = self._late = self._missed = self._windows_missing = 0
        self._last: Plan | None = None
        self._plan_ms, self._age_ms = Recent(), Recent()
        self._worker = self.worker('planner', self._work)
        super().activate()
        self.subscribe(Image, 'goal_latent', self._on_goal, LATCHED)

    def report(self) -> dict[str, Any]:
        """Figures of the planner."""
        last = self._last
        return {
            'plans': self._plans,
            'plan_ms_last': self._plan_ms.last,
            'plan_ms_p50': self._plan_ms.percentile(50),
            'plan_ms_p95': self._plan_ms.percentile(95),
            'plan_age_ms_p95': self._age_ms.percentile(95),
            'late_plans': self._late,
            'deadline_missed': self._missed,
            'skipped': self._worker.skipped,
            'windows_missing': self._windows_missing,
            'goal': 'set' if self._goal is not None else 'none',
            'plan_cost': float('nan') if last is None else last.cost,
            'rollouts': 0 if last is None else last.rollouts,
            'warm': last is not None and last.warm,
            'engine': describe(self.engine),
            'bundle': self.bundle.hash[:12],
        }

    def engine_options(self) -> dict[str, Any]:
        """All cores but one unless told otherwise, and no longer rollouts than planning needs."""
        return {
            'threads': self.params['threads'] or max((os.cpu_count() or 1) - 1, 1),
            'precision': self.params['precision'],
            'horizon': self._config.rollout_blocks(self.bundle.manifest),
        }

    def _on_goal(self, message: Image, received: int) -> None:
        if self.model_differs:
            return
        goal = vector(message, self.bundle.manifest.latent_size)
        with self.lock:
            if self._goal is not None and np.array_equal(goal, self._goal):
                return
            self._goal = goal
            newest = self.history.newest
        if newest is not None:
            self._ask(newest)

    def observed(self, stamp: int, latent: np.ndarray) -> None:
        """Ask for a plan when the last one has been played for ``execute`` blocks."""
        with self.lock:
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
        if self._goal is not None and due:
            self._ask(stamp)

    def forgotten(self) -> None:
        """Drop the plans with the history; the goal stays, if it is a latent of this model."""
        self._playback.clear()
        self._asked = None
        if self.model_differs:
            self._goal = None

    def _ask(self, stamp: int) -> None:
        self._asked = stamp
        self._worker.request(None)

    def _work(self, request: None) -> None:
        started = time.perf_counter()
        with self.lock:
            generation, goal = self.generation, self._goal
            situation = self._situation()
            self._asked = None if situation is None else situation[0].stamp
        if situation is None or goal is None:
            self._note_fruitless()
            return
        context, committed = situation
        if self._planned_in != generation:
            self._planner.reset()
            self._planned_in = generation
        # The block begins with the frame, so the time since it was taken is spent already.
        age = (self.now() - context.stamp) / NANOSECOND
        plan = self._planner.plan(context, committed, goal, max(self._planner.budget - age, 0.0))
        message = plan_message(plan.start, plan.period, plan.actions, self.contract.action)
        with self.lock:
            if generation != self.generation:  # it belongs to a past episode
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

    def _note(self, plan: Plan, context: Context, milliseconds: float) -> None:
        now = self.now()
        self._last = plan
        self._plans += 1
        self._missed += plan.deadline_missed
        self._plan_ms.add(milliseconds)
        self._age_ms.add((now - context.stamp) * 1000 / NANOSECOND)
        late = now > plan.start
        self._late += late
        self._fruitless_since = None
        self.conditions.set('context', None)
        self.conditions.set(
            'late',
            f'the last plan was published {(now - plan.start) / NANOSECOND:.3f} s after its '
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


def main() -> int:
    """Run the node as a program."""
    return main_of('planner_node')
