# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Surprise of recorded episodes, as surprise_node computes it on the robot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lewm_ros.bags.episodes import Episode
from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.robot.history import History
from lewm_ros.surprise.score import contributions, predict


@dataclass(frozen=True)
class Forecast:
    """Frames of an episode, and what the model foresaw; those without a whole window are left out.

    n may be 0.
    """

    stamps: np.ndarray  #: (n,) int64 [ns]
    predicted: np.ndarray  #: (n, D) float32
    observed: np.ndarray  #: (n, D) float32


@dataclass(frozen=True)
class Scores:
    """Surprise of the frames of an episode that have a whole window; n may be 0."""

    stamps: np.ndarray  #: (n,) int64 [ns]
    scores: np.ndarray  #: (n,) float64
    contributions: np.ndarray  #: (n, D) float64; each row's sum is the score
    observed: np.ndarray  #: (n, D) float32 latents of the frames


def forecast_episode(
    bundle: Bundle, engine: Engine, episode: Episode, horizons: Sequence[int] = (1,)
) -> dict[int, Forecast]:
    """Predict every frame of an episode from each of these horizons [blocks] back.

    Every frame is encoded once. The engine's horizon must be at least the largest.
    """
    manifest = bundle.manifest
    history = History(
        manifest.history,
        manifest.frameskip,
        bundle.block,
        manifest.camera_period,
        bundle.contract.action.size,
        ahead=max(horizons) * bundle.block,
    )
    found: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {h: [] for h in horizons}
    done = 0
    for stamp, image in zip(episode.stamps.tolist(), episode.images):
        while done < len(episode.actions) and episode.action_stamps[done] <= stamp:
            history.append_action(int(episode.action_stamps[done]), episode.actions[done])
            done += 1
        latent = engine.encode(image)
        history.append_latent(stamp, latent)
        for horizon, rows in found.items():
            transition = history.transition(stamp, horizon)
            if transition is not None:
                rows.append((stamp, predict(bundle.spec, engine, *transition), latent))
    size = manifest.latent_size
    return {
        horizon: Forecast(
            np.array([stamp for stamp, _, _ in rows], dtype=np.int64),
            np.array([p for _, p, _ in rows], dtype=np.float32).reshape(-1, size),
            np.array([z for _, _, z in rows], dtype=np.float32).reshape(-1, size),
        )
        for horizon, rows in found.items()
    }


def score_episode(bundle: Bundle, engine: Engine, episode: Episode, horizon: int = 1) -> Scores:
    """Score an episode with the bundle's own scale, as surprise_node does with that horizon.

    The engine's horizon must be at least ``horizon`` [blocks]. Equal to the node's scores where
    commands have the stamps that they were recorded with.
    """
    forecast = forecast_episode(bundle, engine, episode, (horizon,))[horizon]
    scale = bundle.surprise_scale(horizon)
    parts = contributions(forecast.predicted, forecast.observed, scale)
    return Scores(forecast.stamps, parts.sum(axis=-1), parts, forecast.observed)
