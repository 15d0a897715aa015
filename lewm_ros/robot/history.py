# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Stamped latents and actions, and the windows that the model reads from them.

Training and runtime share one definition of a window. It has H + 1 frames, each the nearest to a
point of a time grid with steps of one block, and at most three quarters of a camera period off it.
Between two frames, the held command is averaged over k equal parts of the interval between their
actual stamps. Stamps are int64 nanoseconds.

If no frame is missing, the nearest one may be half a period off (blocks of 0.25 s at 30 Hz); the
rest is a margin for jitter. A missing frame leaves a hole of a whole period.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np

from lewm_ros.robot.contract import Action
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.time import NS_PER_S

#: Longest camera period, in blocks, at which windows have one frame for each block.
SLOWEST = 1.05


def nearest(stamps: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the indices of the stamps (n ≥ 1,) int64, ascending, nearest to the wanted times.

    Of two equally near stamps, the earlier one is taken. The result has the shape of ``wanted``.
    """
    right = np.minimum(np.searchsorted(stamps, wanted), len(stamps) - 1)
    left = np.maximum(right - 1, 0)
    earlier = np.abs(stamps[left] - wanted) <= np.abs(stamps[right] - wanted)
    return np.where(earlier, left, right)


def on_grid(off: np.ndarray, period: float) -> np.ndarray:
    """Whether frames that are ``off`` a point of the grid (...) are its frames, for the period."""
    return 4 * np.abs(off) <= 3 * period


def frame_period(stamps: np.ndarray) -> float:
    """Return the median time between frames (n,) [ns]; 0 for fewer than two."""
    return float(np.median(np.diff(stamps))) if len(stamps) > 1 else 0.0


def frames_in(seconds: float, stamps: np.ndarray) -> int:
    """Return how many frames a time [s] spans, at least 1, for frame stamps (n ≥ 2,) [ns]."""
    return max(1, round(seconds * NS_PER_S / frame_period(stamps)))


def block_edges(start: np.ndarray | int, stop: np.ndarray | int, parts: int) -> np.ndarray:
    """Edges of k equal parts between two times [ns], (..., k + 1) int64."""
    start, stop = np.asarray(start)[..., None], np.asarray(stop)[..., None]
    return start + (stop - start) * np.arange(parts + 1) // parts


def held_average(
    stamps: np.ndarray, values: np.ndarray, edges: np.ndarray, hold: float | None = None
) -> np.ndarray:
    """Average a held (piecewise constant) signal between consecutive edges.

    Args:
        stamps: (n,) int64 [ns], ascending; ``values[i]`` holds from ``stamps[i]`` on.
        values: (n, A) float.
        edges: (..., m + 1) int64 [ns], ascending along the last axis.
        hold: how long a value is held [s], see ``action.hold``; None: until the next one.

    Returns:
        (..., m, A) float64; NaN where an interval begins before the first stamp, or where
        the value is no longer held in a part of it.

    """
    edges = np.asarray(edges, dtype=np.int64)
    if len(stamps) == 0:
        return np.full((*edges.shape[:-1], edges.shape[-1] - 1, values.shape[1]), np.nan)
    origin = stamps[0]
    times = (stamps - origin) / NS_PER_S
    at = (edges - origin) / NS_PER_S
    integral = np.zeros((len(stamps), values.shape[1]))
    integral[1:] = np.cumsum(values[:-1] * np.diff(times)[:, None], axis=0)
    index = np.clip(np.searchsorted(stamps, edges, side='right') - 1, 0, None)
    total = integral[index] + values[index] * (at - times[index])[..., None]
    average = np.diff(total, axis=-2) / np.diff(at, axis=-1)[..., None]
    average[edges[..., :-1] < origin] = np.nan
    if hold is not None:  # time without a valid command, up to each edge [ns]
        longest = round(hold * NS_PER_S)
        lapsed = np.append(0, np.cumsum(np.maximum(np.diff(stamps) - longest, 0)))
        lapsed = lapsed[index] + np.maximum(edges - stamps[index] - longest, 0)
        average[np.diff(lapsed, axis=-1) > 0] = np.nan
    return average


def held_values(
    stamps: np.ndarray, values: np.ndarray, times: np.ndarray, hold: float | None = None
) -> np.ndarray:
    """Return values (m, A) held at times (m,) int64 [ns]; NaN where unknown, as in the average."""
    if len(stamps) == 0:
        return np.full((len(times), values.shape[1]), np.nan)
    index = np.searchsorted(stamps, times, side='right') - 1
    known = index >= 0
    if hold is not None:
        known &= times - stamps[index] < round(hold * NS_PER_S)
    return np.where(known[:, None], values[index], np.nan)


def block_actions(
    stamps: np.ndarray,
    values: np.ndarray,
    frames: np.ndarray,
    parts: int,
    hold: float | None = None,
) -> np.ndarray:
    """Action blocks between consecutive frames, flattened as the model reads them.

    Args:
        stamps: (n,) int64 [ns] of the commands, ascending, ``action.delay`` already added.
        values: (n, A) commands.
        frames: (..., F) int64 [ns] stamps of the frames of a window.
        parts: k, the frameskip.
        hold: see :func:`held_average`.

    Returns:
        (..., F − 1, k·A) float64; index i is the block that leaves frame i. NaN where unknown.

    """
    frames = np.asarray(frames, dtype=np.int64)
    edges = block_edges(frames[..., :-1], frames[..., 1:], parts)
    averages = held_average(stamps, values, edges, hold)
    return averages.reshape(*averages.shape[:-2], parts * values.shape[1])


def window_indices(stamps: np.ndarray, block: int, length: int, period: int) -> np.ndarray:
    """Find every window of ``length`` frames one block apart.

    Args:
        stamps: (n,) int64 [ns], ascending.
        block: duration of a block [ns].
        length: frames in a window.
        period: camera period [ns]; frames may be off by three quarters of it. If it is longer than
            a block, there is no window.

    Returns:
        (w, length) indices into ``stamps``, one row for each frame that starts a window.

    """
    if len(stamps) == 0 or period > SLOWEST * block:
        return np.empty((0, length), dtype=np.int64)
    wanted = stamps[:, None] + block * np.arange(length)
    index = nearest(stamps, wanted)
    return index[on_grid(stamps[index] - wanted, period).all(axis=1)]


@dataclass(frozen=True)
class Context:
    """What the model reads at time ``stamp`` [ns]."""

    stamp: int
    latents: np.ndarray  #: (H, D) float32, oldest first; the last is the frame of ``stamp``
    past: np.ndarray  #: (H − 1, k·A) float64 action blocks between them, contract units


class History:
    """The last few seconds of latents and executed actions of one robot.

    Not thread safe: the owner keeps a lock around it. Appending is O(1); an entry older than
    the span is dropped.

    Args:
        length: H, frames of context.
        parts: k, the frameskip.
        block: duration of a block [s].
        period: camera period [s]; frames of a context may be off by three quarters of it.
        action_size: A.
        ahead: how far back before the newest context other contexts are requested [s].
        hold: how long a command is held [s], see :func:`held_average`.

    """

    def __init__(
        self,
        length: int,
        parts: int,
        block: float,
        period: float,
        action_size: int,
        ahead: float = 0.0,
        hold: float | None = None,
    ) -> None:
        self.length = length
        self.parts = parts
        self.block = round(block * NS_PER_S)
        self.period = round(period * NS_PER_S)
        self.action_size = action_size
        self.hold = hold
        self._span = (length + 1) * self.block + round(ahead * NS_PER_S)
        self._latents: deque[tuple[int, np.ndarray]] = deque()
        self._actions: deque[tuple[int, np.ndarray]] = deque()

    @classmethod
    def of_model(cls, spec: ModelSpec, action: Action, ahead: float = 0.0) -> History:
        """Make the history that a model needs on a robot; for ``ahead`` see the class."""
        return cls(
            spec.history,
            spec.frameskip,
            spec.block,
            spec.camera_period,
            action.size,
            ahead,
            action.hold,
        )

    def clear(self) -> None:
        """Forget everything (new episode, clock jump)."""
        self._latents.clear()
        self._actions.clear()

    def append_latent(self, stamp: int, latent: np.ndarray) -> bool:
        """Add a latent (D,). Returns False, and drops it, if it is not newer than the last one."""
        if self._latents and stamp <= self._latents[-1][0]:
            return False
        self._latents.append((stamp, latent))
        while self._latents[0][0] < stamp - self._span:
            self._latents.popleft()
        return True

    def append_action(self, stamp: int, action: np.ndarray) -> bool:
        """Add a command (A,) that takes effect at ``stamp``. Returns False if it is not newer."""
        if self._actions and stamp <= self._actions[-1][0]:
            return False
        self._actions.append((stamp, action))
        # The command before the span still holds at its start, so one older entry is kept.
        while len(self._actions) > 1 and self._actions[1][0] < stamp - self._span:
            self._actions.popleft()
        return True

    @property
    def newest(self) -> int | None:
        """Stamp of the newest latent [ns], or None."""
        return self._latents[-1][0] if self._latents else None

    @property
    def newest_action(self) -> int | None:
        """Stamp of the newest command [ns], or None."""
        return self._actions[-1][0] if self._actions else None

    def actions(self) -> tuple[np.ndarray, np.ndarray]:
        """Stamps (n,) int64 and values (n, A) of the commands kept."""
        stamps = np.array([s for s, _ in self._actions], dtype=np.int64)
        values = np.array([a for _, a in self._actions]).reshape(len(stamps), self.action_size)
        return stamps, values

    def context(self, stamp: int) -> Context | None:
        """Return the context whose newest frame is nearest to ``stamp`` [ns].

        None where a frame is missing (none within three quarters of a camera period of its
        time) or where an action between the frames is unknown.
        """
        stamps = np.array([s for s, _ in self._latents], dtype=np.int64)
        if len(stamps) == 0:
            return None
        newest = int(stamps[nearest(stamps, np.array(stamp))])
        wanted = newest - self.block * np.arange(self.length - 1, -1, -1)
        index = nearest(stamps, wanted)
        off = np.append(stamps[index] - wanted, newest - stamp)
        if not on_grid(off, self.period).all():
            return None
        past = self.executed(stamps[index])
        if np.isnan(past).any():
            return None
        latents = np.stack([self._latents[i][1] for i in index])
        return Context(newest, latents, past)

    def transition(self, stamp: int, blocks: int = 1) -> tuple[Context, np.ndarray] | None:
        """Return what the frame of ``stamp`` [ns] is to be predicted from.

        That is the context ``blocks`` blocks earlier, and the action blocks (blocks, k·A) executed
        since, which divide that time equally; None if either is incomplete. The history must reach
        that far back (``ahead``).
        """
        context = self.context(stamp - blocks * self.block)
        if context is None:
            return None
        executed = self.executed(block_edges(context.stamp, stamp, blocks))
        return None if np.isnan(executed).any() else (context, executed)

    def executed(self, frames: np.ndarray) -> np.ndarray:
        """Blocks (F − 1, k·A) executed between frame stamps (F,); NaN where unknown."""
        stamps, values = self.actions()
        return block_actions(stamps, values, frames, self.parts, self.hold)
