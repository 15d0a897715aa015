# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""planner_node: latents and a goal latent in, stamped plans out; never a command."""

from __future__ import annotations

import os
from threading import Lock
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
from sensor_msgs.msg import Image
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.api import make_goal, make_planner
from lewm_ros.engines import describe
from lewm_ros.nodes.base import LATCHED, NEWEST
from lewm_ros.nodes.diagnostics import OK
from lewm_ros.nodes.figures import Rate, Recent
from lewm_ros.nodes.goals import goal_message, late_text, roadmap_text, timeout_text
from lewm_ros.nodes.messages import (
    header,
    plan_message,
    stamp_of,
    vector,
    vector_message,
)
from lewm_ros.nodes.observer import ENGINE, PRECISION, ObserverNode
from lewm_ros.nodes.parameters import Parameter, parameters_of
from lewm_ros.nodes.peers import ONE_NODE
from lewm_ros.planning import Plan, PlannerConfig
from lewm_ros.planning.config import GoalConfig
from lewm_ros.planning.goal import GoalState
from lewm_ros.planning.policy import PlanningAgent, PlanRequest
from lewm_ros.robot.history import Context, History
from lewm_ros.robot.settings import from_values
from lewm_ros.time import NS_PER_S

#: The node warns about a missing goal or usable context after this time [s].
MISSING_AFTER = 2.0
#: How often it is checked whether a goal's time is over [s].
GOAL_PERIOD = 0.1


