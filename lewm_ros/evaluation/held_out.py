# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Predictions of a model in held-out windows, with the recorded commands and with others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lewm_ros.bags.episodes import Episode, episode_windows
from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.errors import BagError, ModelError

#: Blocks to predict, as many as a plan has; largest number of windows to evaluate.
AHEAD, WINDOWS = 4, 400
#: Share of the windows that move least; their error one block ahead is the model's floor.
CALM = 0.1
#: Two dimensions change the latents alike from this cosine on: 0.99 and 1.00 in pairs of joints of
#: which only one reaches its goals, 0.61 at most in others.
ALIKE = 0.9


@dataclass(frozen=True)
class Dimension:
    """Effect of one command dimension on the latents, 4 blocks ahead."""

    name: str
    effect: float  #: of another window's commands in this dimension, over the model's error
    ratio: float  #: squared error with those commands over that with its own
    alone: float | None  #: the floor over the latent distance per unit; None for an effort
    precision: float | None  #: the same while the other dimensions are unknown too
    share: float | None  #: the precision relative to how far the recorded commands vary
    like: str  #: the dimension that changes the latents in nearly the same way; '' if none does
    unit: str  #: of the precision
    deviation: float  #: standard deviation of the recorded commands, share of the range


#: Fields ``alone`` to ``like`` of a dimension, and their values where they are unknown.
_Seen = tuple[float | None, float | None, float | None, str]
_UNSEEN: _Seen = (None, None, None, '')


