# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Does surprise_node keep up, and how soon does it detect a frozen camera?

.venv/bin/python benchmarks/surprise.py [--rate 30] [--seconds 60] [--evidence] [--json]
.venv/bin/python benchmarks/surprise.py --frozen BAG... [--json]

The first runs simulator, encoder, planner, surprise and controller in one process (as `lewm up
demo` does), a new goal every 6 s and a teleport 3 s later, and reports surprise_node's own
figures: from latent to score, and from the stamp of the frame to the score. With ``--evidence``
every event is written to a bag meanwhile. The second freezes the image of recorded episodes at
random frames while the recorded commands continue, and reports how long the monitor takes.
"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

NODES = ('sim_node', 'encoder_node', 'planner_node', 'surprise_node', 'controller_node')
#: Seconds from a goal to the next, and to the teleport between.
GOAL, TELEPORT = 6.0, 3.0
#: What is reported of surprise_node's diagnostics.
FIGURES = (
    'score_ms_p50',
    'score_ms_p95',
    'score_age_ms_p50',
    'score_age_ms_p95',
    'scores',
    'dropped',
    'windows_missing',
    'events: surprise',
    'evidence_written',
    'evidence_skipped',
    'engine',
)


def live(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Run the nodes, drive the goals, return surprise_node's figures."""
    os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    import rclpy

    parameters = {'bundle': args.bundle, 'camera_rate': float(args.rate)}
    if args.evidence:
        parameters |= {'evidence_folder': str(folder / 'evidence'), 'evidence_per_hour': 3600}
    given = [part for k, v in parameters.items() for part in ('-p', f'{k}:={v}')]
    ros = ['--ros-args', '-r', '__ns:=/lewm', '-r', 'encoder_node:image:=camera/image', *given]
    command = [sys.executable, '-m', 'lewm_ros.bringup.compose', *NODES, *ros]
    process = subprocess.Popen(command)
    rclpy.init()
    try:
        return drive(rclpy.create_node('benchmark', namespace='lewm'), args.seconds)
    finally:
        rclpy.shutdown()
        process.send_signal(signal.SIGINT)
        process.wait(30)


def drive(node: Any, seconds: float) -> dict[str, Any]:
    """Set goals and teleport for so long [s]; return the last figures."""
    from diagnostic_msgs.msg import DiagnosticArray
    import rclpy
    from std_msgs.msg import Float64MultiArray, String

    heard: dict[str, dict[str, str]] = {}

    def on_diagnostics(message: DiagnosticArray) -> None:
        for status in message.status:
            heard[status.name] = {v.key: v.value for v in status.values}

    node.create_subscription(DiagnosticArray, '/diagnostics', on_diagnostics, 10)
    goals = node.create_publisher(Float64MultiArray, 'sim/goal', 10)
    perturbations = node.create_publisher(String, 'sim/perturb', 10)
    rng = np.random.default_rng(0)
    began: float | None = None
    goal_at = teleport_at = 0.0
    while began is None or time.monotonic() - began < seconds:
        rclpy.spin_once(node, timeout_sec=0.1)
        active = sum(f.get('lifecycle') == 'active' for f in heard.values())
        if began is None:
            if active < len(NODES):
                continue
            began = goal_at = time.monotonic()
            teleport_at = began + TELEPORT
        if time.monotonic() >= goal_at:
            goals.publish(Float64MultiArray(data=rng.uniform(-np.pi, np.pi, 2).tolist()))
            goal_at += GOAL
        if time.monotonic() >= teleport_at:
            perturbations.publish(String(data='teleport'))
            teleport_at += GOAL
    surprise, camera = heard['lewm/surprise_node'], heard['lewm/sim_node']
    found = {key: surprise[key] for key in FIGURES if key in surprise}
    return {
        'frames': camera['frames'],
        **found,
        'late_plans': heard['lewm/planner_node']['late_plans'],
        'ticks_on_time': heard['lewm/controller_node']['ticks_on_time'],
        'ticks': heard['lewm/controller_node']['ticks'],
    }


def frozen(args: argparse.Namespace) -> dict[str, Any]:
    """Freeze recorded episodes at random frames; how long the monitor takes, and false alarms."""
    from lewm_ros.bags.episodes import read_episodes
    from lewm_ros.bundle import Bundle
    from lewm_ros.files import find
    from lewm_ros.robot.history import block_actions
    from lewm_ros.surprise.config import SurpriseConfig
    from lewm_ros.surprise.monitors import FrozenCamera, commands_move
    from lewm_ros.time import NS_PER_S

    bundle = Bundle.load(find('bundle', args.bundle))
    std, kind = np.array(bundle.manifest.action_std), bundle.contract.action.kind
    block, parts = round(bundle.block * NS_PER_S), bundle.manifest.frameskip
    rng = np.random.default_rng(0)
    delays, longest = [], 0.0
    for episode in read_episodes(args.frozen, bundle.contract, bundle.manifest.image_size):
        stamps = episode.stamps
        since = np.stack([stamps - block, stamps], axis=1)
        blocks = block_actions(episode.action_stamps, episode.actions, since, parts)
        commands = blocks.reshape(len(stamps), parts, -1)
        moving = [commands_move(c, std, kind) for c in commands]
        images = episode.images.reshape(len(stamps), -1)
        watch = FrozenCamera(SurpriseConfig.frozen_seconds)
        seen = [watch.update(int(s), z, m) for s, z, m in zip(stamps, images, moving)]
        longest = max(longest, *seen)
        for start in rng.integers(len(stamps) // 10, len(stamps) * 8 // 10, args.times):
            watch = FrozenCamera(SurpriseConfig.frozen_seconds)
            delay = float('inf')
            for index in range(start, len(stamps)):
                if (
                    watch.update(int(stamps[index]), images[start], moving[index])
                    > SurpriseConfig.frozen_seconds
                ):
                    delay = (stamps[index] - stamps[start]) / NS_PER_S
                    break
            delays.append(delay)
    return {
        'freezes': len(delays),
        'within_1_s': float(np.mean(np.array(delays) <= 1.0)),
        **{f'delay_s_p{p}': float(np.percentile(delays, p)) for p in (50, 95, 100)},
        'nominal_seconds_longest': longest,
        'limit_s': SurpriseConfig.frozen_seconds,
    }


def main() -> int:
    """Parse the command line and report."""
    parser = argparse.ArgumentParser(description=__doc__.partition('\n')[0])
    parser.add_argument('--bundle', default='reacher', help='bundle folder or name')
    parser.add_argument('--rate', type=float, default=30.0, help='of the camera [Hz]')
    parser.add_argument('--seconds', type=float, default=60.0, help='of measuring [s]')
    parser.add_argument('--evidence', action='store_true', help='write a bag at every event')
    parser.add_argument('--frozen', nargs='+', type=Path, metavar='BAG', help='freeze these')
    parser.add_argument('--times', type=int, default=10, help='freezes in each episode')
    parser.add_argument('--json', action='store_true', help='print figures as JSON')
    args = parser.parse_args()
    if args.frozen:
        figures = frozen(args)
    else:
        with tempfile.TemporaryDirectory(prefix='lewm_surprise_') as folder:
            figures = live(args, Path(folder))
    print(json.dumps(figures) if args.json else '\n'.join(f'{k}: {v}' for k, v in figures.items()))
    return 0


if __name__ == '__main__':
    sys.exit(main())