class PlannerNode(ObserverNode):
    """Plans on a worker whenever enough of the last plan has been executed, or the goal changes.

    Planning continues to hold a reached goal. After a timeout, or an empty goal latent, it stops
    until another goal arrives.
    """

    PARAMETERS = (
        *ENGINE,
        PRECISION,
        Parameter('threads', 0, 'Threads of a rollout; 0: all cores but one.', 0, 256),
        *parameters_of(PlannerConfig),
        *parameters_of(GoalConfig),
    )

    def configure(self) -> None:
        """Build the planner and run rollouts of every size once: first calls are slow."""
        self._config = from_values(PlannerConfig, self.params)
        super().configure()
        self._planner = make_planner(self.bundle, self.contract, self.engine, self._config)
        self._planner.warm_up()
        self._plan = self.publisher(JointTrajectory, 'plan', NEWEST, alone=ONE_NODE)
        self._latents = self.publisher(Image, 'plan/latents', NEWEST)
        self._goal_status = self.publisher(DiagnosticArray, 'goal_status', LATCHED)
        self._status_lock = Lock()

    def activate(self) -> None:
        """Wait for a goal and for enough frames."""
        goal = make_goal(self.bundle, from_values(GoalConfig, self.params))
        self._agent = PlanningAgent(self.bundle.spec, self.contract, self._planner, goal)
        self._agent.config = from_values(PlannerConfig, self.params)
        self._activated = time.monotonic()
        self._fruitless_since: float | None = None
        self._plans = self._late = self._missed = self._windows_missing = 0
        self._last: Plan | None = None
        self._plan_ms, self._age_ms, self._plan_rate = Recent(), Recent(), Rate()
        self._worker = self.worker('planner', self._work)
        super().activate()
        self.subscribe(Image, 'goal_latent', self._on_goal, LATCHED)
        self.subscribe_to_pose(self.contract, self._on_pose)
        self._publish_goal_status()
        self.every(GOAL_PERIOD, self._check_goal)

    def make_history(self) -> History:
        """Return the agent's history."""
        return self._agent.history

    def _on_pose(self, pose: np.ndarray) -> None:
        if np.isfinite(pose).all():
            with self.lock:
                self._agent.pose = pose

    def deactivate(self) -> None:
        """Publish that there is no active goal."""
        self._drop_goal()

    def check(self, values: dict[str, Any]) -> None:
        """Reject settings that do not make a valid search."""
        from_values(PlannerConfig, values)

    def changed(self) -> None:
        """Search with the new settings from the next plan on."""
        with self.lock:
            self._agent.config = from_values(PlannerConfig, self.params)
            self._agent.goal.config = from_values(GoalConfig, self.params)

    def cleanup(self) -> None:
        """Drop the planner too: it holds the engine."""
        super().cleanup()
        self.release('_planner', '_agent', '_last')

    def report(self) -> dict[str, Any]:
        """Figures of the planner."""
        last, goal, outlook = self._last, self._agent.goal, self._agent.outlook
        return {
            'plans': self._plans,
            'plans_hz': self._plan_rate.hz,
            'plan_ms_last': self._plan_ms.last,
            **self._plan_ms.percentiles('plan_ms', 50, 95, 99),
            **self._age_ms.percentiles('plan_age_ms', 95),
            'late_plans': self._late,
            'deadline_missed': self._missed,
            'skipped': self._worker.skipped,
            'windows_missing': self._windows_missing,
            'goal': goal.state.value,
            'goal_distance': goal.distance,
            'time_to_goal': float('nan') if outlook is None else outlook.time_to_goal,
            'plan_cost': float('nan') if last is None else last.cost,
            'rollouts': 0 if last is None else last.rollouts,
            'warm': last is not None and last.warm,
            'engine': describe(self.engine),
            **super().report(),
        }

    def engine_options(self) -> dict[str, Any]:
        """Use all cores but one by default, and rollouts only as long as planning needs."""
        return {
            'threads': self.params['threads'] or max(len(os.sched_getaffinity(0)) - 1, 1),
            'precision': self.params['precision'],
            'horizon': self._config.rollout_blocks(self.bundle.spec),
        }

    def _on_goal(self, message: Image, received: int) -> None:
        stamp = stamp_of(message) or received
        if not message.width:
            with self.lock:
                goal = self._agent.goal
                # The encoder's answer to a timeout has the stamp of the goal.
                answer = goal.state is GoalState.TIMEOUT and goal.stamp == stamp
                if goal.state is not GoalState.NONE and not answer:
                    self._drop_goal()
            return
        if self.model_differs:
            return
        latent = vector(message, self.bundle.manifest.latent_size)
        with self.lock:
            due = self._agent.set_goal(latent, stamp, time.monotonic()) and self._agent.ask()
        self._publish_goal_status()
        if due:
            self._worker.request(None)

    def observed(self, stamp: int, latent: np.ndarray) -> None:
        """Ask for a plan where one is due."""
        with self.lock:
            changed = self._agent.observe(stamp, latent, time.monotonic())
            due = self._agent.ask()
        if changed:
            self._publish_goal_status()
        if due:
            self._worker.request(None)

    def forgotten(self) -> None:
        """Drop the plans with the history; the goal stays, if it is a latent of this model."""
        self._agent.reset()
        if self.model_differs:
            self._drop_goal()

    def _drop_goal(self) -> None:
        self._agent.goal.clear()
        self._forget_problems()
        self._publish_goal_status()

    def _work(self, item: None) -> None:
        started, agent = time.perf_counter(), self._agent
        with self.lock:
            request, pursued = agent.prepare(self.now()), agent.goal.pursued
        if request is None:
            if pursued is not None:
                self._note_fruitless()
            return
        plan = agent.search(request)
        message = plan_message(plan.start, plan.period, plan.actions, self.contract.action)
        with self.lock:
            if not agent.commit(plan, request, self.now(), time.monotonic()):
                return
            self._plan.publish(message)  # before a new episode can be taken in
        self._note(plan, request.context, 1000 * (time.perf_counter() - started))
        if self._latents.get_subscription_count():
            self._publish_latents(request, plan)

    def _publish_latents(self, request: PlanRequest, plan: Plan) -> None:
        """Publish the plan's predicted latents: now, after each block, and the goal."""
        context = request.context
        ahead = self._planner.foresee(context, request.committed, plan)
        rows = np.concatenate([context.latents[-1:], ahead, request.goal[None]])
        self._latents.publish(vector_message(rows, header(context.stamp)))

    def _check_goal(self) -> None:
        """Time the goal out if its time is over; report if there is no goal."""
        now = time.monotonic()
        with self.lock:
            expired = self._agent.goal.expire(now)
            state, lacking = self._agent.goal.state, now - self._activated
        text = None
        if state is GoalState.NONE and lacking > MISSING_AFTER:
            topic = self.resolve_topic_name('goal_latent')
            text = f'no goal on {topic} (publishers: {self.count_publishers(topic)})'
        self.conditions.set('goal', text, OK)  # a robot without a goal stands still on purpose
        if expired:
            self._forget_problems()
            self._publish_goal_status()

    def _forget_problems(self) -> None:
        """Drop what planning lacked: it does not matter without a goal."""
        self._fruitless_since = None
        self.conditions.set('context', None)
        self.conditions.set('late', None)

    def _publish_goal_status(self) -> None:
        goal = self._agent.goal
        with self._status_lock:  # two threads publish: the newest state must come last
            outlook = self._agent.outlook
            self.conditions.set('goal timeout', timeout_text(goal))
            self.conditions.set('roadmap', roadmap_text(outlook))
            self._goal_status.publish(goal_message(goal, outlook, self.contract.name, self.now()))

    def _note(self, plan: Plan, context: Context, milliseconds: float) -> None:
        now = self.now()
        self._last = plan
        self._plans += 1
        self._plan_rate.add()
        self._missed += plan.deadline_missed
        self._plan_ms.add(milliseconds)
        self._age_ms.add((now - context.stamp) * 1000 / NS_PER_S)
        due = plan.start - self.contract.action.delay_ns
        self._late += now > due
        self._fruitless_since = None
        if plan.outlook is not None:
            self._publish_goal_status()
        self.conditions.set('context', None)
        began = now - round(milliseconds * 1e6)
        self.conditions.set('late', late_text(due, context.stamp, began, now, self._config.policy))

    def _note_fruitless(self) -> None:
        self._windows_missing += 1
        now = time.monotonic()
        if self._fruitless_since is None:
            self._fruitless_since = now
        elif now - self._fruitless_since > MISSING_AFTER:
            manifest = self.bundle.manifest
            self.conditions.set(
                'context',
                f'no plan for {now - self._fruitless_since:.0f} s: needs {manifest.history} frames '
                f'{self.bundle.block:g} s apart and, since the first of them, the commands on '
                f'{self.resolve_topic_name(self.contract.action.applied.topic)}',
            )