class HeldOutWindows:
    """Windows of context and future, some of them chosen at random; W of them.

    Attributes:
        context: (W, H, D) latents; ``now`` (W, D) is the last.
        future: (W, N, D) latents that followed.
        past: (W, H − 1, k, A) commands of the context, contract units.
        plans: (W, N·k, A) commands that followed.

    """

    def __init__(
        self,
        bundle: Bundle,
        episodes: Sequence[tuple[Episode, np.ndarray]],
        rng: np.random.Generator,
    ) -> None:
        spec = self._spec = bundle.spec
        self._action = bundle.contract.action
        self.ahead = min(AHEAD, spec.horizon)
        length, ticks = spec.history + self.ahead, (-1, spec.frameskip, self._action.size)
        found = []
        for episode, latents in episodes:
            index, blocks = episode_windows(episode, bundle.contract, length - 1, spec.frameskip)
            found.append((latents[index], blocks.reshape(len(index), length - 1, *ticks[1:])))
        latents = np.concatenate([z for z, _ in found] or [np.empty((0, length, 1))])
        if len(latents) < 2:
            raise BagError(
                f'{len(latents)} windows of {length} frames {spec.block:g} s apart with commands '
                f'in {len(episodes)} held-out episodes: a verdict needs episodes of at least '
                f'{(length - 1) * spec.block:g} s that the model was not trained on; see '
                '`lewm inspect`'
            )
        commands = np.concatenate([blocks for _, blocks in found])
        self._deviation = commands.std(axis=(0, 1, 2)) / np.subtract(*self._action.bounds[::-1])
        chosen = rng.permutation(len(latents))[:WINDOWS]
        latents, commands = latents[chosen], commands[chosen]
        self._moved = np.linalg.norm(np.diff(latents, axis=1), axis=2)
        now = spec.history
        self.context, self.future = latents[:, :now], latents[:, now:]
        self.now = self.context[:, -1]
        self.past = commands[:, : now - 1]
        self.plans = commands[:, now - 1 :].reshape(len(latents), -1, self._action.size)
        # (W, 1, A) the last command before the plan; with one frame of context the first of it.
        self.last = self.past[:, -1:, -1] if now > 1 else self.plans[:, :1]

    def steps(self) -> np.ndarray:
        """Latent distances over one block, (W · (H + N − 1),)."""
        return self._moved.reshape(-1)

    def predict(self, engine: Engine) -> np.ndarray:
        """Predict with a window's own commands, then replace one dimension at a time by another's.

        Returns (W, 1 + A, N, D).
        """
        other = np.roll(np.arange(len(self.plans)), 1)
        theirs = self.plans[other]
        if self._action.kind == 'position':  # the same movement from here, not a jump to there
            moved = self.last + theirs - self.last[other]
            theirs = np.clip(moved, *self._action.bounds)
        swapped = np.eye(self._action.size, dtype=bool)
        plans = np.where(swapped[None, :, None], theirs[:, None], self.plans[:, None])
        plans = np.concatenate([self.plans[:, None], plans], axis=1)
        return self._roll(engine, self.context, self.past, plans)

    def visibility(self, engine: Engine) -> np.ndarray | None:
        """Latent change per unit of each dimension, (W, A, D): a small step, then standing still.

        The unit is that of a position command, or that of a velocity command times seconds. None
        for efforts, because their displacement is unknown.
        """
        kind, size, k = self._action.kind, self._action.size, self._spec.frameskip
        if kind == 'effort':
            return None
        rest = self.last if kind == 'position' else np.zeros_like(self.last)
        hold = np.repeat(rest, self.ahead * k, axis=1)
        tick = np.minimum(np.arange(1, self.ahead * k + 1) / k, 1)
        if kind == 'position':
            way = np.median(np.abs(self.plans[:, k - 1] - self.last[:, 0]), axis=0) / 4
            change = tick[:, None] * way
        else:
            way = self._spec.action_std * self._spec.block / 4
            change = (np.arange(self.ahead * k) < k)[:, None] * self._spec.action_std / 4
        plans = np.stack([hold, *(hold + change * one for one in np.eye(size))], axis=1)
        latents = self._roll(engine, self.context, self.past, plans)[:, :, -1]
        return (latents[:, 1:] - latents[:, :1]) / np.where(way > 0, way, np.nan)[:, None]

    def floor(self, predicted: np.ndarray) -> float:
        """Median error one block ahead where the robot moves least."""
        calm = np.argsort(self._moved[:, self._spec.history - 1])
        calm = calm[: max(1, round(CALM * len(calm)))]
        error = np.linalg.norm(predicted[:, 0, 0] - self.future[:, 0], axis=1)
        return float(np.median(error[calm]))

    def dimensions(
        self, predicted: np.ndarray, visibility: np.ndarray | None, floor: float
    ) -> list[Dimension]:
        """Describe each dimension; the arguments are from the methods above."""
        last = predicted[:, :, -1]
        errors = np.linalg.norm(last - self.future[:, None, -1], axis=2)
        effects = np.linalg.norm(last[:, 1:] - last[:, :1], axis=2)
        typical = max(float(np.median(errors[:, 0])), 1e-12)
        squares = np.maximum(np.square(errors).mean(axis=0), 1e-24)
        velocity = self._action.kind == 'velocity'
        seen = [_UNSEEN] * self._action.size
        if visibility is not None:
            seen = self._precision(visibility, max(floor, 1e-12))
        return [
            Dimension(
                name,
                float(np.median(effects[:, i])) / typical,
                float(squares[1 + i] / squares[0]),
                *seen[i],
                unit=_times_seconds(unit) if velocity else unit,
                deviation=float(self._deviation[i]),
            )
            for i, (name, unit) in enumerate(zip(self._action.names, self._action.units))
        ]

    def _precision(self, visibility: np.ndarray, floor: float) -> list[_Seen]:
        """Return each dimension's precision alone and among the others, share, and ``like``.

        The precision tells how well a latent whose error is the floor determines a position. Among
        the others it is the posterior standard deviation of a linear Gaussian model, median over
        the windows. Its prior for each dimension is how far the recorded commands vary.
        """
        spread = self._deviation * np.subtract(*self._action.bounds[::-1])
        if self._action.kind == 'velocity':  # displacement over a plan
            spread = spread * self.ahead * self._spec.block
        moving = np.flatnonzero((spread > 0) & np.isfinite(visibility).all(axis=(0, 2)))
        shown = visibility[:, moving]
        lengths = np.linalg.norm(shown, axis=2)
        alike = shown @ shown.transpose(0, 2, 1)
        ranges = spread[moving]
        scaled = alike * ranges * ranges[:, None]  # per standard deviation of the commands
        least = max(floor, 1e-5 * float(np.sqrt(scaled.max(initial=0))))
        known = scaled / least**2 + np.eye(len(moving))
        variances = np.diagonal(np.linalg.inv(known), axis1=1, axis2=2)
        precisions = np.median(np.sqrt(variances), axis=0) * ranges
        scale = np.maximum(lengths[:, :, None] * lengths[:, None], 1e-24)
        cosines = np.abs(np.median(alike / scale, axis=0)) - np.eye(len(moving))
        found: list[_Seen] = [_UNSEEN] * self._action.size
        for i, dimension in enumerate(moving):
            other = int(cosines[i].argmax())
            found[dimension] = (
                floor / max(float(np.median(lengths[:, i])), 1e-12),
                float(precisions[i]),
                float(precisions[i] / spread[dimension]),
                self._action.names[moving[other]] if cosines[i, other] > ALIKE else '',
            )
        return found

    def _roll(
        self, engine: Engine, context: np.ndarray, past: np.ndarray, plans: np.ndarray
    ) -> np.ndarray:
        """Roll out plans (W, S, N·k, A) to latents (W, S, N, D)."""
        spec = self._spec
        shape = *plans.shape[:2], self.ahead, -1
        blocks = spec.normalise_block(plans.reshape(shape)).astype(np.float32)
        before = spec.normalise_block(past.reshape(len(past), spec.history - 1, blocks.shape[-1]))
        found = np.stack(
            [engine.rollout(*each) for each in zip(context, before.astype(np.float32), blocks)]
        )
        if not np.isfinite(found).all():
            raise ModelError(f'bundle {spec.name}: predicted latents are not finite')
        return found


def _times_seconds(unit: str) -> str:
    return unit.removesuffix('/s') if unit.endswith('/s') else f'{unit}·s'
