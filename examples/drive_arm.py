# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Drive the simulated arm to a goal image, without ROS.

``python examples/drive_arm.py --seconds 6`` prints how far the joints are from the goal.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import numpy as np

import lewm_ros
from lewm_ros.sim import make_task
from lewm_ros.time import NS_PER_S

RATE = 20  #: of the camera and of the commands [Hz]


def drive(seconds: float, seed: int) -> np.ndarray:
    """Drive for some time [s]; return the largest joint error [rad] at each frame."""
    task = make_task('reacher', image_size=64, seed=seed)
    try:
        policy = lewm_ros.Policy.load('reacher')
        policy.set_goal(task.set_goal(task.sample_goal()))
        steps = round(1 / RATE / task.timestep)
        errors = []
        for frame in range(round(seconds * RATE)):
            # On a robot: the camera's stamp, the time now, and clock=time.monotonic for the policy.
            now = NS_PER_S + frame * NS_PER_S // RATE
            policy.observe(task.render(), now)
            command = policy.command(now)
            task.step(command, steps)
            errors.append(task.errors(task.goal).max())
    finally:
        task.close()
    return np.array(errors)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description='Drive the simulated arm to a goal image.')
    parser.add_argument('--seconds', type=float, default=6.0, help='[s] (default 6)')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    errors = drive(args.seconds, args.seed)
    for second, error in enumerate(errors[::RATE]):
        print(f'{second} s: largest error {error:.2f} rad')
    print(f'nearest: {errors.min():.2f} rad')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
