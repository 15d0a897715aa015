# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The network: published sizes, the two losses, causality, and the plain rollout."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from lewm_ros.errors import ModelError
from lewm_ros.model import (
    ARCHITECTURES,
    LeWorldModel,
    ModelConfig,
    prediction_loss,
    random_directions,
    sigreg,
)
from lewm_ros.robot.checks import CheckError


def awake(config: ModelConfig) -> LeWorldModel:
    """Return a model in eval mode with random AdaLN weights, as zero ones ignore the actions."""
    torch.manual_seed(0)
    model = LeWorldModel(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'adaLN' in name:
                parameter.normal_(std=0.3)
    return model


@pytest.fixture(scope='module')
def model() -> LeWorldModel:
    """Return a small model with non-zero modulation."""
    return awake(ARCHITECTURES['small'](2))


def test_the_paper_preset_has_the_published_size():
    """It has the size of the official checkpoints for two action dimensions: 303 tensors."""
    paper = LeWorldModel(ARCHITECTURES['paper'](2))
    assert sum(p.numel() for p in paper.parameters()) == 18_034_478
    assert len(paper.state_dict()) == 303
    assert (paper.config.dropout, ARCHITECTURES['small'](2).dropout) == (0.1, 0)


@pytest.mark.parametrize(('std', 'value'), [(1.0, 1.05), (0.5, 19.8), (2.0, 31.9)])
def test_sigreg_has_the_official_values(std, value):
    """The values match those of the official code for batches of 128, within sampling noise."""
    torch.manual_seed(0)
    z = std * torch.randn(4, 128, 192)
    assert sigreg(z, random_directions(192, 1024)).item() == pytest.approx(value, rel=0.05)


def test_sigreg_punishes_collapse_and_has_a_gradient_there():
    """A collapsed batch scores about 51.5; the gradient spreads a nearly collapsed one."""
    directions = random_directions(192, 1024, torch.Generator().manual_seed(0))
    assert sigreg(torch.zeros(4, 128, 192), directions).item() == pytest.approx(51.5, abs=0.1)
    z = (0.1 * torch.randn(4, 128, 192)).requires_grad_()
    sigreg(z, directions).backward()
    assert (z.grad * z).sum() < 0  # growing lowers the loss


def test_prediction_gradients_reach_the_target_too():
    """LeWM has no stop-gradient."""
    a, b = torch.ones(2, 3, requires_grad=True), torch.zeros(2, 3, requires_grad=True)
    prediction_loss(a, b).backward()
    assert torch.equal(a.grad, -b.grad) and a.grad.abs().sum() > 0


def test_a_new_predictor_ignores_the_action_and_a_trained_one_does_not(model):
    """AdaLN-zero: the modulation starts as the identity."""
    z, actions = torch.randn(2, 3, 64), torch.randn(2, 3, 10)
    new = LeWorldModel(ARCHITECTURES['small'](2)).eval()
    assert torch.equal(new.predict(z, actions), new.predict(z, -actions))
    assert (model.predict(z, actions) - model.predict(z, -actions)).abs().max() > 1e-3


def test_prediction_is_causal(model):
    """The output at frame 0 does not depend on later frames or actions."""
    z, actions = torch.randn(1, 3, 64), torch.randn(1, 3, 10)
    later_z, later_actions = z.clone(), actions.clone()
    later_z[:, 1:] += 1
    later_actions[:, 1:] += 1
    torch.testing.assert_close(
        model.predict(z, actions)[:, 0], model.predict(later_z, later_actions)[:, 0]
    )


@pytest.mark.parametrize('history', [1, 2, 3])
def test_rollout_is_prediction_over_a_sliding_window(model, history):
    """Calling `predict` step by step for one sample at a time gives the same latents."""
    torch.manual_seed(1)
    context, past = torch.randn(1, history, 64), torch.randn(1, history - 1, 10)
    plans = torch.randn(1, 4, 5, 10)
    rolled = model.rollout(context, past, plans)[0]
    for sample in range(4):
        z, blocks = list(context[0]), list(past[0])
        for step in range(5):
            blocks.append(plans[0, sample, step])
            first = max(0, len(z) - 3)
            out = model.predict(torch.stack(z[first:])[None], torch.stack(blocks[first:])[None])
            z.append(out[0, -1])
            torch.testing.assert_close(rolled[sample, step], z[-1], rtol=1e-4, atol=1e-5)


def test_projectors_stay_in_float32_under_autocast(model):
    """BatchNorm over nearly constant features needs the precision."""
    with torch.autocast('cpu', torch.bfloat16):
        assert model.encode(torch.zeros(1, 1, 3, 64, 64)).dtype == torch.float32


@pytest.mark.parametrize(
    ('change', 'says'),
    [
        ({'encoder': 'mlp'}, "encoder is 'mlp'"),
        ({'image_size': 60}, 'multiple of 16'),
        ({'dropout': 1.0}, 'dropout is 1.0'),
        ({'history': 0}, 'history is 0'),
    ],
)
def test_a_wrong_architecture_is_refused_by_key(change, says):
    """The message names the key, the value and what would be right."""
    with pytest.raises(CheckError, match=says):
        replace(ARCHITECTURES['small'](2), **change)


def test_an_architecture_survives_plain_data():
    """A round trip through the manifest's dict is lossless; an unknown key is refused."""
    config = ARCHITECTURES['paper'](3)
    assert ModelConfig.parse(config.to_dict()) == config
    with pytest.raises(ModelError, match=r"unknown key '_target_': expected \['action_hidden'"):
        ModelConfig.parse(config.to_dict() | {'_target_': 'os.system'})
