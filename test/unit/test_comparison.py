# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""benchmarks/comparison.py: its report and its arithmetic. No timing is judged."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterator
from pathlib import Path
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lewm_ros.bundle import Bundle
from lewm_ros.engines import ENGINES
from lewm_ros.evaluation.benchmark import EngineUnderTest, Problem
from lewm_ros.model import FastRollout, LeWorldModel, ModelConfig

sys.path.append(str(Path(__file__).parents[2] / 'benchmarks'))

import comparison
import dino_wm
from flops import encode_flops, fast_flops, reference_flops
import machine
import workloads

SIZES = {
    'image_size': 28,
    'encoder_width': 12,
    'latent_size': 6,
    'projector_hidden': 20,
    'predictor_depth': 2,
    'predictor_heads': 3,
    'predictor_head_size': 8,
    'predictor_mlp': 14,
    'action_size': 2,
    'action_hidden': 18,
}
VIT = {'encoder': 'vit', 'encoder_depth': 2, 'encoder_mlp': 16, 'predictor_width': 10}
CONV = {'image_size': 32, 'encoder': 'conv_bn', 'predictor_width': SIZES['latent_size']}
CONFIGS = {
    'vit': ModelConfig(**(SIZES | VIT)),
    'conv_bn': ModelConfig(**(SIZES | CONV)),
}


def counted(call: Callable[..., object], *given: torch.Tensor) -> int:
    """FLOPs of a call as torch counts them, without fused attention, which it cannot count."""
    with sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter:
        call(*given)
    return counter.get_total_flops()


@pytest.fixture(scope='module', autouse=True)
def hurried() -> Iterator[None]:
    """Measure with few calls, because timings are not checked."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, 'SECONDS', 0.0)
        yield


@pytest.fixture(scope='module')
def report(tiny_bundle: Bundle) -> dict[str, Any]:
    """Return the report for a very small network."""
    args = Namespace(threads=1, rounds=1, provider='')
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dino_wm, 'DEPTH', 1)
        return comparison.measure(tiny_bundle, None, list(workloads.WORKS), args)


def test_every_engine_has_a_row_for_every_work(report: dict[str, Any]) -> None:
    """Every engine has a row for every workload, at least in f32; DINO-WM has one row."""
    found = {(row['work'], row['engine']) for row in report['rows'] if row['precision'] == 'f32'}
    # OpenVINO is an optional extra.
    engines = {row['engine'] for row in report['rows']}
    assert set(ENGINES) - {'openvino'} <= engines
    expected = {(work, engine) for work in workloads.WORKS for engine in engines}
    assert found == expected | {('dino_wm', 'torch')}
    assert {r['precision'] for r in report['rows'] if r['work'] == 'encode'} == {'f32'}
    assert set(report['peak_gflops']) == {'f32', 'bf16'}
    assert report['peak_gflops']['f32'] > 0


def test_exact_is_what_the_comparison_found(report: dict[str, Any]) -> None:
    """In f32 every engine reproduces the reference's costs, and ``exact`` agrees with its data."""
    for row in report['rows']:
        if row['work'] == 'dino_wm':
            continue
        if row['precision'] == 'f32':
            assert row['exact'] is True
        if row['work'] == 'cost_call_300x5':
            same = row['cost_difference'] <= workloads.TOLERANCE and row['elites_kept'] == 30
            assert row['exact'] == same
        assert ('gflops' in row) == (row['work'] in ('encode', 'cost_call_300x5'))


def test_wrong_costs_are_not_exact(tiny_bundle: Bundle) -> None:
    """An error of 1 % in one cost is not exact, and a different elite is counted."""
    tested = EngineUnderTest(tiny_bundle, 'torch', 'f32', 1, '')
    problem = Problem.of(tiny_bundle, tested.engine)
    latent, costs = tested.engine.encode(problem.image), tested.costs(problem)
    assert workloads.judge(tested, problem, latent, costs)[:2] == (True, True)
    wrong = costs.copy()
    wrong[np.argmax(costs)] *= 0.99
    verdict = workloads.judge(tested, problem, 1.01 * latent, wrong)
    assert verdict[:2] == (False, False)
    assert verdict.cost_difference == pytest.approx(0.01, rel=0.1) and verdict.elites_kept == 30
    wrong[np.argmax(costs)] = 0.5 * costs.min()
    assert workloads.judge(tested, problem, latent, wrong).elites_kept == 29


