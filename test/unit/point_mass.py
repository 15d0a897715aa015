# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A linear system whose latents are its state: an engine for tests of the planner."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lewm_ros.bundle import FILES, Bundle, Manifest, write_bundle
from lewm_ros.engines import Engine
from lewm_ros.planning import PlannerConfig
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.history import Context
from lewm_ros.time import NS_PER_S

TICKS, SIZE, LATENT = 5, 2, 4
CONFIG = PlannerConfig(
    horizon=5, samples=64, elites=8, iterations=6, cold_samples=128, cold_iterations=12
)
REST = np.zeros(LATENT, dtype=np.float32)
GOAL = np.array([0.6, -0.4, 0.0, 0.0], dtype=np.float32)
#: Placeholder files of a bundle without a network.
NO_NETWORK: dict[str, bytes | Path] = dict.fromkeys(FILES, b'-')


class PointMass(Engine):
    """An exact model: latent (x, y, vx, vy), commands are forces, one tick is 0.05 s."""

    name = 'point mass'
    provider = 'numpy'
    precision = 'f32'

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.calls: list[np.ndarray] = []

    def encode(self, image: np.ndarray) -> np.ndarray:
        """There is no camera."""
        raise NotImplementedError

    @property
    def searches(self) -> list[np.ndarray]:
        """The free blocks of the candidates of each call, (S, 4, k·A)."""
        return [actions[:, -4:] for actions in self.calls if actions.shape[1] > 1]

    def rollout(
        self, context: np.ndarray, past: np.ndarray, actions: np.ndarray, exact: bool = True
    ) -> np.ndarray:
        """(H, D), (H − 1, k·A), (S, N, k·A) → (S, N, D)."""
        self.calls.append(actions.copy())
        forces = self.bundle.spec.denormalise_block(actions).reshape(
            *actions.shape[:2], TICKS, SIZE
        )
        state = np.tile(context[-1], (len(actions), 1)).astype(float)
        latents = []
        for block in range(actions.shape[1]):
            for tick in range(TICKS):
                state[:, 2:] += 0.15 * forces[:, block, tick]
                state[:, :2] += 0.05 * state[:, 2:]
            latents.append(state.copy())
        return np.stack(latents, axis=1).astype(np.float32)


def point_mass_bundle(folder: Path, contract: Contract) -> Bundle:
    """Write a bundle with the statistics of the point mass; its graphs are not used."""
    manifest = Manifest(
        name='point mass',
        architecture={},
        image_size=64,
        frameskip=TICKS,
        history=2,
        horizon=6,
        latent_size=LATENT,
        action_mean=(0.1, -0.2),
        action_std=(0.4, 0.5),
        contract=contract,
        camera_period=0.05,
    )
    return write_bundle(folder / 'point', manifest, NO_NETWORK)


def at(state: np.ndarray, stamp: int = NS_PER_S) -> Context:
    """Return the context of a state reached without commands."""
    return Context(stamp, np.stack([state, state]), np.zeros((1, TICKS * SIZE)))


def idle() -> np.ndarray:
    """Return a committed block of no force."""
    return np.zeros((TICKS, SIZE))
