# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The terms of PLDM compared with a NumPy reference."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from lewm_ros.errors import ModelError
from lewm_ros.model import ARCHITECTURES
from lewm_ros.training.config import CONFIGS, PLDMWeights
from lewm_ros.training.objectives import PLDM, make_objective

B, F, D, BLOCK = 7, 4, 3, 10


@pytest.fixture
def pldm() -> PLDM:
    """Return the objective with a different weight for each term."""
    torch.manual_seed(0)
    config = replace(CONFIGS['small'], objective='pldm', pldm=PLDMWeights(2, 3, 5, 7, 11, 13))
    objective = make_objective(config, replace(ARCHITECTURES['small'](2), latent_size=D))
    assert isinstance(objective, PLDM)
    return objective


@pytest.fixture
def latents() -> np.ndarray:
    """Return latents (B, F, D) with standard deviations above and below 1."""
    scale = [0.2, 0.9, 3.0] * np.random.default_rng(1).uniform(0.5, 2, (1, F, 1))
    return (4 + scale * np.random.default_rng(2).normal(size=(B, F, D))).astype(np.float32)


def by_hand(z: np.ndarray) -> dict[str, float]:
    """Compute the terms that need no network, element by element."""
    centred = z - z.mean(axis=0)
    found: dict[str, list[float]] = {name: [] for name in asdict(PLDMWeights())}
    for group, suffix in (
        *((centred[:, t], '') for t in range(F)),
        *((centred[b], '_in_time') for b in range(B)),
    ):
        for i in range(D):
            std = np.sqrt(group[:, i].var(ddof=1) + 1e-4)
            found[f'variance{suffix}'].append(max(0.0, 1 - std))
            for j in range(D):
                if i != j:
                    covariance = (group[:, i] * group[:, j]).sum() / (len(group) - 1)
                    found[f'covariance{suffix}'].append(covariance**2)
    found['smoothness'] = [(z[b, t + 1] - z[b, t]) ** 2 for b in range(B) for t in range(F - 1)]
    return {name: np.mean(values) for name, values in found.items() if values}


def test_each_term_has_its_value(pldm, latents):
    """Each term and their weighted sum match a NumPy reference."""
    actions = np.random.default_rng(3).normal(size=(B, F - 1, BLOCK)).astype(np.float32)
    terms = pldm.terms(torch.from_numpy(latents), torch.from_numpy(actions))
    assert list(terms) == list(asdict(PLDMWeights()))
    expected = by_hand(latents.astype(np.float64))
    with torch.no_grad():
        first, last = (layer for layer in pldm.inverse if hasattr(layer, 'weight'))
        errors = []
        for t in range(F - 1):
            pairs = np.concatenate([latents[:, t], latents[:, t + 1]], axis=1)
            hidden = torch.nn.functional.gelu(
                torch.from_numpy(pairs @ first.weight.numpy().T + first.bias.numpy())
            )
            told = hidden.numpy() @ last.weight.numpy().T + last.bias.numpy()
            errors.append((told - actions[:, t]) ** 2)
    expected['inverse_dynamics'] = np.mean(errors)
    for name, term in terms.items():
        assert term.item() == pytest.approx(expected[name], rel=1e-4), name
        assert term.item() > 0
    total = pldm(torch.from_numpy(latents), torch.from_numpy(actions))
    weighted = zip((2, 3, 5, 7, 11, 13), expected.values())
    assert total.item() == pytest.approx(sum(w * e for w, e in weighted), rel=1e-4)


def test_collapsed_latents_are_pulled_apart(pldm):
    """The hinge loss has a gradient where all latents are nearly equal."""
    z = (1e-3 * torch.randn(B, F, D)).requires_grad_()
    pldm.terms(z, torch.zeros(B, F - 1, BLOCK))['variance'].backward()
    assert z.grad.abs().max() > 1e-3


def test_an_unknown_objective_is_refused():
    """The message lists the known objectives."""
    config = replace(CONFIGS['small'], objective='dino')
    with pytest.raises(ModelError, match="objective is 'dino': expected one of .*pldm"):
        make_objective(config, ARCHITECTURES['small'](2))
