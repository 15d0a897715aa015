# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Estimate of the delay from command to motion in recorded episodes."""

from __future__ import annotations

from dataclasses import dataclass
import math

import numpy as np

from lewm_ros.bags.episodes import Episode
from lewm_ros.robot.contract import KINDS, Contract
from lewm_ros.robot.fields import steps
from lewm_ros.robot.history import frame_period, held_average, held_values
from lewm_ros.time import NS_PER_S

#: Longest lag that is tried [s].
LONGEST = 1.0
#: A correlation is significant above this and above so many standard errors (1/√n).
WEAK, ERRORS = 0.3, 4.0


@dataclass
class Delay:
    """The lag at which commands and motion correlate best; ``seconds`` is None where weak."""

    seconds: float | None  #: beyond the contract's action.delay, which is in the stamps already
    correlation: float | None
    threshold: float  #: what the correlation has to reach
    action: str | None  #: the dimension that shows it
    motion: str | None  #: 'image', or the field of the state


class _Sums:
    """Running sums for the correlation of each x (A,) with each y (M,), at each lag.

    Each episode is centred by itself: differences between recordings say nothing about a delay.
    """

    def __init__(self, lags: int, actions: int, motions: int) -> None:
        self.count = np.zeros(lags, dtype=int)
        self._xx = np.zeros((lags, actions, 1))
        self._yy = np.zeros((lags, 1, motions))
        self._xy = np.zeros((lags, actions, motions))

    def add(self, lag: int, x: np.ndarray, y: np.ndarray) -> None:
        """Add x (n, A) and y (n, M) of an episode, without rows with NaN; skip unknown y."""
        y = np.where(np.isfinite(y).any(axis=0), y, 0.0)
        known = np.isfinite(x).all(axis=1) & np.isfinite(y).all(axis=1)
        if not known.any():
            return
        x, y = _centred(x[known]), _centred(y[known])
        self.count[lag] += len(x)
        self._xx[lag, :, 0] += (x * x).sum(axis=0)
        self._yy[lag, 0, :] += (y * y).sum(axis=0)
        self._xy[lag] += x.T @ y

    def correlations(self) -> np.ndarray:
        """(lags, A, M); zero where x or y does not vary."""
        scale = np.sqrt(self._xx * self._yy)
        return np.divide(self._xy, scale, out=np.zeros_like(self._xy), where=scale > 0)


