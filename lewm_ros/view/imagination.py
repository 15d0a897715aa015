# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the model imagines, for people to see: plans and expectations, decoded and drawn."""

from __future__ import annotations

import numpy as np

from lewm_ros.bundle import Bundle
from lewm_ros.bundle.roadmap_file import read_roadmap
from lewm_ros.engines.decoder import Decoder
from lewm_ros.planning.roadmap import Field
from lewm_ros.view.strip import MOST, TALLEST, curve, difference, row


class Imagination:
    """Draws latents of a bundle's model.

    Raises LewmError where the bundle has no decoder of its model, or a roadmap of another.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.decoder = Decoder(bundle)
        self._roadmap, self._block = read_roadmap(bundle), bundle.block
        self._field: tuple[np.ndarray, Field] | None = None  # of the last goal

    def plan(self, latents: np.ndarray) -> np.ndarray:
        """Draw a plan as a film strip, (height, WIDTH, 3).

        The cost of each step is below it. With a roadmap this is the time to the goal, and a second
        row shows the path to it, by the recorded latents that it passes.

        Args:
            latents: (n, D) of now, of the end of each block of the plan, and of the goal.

        """
        goal, steps = latents[-1], latents[:-1]
        shown = _spread(len(steps), MOST - 1)
        images = self.decoder(latents[[*shown, -1]])
        labels = [f'+{i * self._block:.2f} s' if i else 'now' for i in shown]
        strip = [row(list(images), [*labels, 'goal'])]
        field = self._field_of(goal)
        if field is None:
            costs = np.square(steps - goal).sum(axis=1)
            return np.concatenate([*strip, curve(costs[shown], len(images), 'distance²')])
        times = field.value(steps)[shown]
        strip.append(curve(times, len(images), 'time to goal\n[s]'))
        way = field.path(steps[0])
        nodes = [way[i] for i in _spread(len(way), MOST - 1)]
        passed = field.roadmap.nodes[[node for node, _ in nodes]]
        passed = self.decoder(np.concatenate([passed, goal[None]]))
        labels = [f'{seconds:.2f} s left' for _, seconds in nodes]
        labels[0] = 'way: ' + labels[0].removesuffix(' left')
        return np.concatenate([*strip, row(list(passed), [*labels, 'goal'])])

    def expected(self, latents: np.ndarray, frame: np.ndarray | None, name: str = '') -> np.ndarray:
        """Draw the expected image, the observed one and their difference, (height, WIDTH, 3).

        Args:
            latents: (2, D), predicted and of the frame.
            frame: (S, S, 3) uint8 as the model sees it; None if it is not available.
            name: of what happened.

        """
        expected, seen = self.decoder(latents)
        return row(
            [expected, seen, difference(expected, seen), frame],
            [
                f'{name}: expected' if name else 'expected',
                'seen (decoded)',
                'difference',
                '' if frame is None else 'seen (camera)',
            ],
            TALLEST,
        )

    def _field_of(self, goal: np.ndarray) -> Field | None:
        if self._roadmap is None:
            return None
        if self._field is None or not np.array_equal(self._field[0], goal):
            self._field = goal, self._roadmap.field(goal)
        return self._field[1]


def _spread(count: int, most: int) -> list[int]:
    """Indices of at most ``most`` of ``count`` things, evenly, first and last among them."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).round().astype(int).tolist()))
