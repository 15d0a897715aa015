# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Does anything grow, slow down or fail while the simulated arm runs for a long time?

.venv/bin/python benchmarks/soak.py [--minutes 30] [--task reacher] [--goal-seconds 6]

Simulator and plan group run with one process for each node, and goals follow one another.
Memory is what a process holds for itself (anonymous resident pages), sampled once a second. Its
growth and the command rate are measured after a warm-up of a fifth of the time, at most five
minutes. One JSON line; status 1 where a bound is broken, named on stderr.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
import json
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
import numpy as np
import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from lewm_ros.bringup.groups import Bringup, prepare_environment
from lewm_ros.files import find
from lewm_ros.nodes.base import NEWEST, STREAM
from lewm_ros.nodes.messages import message_class
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import TASKS
from lewm_ros.sim.task import Judge

#: Bounds: growth of each process [MB/h], command rate of the slowest minute (of the contract's),
#: late plans (of all).
GROWTH, RATE, LATE = 10.0, 0.99, 0.001
#: Reported as they stand at the end.
COUNTERS = {
    'sim_node': ('frames', 're_anchors'),
    'encoder_node': ('frames', 'bad_frames', 'skipped'),
    'planner_node': ('plans', 'late_plans', 'deadline_missed', 'plan_ms_p95', 'plan_age_ms_p95'),
    'controller_node': ('ticks', 'ticks_on_time', 'clipped', 'stale_stops', 'plan_ends'),
    'surprise_node': ('scores', 'dropped', 'events'),
}


class Listener(Node):
    """Sets goals, and notes commands, diagnostics and the memory of the processes."""

    def __init__(self, judge: Judge, contract: Contract, goal_seconds: float) -> None:
        super().__init__('soak', namespace='lewm')
        self.commands: list[float] = []
        self.figures: dict[str, dict[str, str]] = {}
        self.said: dict[str, int] = {}
        self.errors = 0
        self.goals = 0
        self._judge = judge
        self._pose = np.empty(0)
        self._rng = np.random.default_rng(0)
        self._goal = self.create_publisher(Float64MultiArray, 'sim/goal', STREAM)
        action = contract.action
        self.create_subscription(
            message_class(action.type),
            action.topic,
            lambda _: self.commands.append(time.monotonic()),
            NEWEST,
        )
        assert contract.state is not None  # noqa: S101 - as of every task
        self.create_subscription(JointState, contract.state.topic, self._on_state, NEWEST)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_diagnostics, STREAM)
        self.create_timer(goal_seconds, self._set_goal)

    @property
    def active(self) -> set[str]:
        """Nodes that say that they are active."""
        return {n for n, f in self.figures.items() if f.get('lifecycle') == 'active'}

    def _on_state(self, message: JointState) -> None:
        self._pose = np.array(message.position)

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            name = status.name.rpartition('/')[2]
            self.figures[name] = {v.key: v.value for v in status.values}
            if status.level != DiagnosticStatus.OK:
                said = f'{name}: {status.message}'
                self.said[said] = self.said.get(said, 0) + 1
            self.errors += status.level == DiagnosticStatus.ERROR

    def _set_goal(self) -> None:
        if self._pose.size:
            goal = self._judge.goal_near(self._pose, self._rng)
            self._goal.publish(Float64MultiArray(data=goal.tolist()))
            self.goals += 1


