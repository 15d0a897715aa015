# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Plan from one image of a robot at rest to a goal image, and print the commands.

``python examples/plan_from_image.py start.png goal.png --bundle reacher``; both images show the
whole camera view.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

import cv2
import numpy as np

import lewm_ros
from lewm_ros.errors import LewmError
from lewm_ros.planning import Plan
from lewm_ros.time import NS_PER_S

FRAMES = 100  #: largest number of frames to wait for a plan


def plan(start: np.ndarray, goal: np.ndarray, bundle: str, preset: str) -> Plan:
    """Plan between two images (H, W, 3) uint8 RGB.

    The model reads several frames and the commands between them. The robot is at rest, so all
    frames are the same, and the commands are stop commands.
    """
    policy = lewm_ros.Policy.load(bundle, preset=preset)
    policy.set_goal(goal)
    for frame in range(FRAMES):
        stamp = NS_PER_S + frame * NS_PER_S // 20
        if (plan := policy.observe(start, stamp)) is not None:
            return plan
        policy.command(stamp)
    raise LewmError(f'no plan after {FRAMES} frames at 20 Hz: does the model take that rate?')


def read(path: str) -> np.ndarray:
    """Read an image file as RGB (H, W, 3) uint8."""
    image = cv2.imread(path)
    if image is None:
        raise LewmError(f'image {path}: cannot be read; expected a PNG or JPEG')
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description='Plan from one image to another.')
    parser.add_argument('start', help='image of the robot as it stands')
    parser.add_argument('goal', help='image of the goal')
    parser.add_argument('--bundle', default='reacher', help='folder or name (default reacher)')
    parser.add_argument('--preset', default='live', help='of the planner (default live)')
    args = parser.parse_args(argv)
    try:
        found = plan(read(args.start), read(args.goal), args.bundle, args.preset)
    except LewmError as error:
        parser.error(str(error))
    print(f'cost {found.cost:.3f} after {found.rollouts} rollouts; commands, one a control tick:')
    print(np.array2string(found.actions, precision=2, suppress_small=True))
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