def test_dino_wm_is_scaled_and_compared(report: dict[str, Any]) -> None:
    """DINO-WM's row says what it is scaled from, and how much slower it is than LeWM."""
    row = next(row for row in report['rows'] if row['work'] == 'dino_wm')
    assert 'exact' not in row
    assert 'of 300 samples, windows of [3, 3, 3, 3, 3] frames' in row['scaled_from']
    calls = {r['engine']: r for r in report['rows'] if r['work'] == 'cost_call_300x5'}
    reference = calls['reference']['ms_p50']
    assert row['ratio_to_reference'] == pytest.approx(reference / row['ms_p50'])
    assert row['slower_than_reference'] == pytest.approx(1 / row['ratio_to_reference'])
    fastest = min(r['ms_p50'] for r in report['rows'] if r['work'] == 'cost_call_300x5')
    assert row['slower_than_fastest'] == pytest.approx(row['ms_p50'] / fastest)


def test_table_shows_every_row_and_the_load(report: dict[str, Any]) -> None:
    """The table has a line for each row and for foreign load, and warns if that is high."""
    text = comparison.table(report | {'foreign_load': 0.0})
    lines = text.splitlines()
    works = [line.split()[0] for line in lines if ' f32 ' in line or ' bf16 ' in line]
    assert works == [row['work'] for row in report['rows']]
    assert 'others kept 0.00 cores busy' in lines
    assert 'times slower than the reference' in text
    assert 'times are longer' in comparison.table(report | {'foreign_load': 0.9})


@pytest.mark.parametrize('config', CONFIGS.values(), ids=CONFIGS)
def test_flops_are_those_that_torch_counts(config: ModelConfig) -> None:
    """FLOPs equal torch's count for encoder, plain and fast rollout, for every context length."""
    model = LeWorldModel(config).eval()
    fast = FastRollout(model)
    pixels = torch.zeros(1, 1, 3, config.image_size, config.image_size)
    assert counted(model.encode, pixels) == encode_flops(config)
    for known in (1, 2, 3):
        context, past = torch.randn(known, 6), torch.randn(known - 1, 10)
        for steps in (1, 2, 3, 5):
            actions = torch.randn(7, steps, 10)
            given = config, known, 7, steps
            plain = counted(model.rollout, context[None], past[None], actions[None])
            assert plain == reference_flops(*given)
            assert counted(fast, context, past, actions) == fast_flops(*given)


def test_dino_wm_has_its_published_size() -> None:
    """DINO-WM has its published size: 6 layers over 196 patches of 404 features per frame."""
    model = dino_wm.DinoWM().eval()
    layer = 404 * 3 * 1024 + 1024 * 404 + 404 + 404 * 2048 + 2048 + 2048 * 404 + 404 + 4 * 404
    parameters = sum(parameter.numel() for parameter in model.parameters())
    assert parameters == 6 * layer + 3 * 196 * 404 + 2 * 404
    tokens = 2 * 196
    products = 2 * (404 * 3072 + 1024 * 404 + 2 * 404 * 2048)
    attention = 4 * tokens * 1024
    frames = torch.zeros(1, 2, 196, 404)
    assert counted(model, frames) == 6 * tokens * (products + attention)


def test_dino_wm_sees_no_later_frame() -> None:
    """Attention is causal between frames, and full within one."""
    model = dino_wm.DinoWM().eval()
    with torch.no_grad():
        frames = torch.randn(1, 2, 196, 404)
        changed = frames.clone()
        changed[0, 1, -1] = torch.randn(404)
        before, after = model(frames), model(changed)
        assert torch.allclose(before[:, 0], after[:, 0], atol=1e-5)
        assert not torch.allclose(before[0, 1, 0], after[0, 1, 0], atol=1e-5)


def test_dino_wm_rolls_out_over_the_last_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows grow to 3 frames, then slide, as LeWM's do."""
    windows = []

    def follow(self: Any, frames: torch.Tensor) -> torch.Tensor:
        windows.append([int(value) for value in frames[0, :, 0, 0]])
        return frames + 1

    monkeypatch.setattr(dino_wm.DinoWM, 'forward', follow)
    latents = dino_wm.DinoWM().rollout(torch.zeros(2, 1, 196, 404), steps=5)
    assert windows == [[0], [0, 1], [0, 1, 2], [1, 2, 3], [2, 3, 4]]
    assert latents.shape == (2, 5, 196, 404)
    assert latents[0, :, 0, 0].tolist() == [1, 2, 3, 4, 5]


def test_busy_ticks_leave_out_idle_and_guests() -> None:
    """Busy ticks are user, nice, system, irq, softirq and steal; guest time is part of user."""
    stat = 'cpu  100 20 3 4000 500 6 7 80 90 10\ncpu0 1 1 1 1 1 1 1 1 1 1\n'
    assert machine.busy_ticks(stat) == 100 + 20 + 3 + 6 + 7 + 80


def test_own_work_is_no_foreign_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Foreign load excludes this process: of 3 busy cores, half of one is its own."""
    moments = iter([(100.0, 1000.0, 7.0), (110.0, 1030.0, 12.0)])
    monkeypatch.setattr(machine.ForeignLoad, '_now', lambda self: next(moments))
    assert machine.ForeignLoad().cores() == 2.5
