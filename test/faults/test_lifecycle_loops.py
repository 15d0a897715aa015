# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A lifecycle manager cycles every node of the plan group through its states, one process each.

In each round the nodes see frames and a goal, so that models, workers and histories are in use.
"""

from __future__ import annotations

from contextlib import ExitStack
import itertools

from harness import Bench
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray

from lewm_ros.bringup.groups import GROUPS
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, image_message

#: Nodes are started in this order and ended in reverse, so that the commands stop first.
ORDER = GROUPS['plan']
START = (Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
END = (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
#: Rounds in which allocators and the middleware still grow.
WARM_UP = 5
#: Allowed growth of the resident memory, for a hundred rounds and for the few of a short run, where
#: the noise of the allocators in one round shows. An engine that is not released exceeds both.
GROWTH, SHORT_GROWTH = 0.05, 0.15


class Robot:
    """A camera with a goal, and a manager of the nodes."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.cameras = [
            bench.node.create_publisher(Image, topic, 5) for topic in ('camera/image', 'image')
        ]
        goal = bench.node.create_publisher(Image, 'goal_image', LATCHED)
        self.rng = np.random.default_rng(0)
        goal.publish(self.image())

    def image(self) -> Image:
        """Return a frame that is stamped now."""
        pixels = self.rng.integers(0, 256, (64, 64, 3), np.uint8)
        return image_message(pixels, header(self.bench.now(), 'camera_optical'))

    def see(self, frames: int) -> None:
        """Publish frames at 20 Hz."""
        for _ in range(frames):
            image = self.image()
            for camera in self.cameras:
                camera.publish(image)
            self.bench.spin(0.05)

    def manage(self, transitions: tuple[int, int], nodes: tuple[str, ...]) -> None:
        """Take all nodes through two transitions; each must succeed."""
        for number, node in itertools.product(transitions, nodes):
            self.bench.change(node, number)

    def memory(self) -> list[float]:
        """Return the memory that the unconfigured nodes report [MB]."""
        figures = self.bench.figures
        for node in ORDER:
            self.bench.diagnostics.pop(f'lewm/{node}', None)
        self.bench.until(
            lambda: all(figures(n).get('lifecycle') == 'unconfigured' for n in ORDER), 'not silent'
        )
        return [float(figures(n)['memory_mb']) for n in ORDER]


@pytest.mark.timeout(900)
def test_rounds_do_not_fail_nor_grow_and_the_nodes_still_work(bench: Bench, soak: bool):
    """No transition fails, memory hardly grows, and in the end the nodes still command motion.

    Memory varies by some percent as allocators return pages, so the lowest values of the first and
    last third are compared: a leak raises those too.
    """
    rounds = 100 if soak else 9
    with ExitStack() as stack:
        processes = [
            stack.enter_context(bench.nodes(n, bundle='reacher', autostart='false')) for n in ORDER
        ]
        robot = Robot(bench)
        used = []
        for index in range(WARM_UP + rounds):
            robot.manage(START, ORDER)
            robot.see(10)
            robot.manage(END, ORDER[::-1])
            if index >= WARM_UP:
                used.append(robot.memory())
        third = rounds // 3
        first, last = np.min(used[:third], axis=0), np.min(used[-third:], axis=0)
        growth = dict(zip(ORDER, (last / first - 1).tolist(), strict=True))
        print('lowest resident memory [MB]:', first.tolist(), 'to', last.tolist())
        assert max(growth.values()) < (GROWTH if soak else SHORT_GROWTH), growth
        robot.manage(START, ORDER)
        commands = bench.listen(Float64MultiArray, 'action')
        bench.until(
            lambda: robot.see(1) or any(any(m.data) for _, m in commands), 'no command', 15.0
        )
        bench.active(*ORDER)
        robot.manage(END, ORDER[::-1])
        for process in processes:
            assert 'Traceback' not in process.output
            assert process.end() == 0
