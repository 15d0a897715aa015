# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""trial_node: sets goals, perturbs the simulation, evaluates the nodes and writes the report.

The course of a trial is a generator: each ``yield`` waits for the next tick of the node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
import traceback
from typing import Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
from rclpy.client import Client
from std_msgs.msg import Float64MultiArray, String
from trajectory_msgs.msg import JointTrajectory

from lewm_ros.errors import ConfigError, LewmError
from lewm_ros.evaluation.report import (
    GoalResult,
    describe,
    prepare_report,
    write_report,
)
from lewm_ros.nodes.base import NEWEST, STREAM
from lewm_ros.nodes.messages import plan_message
from lewm_ros.nodes.parameters import Parameter
from lewm_ros.nodes.trial_listener import TrialListener
from lewm_ros.sim import NAMES
from lewm_ros.time import NS_PER_S

TICK = 0.02  #: [s]
READY_TIMEOUT = 60.0  #: for frames, surprise and diagnostics to arrive [s]
EVENT_PATIENCE = 5.0  #: for an open event to end before the next teleport [s]
FILMED = 2.5  #: a goal that took longer is far [s]
SETTLE = 2.0  #: for surprise to settle after a change of the driving policy [s]


class TrialNode(TrialListener):
    """Runs the planner on random goals, then a random policy, then teleports."""

    PARAMETERS = (
        Parameter('task', 'reacher', f'Simulated task that is tried: {NAMES}.'),
        Parameter('goals', 20, 'Goals for the planner.', low=0, high=10_000),
        Parameter('random_goals', 20, 'Goals for the random policy.', low=0, high=10_000),
        Parameter('teleports', 20, 'Teleports while the planner drives.', low=0, high=10_000),
        Parameter('goal_seconds', 0.0, "Time for each goal [s]; 0: the task's.", 0.0, 600.0),
        Parameter('far', 0.0, "Greatest distance of a goal [task's unit]; 0: any.", 0.0, 1e3),
        Parameter(
            'nominal_seconds',
            0.0,
            'Extra time of undisturbed driving to count false alarms in [s].',
            low=0.0,
            high=1e6,
        ),
        Parameter('out', '.demo', 'Folder for summary.json, summary.png and film.gif.'),
        Parameter('seed', 0, 'Seed of goals and of the random policy.', low=0, high=2**31 - 1),
    )

    def configure(self) -> None:
        """Read the contract; a trial judges a simulated task by its true state."""
        super().configure()
        self._goal_seconds = self.params['goal_seconds'] or self._task.goal_seconds
        prepare_report(Path(self.params['out']))  # what is missing is said now, not at the end
        self._goal_topic = self.publisher(Float64MultiArray, 'sim/goal', STREAM)
        self._perturb = self.publisher(String, 'sim/perturb', STREAM)
        self._plan = self.publisher(JointTrajectory, 'plan', NEWEST)

    def activate(self) -> None:
        """Listen to everything and begin."""
        self._planner: Client = self.create_client(ChangeState, 'planner_node/change_state')
        super().activate()
        self._rng = np.random.default_rng(self.params['seed'])
        self._random_until = 0  # end of the last random plan [ns]
        self._course = self._trial()
        self.every(TICK, self._advance)

    def deactivate(self) -> None:
        """Release the client of the planner's service."""
        self.destroy_client(self._planner)

    def report(self) -> dict[str, Any]:
        """Progress of the trial."""
        return {
            'goals': len(self.record.goals),
            'random_goals': len(self.record.random_goals),
            'teleports': len(self.record.teleports),
        }

    # The course

    def _advance(self) -> None:
        try:
            next(self._course)
        except StopIteration:
            self.finish(0)
        except (LewmError, OSError) as error:
            self.get_logger().error(str(error))
            self.finish(2)
        except Exception:
            self.get_logger().error(traceback.format_exc())
            self.finish(2)

    def _trial(self) -> Iterator[None]:
        params, record = self.params, self.record
        yield from self.until(self.missing, READY_TIMEOUT)
        yield from self._nominal(params['goals'], params['nominal_seconds'])
        if params['random_goals']:
            yield from self._change_planner(Transition.TRANSITION_DEACTIVATE)
            for number in range(params['random_goals']):
                yield from self._reach(drive=self._drive_at_random)
                self.print_result('random', number, params['random_goals'], record.random_goals[-1])
            yield from self._change_planner(Transition.TRANSITION_ACTIVATE)
        if params['teleports']:
            yield from self.wait(SETTLE)
            yield from self._teleports(params['teleports'])
        summary = write_report(Path(params['out']), record)
        print('\n'.join(['', *describe(summary), f'report in {params["out"]}/']), flush=True)

    def _nominal(self, goals: int, extra: float) -> Iterator[None]:
        """Goals, then extra time, all undisturbed: success, command stream, false alarms."""
        record = self.record
        yield from self.wait(SETTLE)
        began, before, events = self.now(), self.counters(), len(self._events)
        self._planner_drives = True
        for number in range(goals):
            # The film shows the first far goal reached; until then each goal replaces it.
            self._filming = not any((g.seconds or 0) >= FILMED for g in record.goals)
            if self._filming:
                record.film.clear()
            yield from self._reach()
            if self._filming:
                self._filming = False
                record.goal_image = self._goal_image
            self.print_result('goal', number, goals, record.goals[-1])
        until = self.now() + round(extra * NS_PER_S)
        done = len(record.goals)
        while self.now() < until:
            yield from self._reach()
            print(
                f'nominal: {(until - self.now()) / NS_PER_S:.0f} s to go, '
                f'{len(self._events) - events} events',
                flush=True,
            )
        del record.goals[done:]  # the extra time counts false alarms, not successes
        yield from self.wait(1.2)  # for the diagnostics of the last second
        self._planner_drives = False
        after = self.counters()
        record.ticks = after['ticks'] - before['ticks']
        record.ticks_on_time = after['ticks_on_time'] - before['ticks_on_time']
        record.late_plans = after['late_plans'] - before['late_plans']
        record.nominal_seconds = (self.now() - began) / NS_PER_S
        record.nominal_events = len(self._events) - events
        if goals or extra:
            record.plan_figures = {
                key: float(self._figures['planner_node'][key])
                for key in ('plan_ms_p50', 'plan_ms_p95')
            }

    def _reach(self, drive: Callable[[], None] | None = None) -> Iterator[None]:
        """Set one goal and wait for its full time; success latches at any state received."""
        results = self.record.goals if drive is None else self.record.random_goals
        goal = self._set_goal()
        began = self.now()
        while self.now() < began + round(self._goal_seconds * NS_PER_S):
            if drive is not None:
                drive()
            yield
        error = self._judge.pose_errors(self._pose, goal)
        seconds = None if self._reached_at is None else (self._reached_at - began) / NS_PER_S
        results.append(
            GoalResult(
                seconds is not None,
                seconds,
                self._judge.achieves(self._pose, goal),
                error.tolist(),
            )
        )

    def _set_goal(self) -> np.ndarray:
        far = self.params['far'] or float('inf')
        goal = self._judge.goal_near(self._pose, self._rng, far)
        self._reached_at = None
        self._goal = goal
        self._goal_topic.publish(Float64MultiArray(data=goal.tolist()))
        return goal

    def _drive_at_random(self) -> None:
        """Uniform commands for every control period, as the paper's random policy.

        The controller interpolates if its ticks differ from the plan's.
        """
        period = round(self._contract.period * NS_PER_S)
        now = self.now()
        if now < self._random_until - 5 * period:  # early enough for the line not to break
            return
        start = max(now, self._random_until)
        low, high = self._contract.action.bounds
        actions = self._rng.uniform(low, high, (20, self._contract.action.size))
        self._plan.publish(plan_message(start, period, actions, self._contract.action))
        self._random_until = start + len(actions) * period

    def _teleports(self, count: int) -> Iterator[None]:
        """Teleports at random moments while the planner drives to one goal after another."""
        for number in range(count):
            self._set_goal()
            yield from self.wait(self._rng.uniform(1.5, 3.0))
            # A new event can only open after the last one ended; one that never does counts
            # against surprise.
            patience = self.now() + round(EVENT_PATIENCE * NS_PER_S)
            while self._anomalies and self.now() < patience:
                yield
            self._perturbed.clear()
            self._perturb.publish(String(data='teleport'))
            yield from self.until(
                lambda: None if self._perturbed else 'the simulator did not teleport', 5.0
            )
            stamp = self._perturbed[0]
            yield from self.wait(1.5)
            result = self.judge_teleport(stamp)
            self.record.teleports.append(result)
            shown = (
                'no event' if result.delay_ms is None else f'event after {result.delay_ms:.0f} ms'
            )
            print(
                f'teleport {number + 1}/{count}: surprise {result.before:.1f} before, '
                f'{result.after:.1f} after, {shown}',
                flush=True,
            )

    def _change_planner(self, transition: int) -> Iterator[None]:
        request = ChangeState.Request(transition=Transition(id=transition))
        future = self._planner.call_async(request)
        yield from self.until(
            lambda: None if future.done() else 'planner_node does not answer change_state', 10.0
        )
        answer = future.result()
        if answer is None or not answer.success:
            raise ConfigError('planner_node refused to change its lifecycle state')
