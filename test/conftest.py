# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Fixtures that more than one test file needs."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from lewm_ros.bundle import Bundle, Manifest, write_bundle
from lewm_ros.contract import Contract

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='session')
def reacher_contract() -> Contract:
    """Return the contract of the simulated arm."""
    return Contract.load(ROOT / 'config' / 'robots' / 'reacher.yaml')


@pytest.fixture(scope='session')
def make_tiny_bundle(
    tmp_path_factory: pytest.TempPathFactory, reacher_contract: Contract
) -> Callable[..., Bundle]:
    """Return a maker of bundles of a very small network with random weights.

    32 px, D 8, k 5, N 5; ``history`` frames of context, of a ``window`` of at least as many. Equal
    arguments give the same bundle. Tests that change one work on a copy of its folder.
    """

    @cache
    def make(history: int = 3, window: int = 3) -> Bundle:
        from networks import stir
        import torch

        from lewm_ros.model import LeWorldModel, ModelConfig
        from lewm_training.export import export_files

        config = ModelConfig(
            image_size=32,
            encoder='conv',
            encoder_width=16,
            latent_size=8,
            projector_hidden=16,
            predictor_width=16,
            predictor_depth=2,
            predictor_heads=2,
            predictor_head_size=8,
            predictor_mlp=16,
            action_size=reacher_contract.action.size,
            action_hidden=16,
            history=window,
        )
        with torch.random.fork_rng():
            torch.manual_seed(0)
            model = LeWorldModel(config)
            stir(model)
        horizon = 5
        manifest = Manifest(
            name='tiny',
            architecture=config.to_dict(),
            image_size=config.image_size,
            frameskip=config.frameskip,
            history=history,
            horizon=horizon,
            latent_size=config.latent_size,
            action_mean=(0.05, -0.1),
            action_std=(0.5, 0.6),
            contract=reacher_contract,
            camera_period=0.05,
            surprise_scale=(0.1,) * config.latent_size,
        )
        folder = tmp_path_factory.mktemp('bundles') / 'tiny'
        return write_bundle(folder, manifest, export_files(model, horizon, history))

    return make


@pytest.fixture(scope='session')
def tiny_bundle(make_tiny_bundle: Callable[..., Bundle]) -> Bundle:
    """Return the bundle of 3 frames of context."""
    return make_tiny_bundle()
