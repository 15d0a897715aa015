# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""All detectors together, with a model that predicts no change."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lewm_ros.errors import ObservationError
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.surprise.config import SurpriseConfig
from lewm_ros.surprise.monitor import Edge, SurpriseMonitor, Thresholds
from lewm_ros.time import NS_PER_S

TICK = NS_PER_S // 20
THRESHOLDS = Thresholds(surprise=4.0, alpha=0.05, drift=1.0, config=SurpriseConfig(gap_seconds=0.2))


class Still:
    """An engine that predicts the newest latent for every step."""

    def rollout(self, context: np.ndarray, past: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """(H, D) → (S, N, D)."""
        return np.tile(context[-1], (*actions.shape[:2], 1))


@pytest.fixture
def monitor(reacher_contract: Contract) -> SurpriseMonitor:
    """Return a monitor with two frames of context, latents of size 4 and nominal error 1."""
    spec = ModelSpec(
        name='still',
        contract=reacher_contract,
        history=2,
        window=2,
        frameskip=5,
        horizon=1,
        latent_size=4,
        image_size=32,
        camera_period=0.05,
        action_mean=np.zeros(2),
        action_std=np.ones(2),
    )
    engine: Any = Still()
    return SurpriseMonitor(spec, reacher_contract, engine, np.ones(4), THRESHOLDS)


def test_a_slow_camera_has_no_gaps(monitor: SurpriseMonitor) -> None:
    """A gap is at least two periods of the camera long, whatever the parameter."""
    slow = replace(monitor._spec, camera_period=0.6)
    patient = SurpriseMonitor(slow, monitor._contract, monitor._engine, np.ones(4), THRESHOLDS)
    stamp = NS_PER_S
    for wait in (0, 0.6, 0.7, 1.1):
        stamp += round(wait * NS_PER_S)
        assert not patient.update(stamp, np.zeros(4, np.float32)).edges
    stamp += round(1.3 * NS_PER_S)
    edges = patient.update(stamp, np.zeros(4, np.float32)).edges
    assert [edge.event.kind for edge in edges] == ['frame_gap', 'frame_gap']


@pytest.mark.parametrize('command', [np.zeros(3), np.array([np.nan, 0.0]), [0.1], 0.3])
def test_a_wrong_command_is_refused(monitor: SurpriseMonitor, command: Any) -> None:
    """A command has a finite number for each action dimension."""
    with pytest.raises(ObservationError, match=r'command is .*: expected 2 numbers, finite'):
        monitor.add_action(NS_PER_S, command)


def drive(monitor: SurpriseMonitor, latents: np.ndarray, first: int = 0) -> list[Edge]:
    """Feed latents (n, D), one frame per tick, under moving commands; return the edges."""
    edges = []
    for number, latent in enumerate(latents, first):
        stamp = NS_PER_S + number * TICK
        monitor.add_action(stamp, np.array([0.5 * (-1) ** number, 0.0]))
        edges += monitor.update(stamp, latent).edges
    return edges


def noise(frames: int, scale: float = 0.1) -> np.ndarray:
    """Latents (n, 4) that differ a little."""
    return np.random.default_rng(0).normal(0, scale, (frames, 4)).astype(np.float32)


def test_a_jump_opens_and_closes_one_event(monitor: SurpriseMonitor) -> None:
    """It opens at the jump's first frame, and closes when the jump is context and the hold ends."""
    latents = noise(60)
    latents[30:] += 5
    edges = drive(monitor, latents)
    assert [e.event.kind for e in edges] == ['surprise', 'surprise']
    assert edges[0].stamp == NS_PER_S + 30 * TICK and edges[0].score > 4.0
    assert edges[1].event.end == NS_PER_S + 35 * TICK
    assert not monitor.open


def test_a_frozen_camera_and_a_gap_have_events_of_their_own(monitor: SurpriseMonitor) -> None:
    """Equal frames under moving commands open one event; missing frames open another."""
    latents = noise(40)
    latents[20:] = latents[20]
    edges = drive(monitor, latents)
    assert {e.event.kind for e in edges} == {'frozen_camera'}
    last = (NS_PER_S + 39 * TICK) / NS_PER_S
    assert monitor.silence(last + 0.1) == []
    (gap,) = monitor.silence(last + 0.3)
    assert (gap.event.kind, gap.event.id) == ('frame_gap', 2)


def test_a_new_episode_ends_what_is_open_and_needs_a_new_context(monitor: SurpriseMonitor) -> None:
    """No score spans two episodes, and the open event is closed."""
    latents = noise(32)
    latents[30:] += 5
    drive(monitor, latents)
    assert monitor.open
    (closed,) = monitor.reset(10 * NS_PER_S)
    assert closed.event.end == NS_PER_S + 31 * TICK
    reading = monitor.update(10 * NS_PER_S, latents[0])
    assert np.isnan(reading.score) and not len(reading.contributions)


def test_without_thresholds_there_are_scores_only(monitor: SurpriseMonitor) -> None:
    """Removing the thresholds closes open events, and no new ones open."""
    latents = noise(34)
    latents[30:] += 5
    drive(monitor, latents[:32])
    (closed,) = monitor.adopt(None, 5 * NS_PER_S)
    assert closed.event.end is not None and not monitor.open
    assert drive(monitor, latents[32:], first=32) == []
    assert monitor.adopt(THRESHOLDS, 5 * NS_PER_S) == []


def test_frames_scores_and_new_thresholds_may_come_from_any_thread(
    monitor: SurpriseMonitor,
) -> None:
    """Every opened event closes exactly once, and no other event closes."""
    edges: list[Edge] = []

    def frames() -> None:
        for number in range(3000):
            stamp = NS_PER_S + number * TICK
            edges.extend(monitor.frame(stamp, number / 20 + (number // 5 % 2)))

    def thresholds() -> None:
        for number in range(3000):
            edges.extend(monitor.adopt(THRESHOLDS if number % 3 else None, number))
            edges.extend(monitor.reset_frames(number))

    with ThreadPoolExecutor() as pool:
        for done in [pool.submit(frames), pool.submit(thresholds)]:
            done.result()
    edges += monitor.reset_frames(0)
    opened = [e.event.id for e in edges if e.event.end is None]
    closed = [e.event.id for e in edges if e.event.end is not None]
    assert len(opened) == len(set(opened)) > 0
    assert sorted(opened) == sorted(closed)