class DelayEstimate:
    """Collects episodes; keeps sums only.

    A state is compared with the command by derivatives that belong together: the change of a
    position command with the change of a position, of a velocity command with the second
    difference of a position or the change of a velocity, and so on. Image motion (mean absolute
    difference of successive frames) is compared with the size of the command's change, and with
    the size of the command where it is a velocity or an effort.
    """

    def __init__(self, contract: Contract) -> None:
        self._names = contract.action.names
        rank = KINDS.index(contract.action.kind)
        fields = contract.state.fields if contract.state is not None else ()
        # State columns by the number of integrations from the command; noise hides the effect
        # of more than one.
        integrals = [rank - derivative(name) for name in fields]
        self._direct = [i for i, times in enumerate(integrals) if times < 1]
        self._integrated = [i for i, times in enumerate(integrals) if times == 1]
        self._orders = [1 + max(times, -1) for times in integrals]
        self._fields = fields
        self._size_too = rank > 0
        self._step = 0
        self._hold = contract.action.hold

    def add(self, episode: Episode) -> None:
        """Add an episode."""
        if len(episode.stamps) < 4:
            return
        if not self._step:
            self._step = max(int(frame_period(episode.stamps)), NS_PER_S // 100)
            self._lags = np.arange(round(LONGEST * NS_PER_S) // self._step + 1) * self._step
            size, lags = len(self._names), len(self._lags)
            self._by_change, self._by_size = _Sums(lags, size, 1), _Sums(lags, size, 1)
            self._by_direct = _Sums(lags, size, len(self._direct))
            self._by_integrated = _Sums(lags, size, len(self._integrated))
        seen = _image_motion(episode.images)[1:, None]
        commands = episode.action_stamps, episode.actions
        for number, lag in enumerate(self._lags):
            stamps = episode.stamps - lag
            change = np.diff(held_values(*commands, stamps, self._hold), axis=0)[1:]
            average = held_average(*commands, stamps, self._hold)
            self._by_change.add(number, np.abs(change), seen)
            if self._size_too:
                self._by_size.add(number, np.abs(average[1:]), seen)
            if episode.states is not None:
                direct = self._motion(episode.states, self._direct)
                self._by_direct.add(number, change, direct)
                integrated = self._motion(episode.states, self._integrated)
                self._by_integrated.add(number, np.diff(average, axis=0), integrated)

    def _motion(self, states: np.ndarray, columns: list[int]) -> np.ndarray:
        """Differences (n − 2, M) of some columns of the states (n, X), each of its own order."""
        motion = np.empty((len(states) - 2, len(columns)))
        for place, column in enumerate(columns):
            motion[:, place] = np.diff(states[:, column], n=self._orders[column])[-len(motion) :]
        return motion

    def result(self) -> Delay:
        """Return the best estimate: from the state if significant, else from the images."""
        if not self._step:
            return Delay(None, None, WEAK, None, None)
        states = [
            self._best(sums, [self._fields[i] for i in columns])
            for sums, columns in (
                (self._by_direct, self._direct),
                (self._by_integrated, self._integrated),
            )
        ]
        images = [self._best(sums) for sums in (self._by_change, self._by_size)]
        clear = [delay for delay in states if delay.seconds is not None]
        clear = clear or [delay for delay in images if delay.seconds is not None]
        return max(clear or states + images, key=lambda delay: delay.correlation or 0.0)

    def _best(self, sums: _Sums, fields: list[str] | None = None) -> Delay:
        """Return the best lag, action and field; from the images where ``fields`` is None."""
        least = float(sums.count.min())
        threshold = max(WEAK, ERRORS / math.sqrt(least)) if least else 1.0
        table = sums.correlations()
        if fields is not None:
            table = np.abs(table)  # the sign of a state is not known
        if not table.size or table.max() <= 0:
            return Delay(None, None, threshold, None, None)
        lag, action, motion = np.unravel_index(int(table.argmax()), table.shape)
        peak = table[:, action, motion]
        name = 'image' if fields is None else fields[motion]
        seconds = None
        if peak[lag] >= threshold:
            seconds = (float(lag) + _offset(peak, int(lag))) * self._step / NS_PER_S
        return Delay(seconds, float(peak[lag]), threshold, self._names[action], name)


def derivative(field: str) -> int:
    """Order of the derivative of position that a state field holds, 0 for a position."""
    parts = ' '.join(name for name, _ in steps(field.lower()))
    if 'accelerations' in parts or 'effort' in parts:
        return 2
    return int(any(name in parts for name in ('velocit', 'twist', 'linear', 'angular')))


def _centred(values: np.ndarray) -> np.ndarray:
    """Subtract the mean from (n, ...); exactly zero where only rounding varies."""
    centred = values - values.mean(axis=0)
    still = np.abs(centred).max(axis=0) <= 1e-9 * np.abs(values).max(axis=0)
    return np.where(still, 0.0, centred)


def _image_motion(images: np.ndarray) -> np.ndarray:
    """Mean absolute difference (n − 1,) of successive frames (n, S, S, 3) uint8."""
    return np.array(
        [
            np.abs(later.astype(np.int16) - earlier).mean()
            for earlier, later in zip(images[:-1], images[1:])
        ]
    )


def _offset(peak: np.ndarray, at: int) -> float:
    """Offset of the vertex of the parabola through three points from the middle one [steps]."""
    if not 0 < at < len(peak) - 1:
        return 0.0
    before, top, after = peak[at - 1 : at + 2]
    bend = before - 2 * top + after
    return float(0.5 * (before - after) / bend) if bend < 0 else 0.0
