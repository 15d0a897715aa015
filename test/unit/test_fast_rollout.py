# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The fast rollout equals the plain one in costs and elites, for every history and engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from networks import stir
import numpy as np
import pytest
import torch
from torch.nn import functional

from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.errors import ModelError
from lewm_ros.model import ARCHITECTURES, BatchedRollout, FastRollout, LeWorldModel
from lewm_ros.planning.costs import goal_cost, weights

SAMPLES, ELITES, STEPS = 300, 30, 5
TOLERANCE = 1e-4  # relative to the largest cost


def problem(
    history: int, latent: int, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return context (h, D), past (h − 1, 10), actions (300, 5, 10) and a goal (D,)."""
    rng = np.random.default_rng(seed)
    shapes = (history, latent), (history - 1, 10), (SAMPLES, STEPS, 10), (latent,)
    context, past, actions, goal = (rng.normal(size=shape).astype(np.float32) for shape in shapes)
    return context, past, actions, goal


def check_costs(latents: np.ndarray, reference: np.ndarray, goal: np.ndarray) -> None:
    """Compare the planner's costs and elites, terminal and over all steps."""
    for kind in ('terminal', 'ramp'):
        ours, theirs = (goal_cost(z, goal, weights(kind, z.shape[1])) for z in (latents, reference))
        assert theirs.std() > 0.01 * theirs.mean()  # otherwise equal elites would prove little
        assert np.abs(ours - theirs).max() <= TOLERANCE * np.abs(theirs).max()
        assert set(np.argsort(ours)[:ELITES]) == set(np.argsort(theirs)[:ELITES])


@pytest.fixture(scope='module', params=[1, 2, 3])
def model(request: pytest.FixtureRequest) -> LeWorldModel:
    """Return a small network with a window of 1, 2 or 3 frames in which every part counts."""
    with torch.random.fork_rng():
        torch.manual_seed(request.param)
        model = LeWorldModel(replace(ARCHITECTURES['small'](2), history=request.param))
        stir(model)
    return model.eval().requires_grad_(False)


#: The form for CPUs and exported graphs, and the form for GPUs.
FORMS = pytest.mark.parametrize('form', [FastRollout, BatchedRollout])


def rolled(rollout: torch.nn.Module, *arrays: np.ndarray) -> np.ndarray:
    """Return latents (S, N, D) of a fast rollout."""
    with torch.inference_mode():
        latents = rollout(*map(torch.tensor, arrays))
        return (latents if torch.is_tensor(latents) else torch.stack(latents, 1)).numpy()


def plain(model: LeWorldModel, *arrays: np.ndarray) -> np.ndarray:
    """Return latents (S, N, D) of the plain rollout, the published loop."""
    with torch.inference_mode():
        return model.rollout(*(torch.tensor(array)[None] for array in arrays))[0].numpy()


@FORMS
@pytest.mark.parametrize('history', [1, 2, 3])
def test_costs_and_elites_are_those_of_the_plain_rollout(
    model: LeWorldModel, history: int, form: type[torch.nn.Module]
) -> None:
    """Costs and elites equal the plain rollout's, for every context length up to the window."""
    if history > model.config.history:
        with pytest.raises(ModelError, match=f'context has {history} frames: the model reads 1 to'):
            form(model)(torch.zeros(history, 64), torch.zeros(0, 10), torch.zeros(1, 1, 10))
        return
    *arrays, goal = problem(history, 64)
    check_costs(rolled(form(model), *arrays), plain(model, *arrays), goal)


@FORMS
def test_the_model_can_still_be_trained(form: type[torch.nn.Module]) -> None:
    """Building a rollout does not freeze any weight of the model."""
    model = LeWorldModel(ARCHITECTURES['small'](2))
    form(model)
    assert all(weight.requires_grad for weight in model.parameters())


class SlidingCache(FastRollout):
    """Wrong on purpose: caches the keys and values of a sliding window, as a plain KV cache does.

    The newest frame takes the last position; earlier frames keep what they had at theirs.
    """

    def forward(
        self, context: torch.Tensor, past: torch.Tensor, actions: torch.Tensor
    ) -> list[torch.Tensor]:
        """Process one frame at a time, and recompute none."""
        keys: list[list[torch.Tensor]] = [[] for _ in self.layers]
        values: list[list[torch.Tensor]] = [[] for _ in self.layers]
        latents: list[torch.Tensor] = []
        frames = list(context[:, None])
        blocks = [*past[:, None], *actions.unbind(1)]
        for index, block in enumerate(blocks):
            frame = frames[index] if index < len(frames) else latents[-1]
            x = self.input_proj(frame) + self.positions[min(index, self.window - 1)]
            for layer, (modulation, k, v) in enumerate(zip(self._modulation(block), keys, values)):
                del k[: len(k) - self.window + 1], v[: len(v) - self.window + 1]
                x = self.layers[layer](x, modulation, k, v, False)
            if index >= len(frames) - 1:
                hidden = functional.layer_norm(x, x.shape[-1:])
                latents.append(self.project_out(functional.gelu(self.project_in(hidden))))
        return latents


def test_a_sliding_cache_does_not_pass(model: LeWorldModel) -> None:
    """The comparison fails for a sliding KV cache, which is right only until the window slides."""
    history = model.config.history
    *arrays, goal = problem(history, 64)
    wrong, right = rolled(SlidingCache(model), *arrays), plain(model, *arrays)
    assert wrong[:, 0] == pytest.approx(right[:, 0], abs=1e-4)
    if history == 1:  # nothing to cache
        check_costs(wrong, right, goal)
        return
    with pytest.raises(AssertionError):
        check_costs(wrong, right, goal)


@FORMS
def test_bfloat16_is_close_but_not_exact(model: LeWorldModel, form: type[torch.nn.Module]) -> None:
    """In bfloat16 most elites stay, but latents differ: docs/planning.md calls this not exact."""
    *arrays, goal = problem(model.config.history, 64)
    latents = rolled(form(model, torch.bfloat16), *arrays)
    reference = plain(model, *arrays)
    assert 1e-5 < np.abs(latents - reference).max() < 0.2 * np.abs(reference).max()
    ours, theirs = (goal_cost(z, goal, weights('ramp', STEPS)) for z in (latents, reference))
    assert len(set(np.argsort(ours)[:ELITES]) & set(np.argsort(theirs)[:ELITES])) >= 0.8 * ELITES


@FORMS
def test_published_network(form: type[torch.nn.Module]) -> None:
    """The full-size paper network, planned from one frame as published, gives equal costs."""
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = LeWorldModel(ARCHITECTURES['paper'](2))
        stir(model)
    model.eval().requires_grad_(False)
    *arrays, goal = problem(1, 192)
    check_costs(rolled(form(model), *arrays), plain(model, *arrays), goal)


@pytest.mark.parametrize(('history', 'window'), [(1, 1), (2, 2), (3, 3), (1, 3), (2, 3)])
@pytest.mark.parametrize('name', ['onnxruntime', 'openvino', 'torch'])
def test_every_engine_equals_the_reference(
    make_tiny_bundle: Callable[..., Bundle], name: str, history: int, window: int
) -> None:
    """In float32 every engine gives the costs and elites of the plain model."""
    if name == 'openvino':
        pytest.importorskip('openvino')
    sizes = history, window, 2
    bundle = make_tiny_bundle(*(sizes if sizes != (3, 3, 2) else ()))
    *before, actions, goal = problem(history, 8)
    arrays = *before, actions[:, :2]
    check_costs(
        load_engine(bundle, name).rollout(*arrays),
        load_engine(bundle, 'reference').rollout(*arrays),
        goal,
    )