@contextmanager
def running(commands: dict[str, list[str]]) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Run the nodes, and end them whatever happens."""
    processes = {name: subprocess.Popen(command) for name, command in commands.items()}
    try:
        yield processes
    finally:
        for process in reversed(processes.values()):
            process.send_signal(signal.SIGINT)
        stuck = []
        for name, process in processes.items():
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                stuck.append(name)
                print(f'soak: {name} did not end within 20 s: killed', file=sys.stderr)
    if stuck:
        raise SystemExit(1)


def memory(pid: int) -> float:
    """Anonymous resident memory of a process [MB]."""
    lines = Path(f'/proc/{pid}/status').read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith('RssAnon'))) / 1024


def measure(args: argparse.Namespace) -> dict[str, Any]:
    """Run everything for the time asked for, and return the figures."""
    seconds = 60 * args.minutes
    warm_up = min(300.0, seconds / 5)
    task = TASKS[args.task]
    contract = Contract.load(find('contract', task.contract))
    bringup = Bringup.of('demo', task=args.task)
    commands = bringup.commands('lewm', 'warn')
    del commands['trial_node']
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    with running(commands) as processes:
        rclpy.init()
        listener = Listener(task.judge(), contract, args.goal_seconds)
        executor = SingleThreadedExecutor()
        executor.add_node(listener)
        patience = time.monotonic() + 60
        while listener.active < set(commands):
            executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > patience:
                raise SystemExit(f'not active: {sorted(set(commands) - listener.active)}')
        began = sampled = time.monotonic()
        listener.commands.clear()
        listener.said.clear()
        listener.errors = 0
        while (now := time.monotonic()) < began + seconds:
            executor.spin_once(timeout_sec=0.1)
            if now >= sampled + 1.0:
                sampled = now
                ended = [n for n, p in processes.items() if p.poll() is not None]
                if ended:
                    raise SystemExit(f'ended by itself: {ended}')
                for name, process in processes.items():
                    samples[name].append((now - began, memory(process.pid)))
        rclpy.shutdown()
    steady = {n: np.array([s for s in v if s[0] >= warm_up]) for n, v in samples.items()}
    figures = listener.figures
    return {
        'minutes': args.minutes,
        'task': args.task,
        'goals': listener.goals,
        **rates(np.array(listener.commands) - began, warm_up, contract.rates.control),
        'memory_mb': {n: round(float(v[-1, 1]), 1) for n, v in steady.items()},
        'growth_mb_h': {
            n: round(3600 * float(np.polyfit(v[:, 0], v[:, 1], 1)[0]), 2) for n, v in steady.items()
        },
        'callback_errors': sum(int(f.get('callback_errors', 0)) for f in figures.values()),
        'error_reports': listener.errors,
        'said': listener.said,
        **{f'{n}.{k}': figures[n].get(k) for n, keys in COUNTERS.items() for k in keys},
    }


def rates(times: np.ndarray, warm_up: float, wanted: float) -> dict[str, Any]:
    """Command rate over all and of the slowest and fastest minute; the longest pause."""
    times = times[times >= warm_up]
    width = min(60.0, (times[-1] - times[0]) / 2)
    edges = np.arange(times[0], times[-1] - width, width)
    # By the commands' own times: how many fall into a minute depends on where it begins.
    minutes = [times[(times >= e) & (times < e + width)] for e in edges]
    each = [(len(m) - 1) / (m[-1] - m[0]) for m in minutes]
    return {
        'command_rate_hz': round((len(times) - 1) / (times[-1] - times[0]), 4),
        'command_rate_hz_wanted': wanted,
        'command_rate_hz_minutes': [round(min(each), 4), round(max(each), 4)],
        'longest_pause_s': round(float(np.diff(times).max()), 4),
    }


def broken(figures: dict[str, Any]) -> list[str]:
    """Name the bounds that do not hold."""
    found = [
        f'{name} grows by {slope} MB/h, more than {GROWTH}'
        for name, slope in figures['growth_mb_h'].items()
        if slope > GROWTH
    ]
    slowest, wanted = figures['command_rate_hz_minutes'][0], figures['command_rate_hz_wanted']
    if slowest < RATE * wanted:
        found.append(f'{slowest} commands per second in one minute, fewer than {RATE * wanted}')
    late, plans = (int(figures[f'planner_node.{k}']) for k in ('late_plans', 'plans'))
    if late > LATE * plans:
        found.append(f'{late} of {plans} plans were late, more than {LATE:.1%}')
    for key in ('callback_errors', 'error_reports'):
        if figures[key]:
            found.append(f'{key}: {figures[key]}, not 0')
    return found


def main() -> int:
    """Parse the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--minutes', type=float, default=30.0, help='how long [min]')
    parser.add_argument('--task', default='reacher', choices=TASKS, help='simulated task')
    parser.add_argument('--goal-seconds', type=float, default=6.0, help='between goals [s]')
    args = parser.parse_args()
    prepare_environment('demo')
    figures = measure(args)
    print(json.dumps(figures))
    found = broken(figures)
    for text in found:
        print(f'soak: {text}', file=sys.stderr)
    return int(bool(found))


if __name__ == '__main__':
    sys.exit(main())
