# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Surprise of recorded episodes, as surprise_node computes it on the robot."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lewm_ros.api import SurpriseMonitor
from lewm_ros.bags.episodes import Episode
from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.robot.history import History
from lewm_ros.surprise.events import KINDS, Event
from lewm_ros.surprise.monitor import Thresholds
from lewm_ros.surprise.score import predict


@dataclass(frozen=True)
class Forecast:
    """Frames of an episode and their predictions; frames without a complete window are left out.

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
    predicted: np.ndarray  #: (n, D) float32, latents that were expected
    events: dict[str, list[Event]]  #: of each kind, in the order of their start


def forecast_episode(
    bundle: Bundle, engine: Engine, episode: Episode, horizons: Sequence[int] = (1,)
) -> dict[int, Forecast]:
    """Predict every frame of an episode from each of these horizons [blocks] back.

    Every frame is encoded once. The engine's horizon must be at least the largest.
    """
    ahead = max(horizons) * bundle.block
    history = History.of_model(bundle.spec, bundle.contract.action, ahead)
    found: dict[int, list[tuple[int, np.ndarray, np.ndarray]]] = {h: [] for h in horizons}
    for stamp, latent in _replay(episode, engine, history.append_action):
        history.append_latent(stamp, latent)
        for horizon, rows in found.items():
            transition = history.transition(stamp, horizon)
            if transition is not None:
                rows.append((stamp, predict(bundle.spec, engine, *transition), latent))
    size = bundle.manifest.latent_size
    return {
        horizon: Forecast(
            np.array([stamp for stamp, _, _ in rows], dtype=np.int64),
            np.array([p for _, p, _ in rows], dtype=np.float32).reshape(-1, size),
            np.array([z for _, _, z in rows], dtype=np.float32).reshape(-1, size),
        )
        for horizon, rows in found.items()
    }


def score_episode(
    bundle: Bundle,
    engine: Engine,
    episode: Episode,
    horizon: int = 1,
    thresholds: Thresholds | None = None,
) -> Scores:
    """Score an episode with the monitor that surprise_node runs.

    The engine's horizon must be at least ``horizon`` [blocks]. The scores equal the node's if the
    commands have the stamps that they were recorded with. An event that is still open has no end.
    Without thresholds there are no events.
    """
    monitor = SurpriseMonitor.of_bundle(bundle, bundle.contract, engine, thresholds, horizon)
    rows, events = [], {}
    for stamp, latent in _replay(episode, engine, monitor.add_action):
        reading = monitor.update(stamp, latent)
        events.update({edge.event.id: edge.event for edge in reading.edges})
        if len(reading.contributions):
            rows.append(reading)
    size = bundle.manifest.latent_size
    return Scores(
        np.array([row.stamp for row in rows], dtype=np.int64),
        np.array([row.score for row in rows]),
        np.array([row.contributions for row in rows]).reshape(-1, size),
        np.array([row.predicted for row in rows], np.float32).reshape(-1, size),
        {kind: [e for e in events.values() if e.kind == kind] for kind in KINDS},
    )


def _replay(
    episode: Episode, engine: Engine, add_action: Callable[[int, np.ndarray], object]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yield stamp [ns] and latent (D,) of each frame, once the commands before it are added."""
    done = 0
    for stamp, image in zip(episode.stamps.tolist(), episode.images):
        while done < len(episode.actions) and episode.action_stamps[done] <= stamp:
            add_action(int(episode.action_stamps[done]), episode.actions[done])
            done += 1
        yield stamp, engine.encode(image)
