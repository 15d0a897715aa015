# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The search on a device gives what the search in numpy gives, and can be a captured graph."""

from __future__ import annotations

from collections.abc import Callable
import copy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lewm_ros.bundle import Bundle, Manifest
from lewm_ros.engines import device_search, load_engine
from lewm_ros.engines.device_search import DeviceSearch
from lewm_ros.engines.torch_engine import TorchEngine, load_model
from lewm_ros.errors import ModelError
from lewm_ros.model import FastRollout, LeWorldModel
from lewm_ros.planning import cem
from lewm_ros.planning.cem import CEM, CEMConfig, NumpySearch, Step
from lewm_ros.planning.costs import goal_cost, weights

SAMPLES, ELITES, BLOCKS, SIZE = 24, 6, 4, 10
CONFIG = CEMConfig(SAMPLES, ELITES, iterations=4)
UNBOUNDED = np.full(SIZE, -np.inf), np.full(SIZE, np.inf)
BOUNDED = np.linspace(-0.9, -0.3, SIZE), np.linspace(0.2, 1.1, SIZE)
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a CUDA GPU')


@pytest.fixture(scope='module')
def model(tiny_bundle: Bundle) -> LeWorldModel:
    """Return the tiny bundle's network."""
    return load_model(tiny_bundle).eval().requires_grad_(False)


@pytest.fixture(params=[3, 2, 1], ids=lambda history: f'history{history}')
def manifest(tiny_bundle: Bundle, request: pytest.FixtureRequest) -> Manifest:
    """Return a manifest whose context fills the model's window of 3 frames, or a part of it."""
    return replace(tiny_bundle.manifest, history=request.param)


def make(
    manifest: Manifest, model: LeWorldModel, shared_first: bool = False, coarse: bool = False
) -> DeviceSearch:
    """Return a search on the model's device, seeded."""
    exact = FastRollout(model)
    fast = FastRollout(model, torch.bfloat16) if coarse else exact
    search = DeviceSearch(manifest, exact, fast, SAMPLES, ELITES, BLOCKS, shared_first)
    search.seed(3)
    return search


def problem(
    manifest: Manifest,
    shared_first: bool = False,
    bounds: tuple[np.ndarray, np.ndarray] = UNBOUNDED,
    seed: int = 0,
) -> dict[str, Any]:
    """Return what ``load`` takes."""
    rng = np.random.default_rng(seed)
    size = manifest.latent_size
    return {
        'context': rng.normal(size=(manifest.history, size)).astype(np.float32),
        'past': rng.normal(size=(manifest.history - 1, SIZE)).astype(np.float32),
        'first': rng.normal(size=SIZE).astype(np.float32) if shared_first else None,
        'goal': rng.normal(size=size).astype(np.float32),
        'weights': weights('terminal' if seed == 1 else 'ramp', BLOCKS + shared_first),
        'low': bounds[0],
        'high': bounds[1],
    }


def start(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return a mean within all bounds and a spread."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-0.2, 0.2, (BLOCKS, SIZE)), rng.uniform(0.5, 1.0, (BLOCKS, SIZE))


def extras(count: int) -> np.ndarray:
    """Sequences to try as well, some beyond the bounds."""
    return np.random.default_rng(2).normal(size=(count, BLOCKS, SIZE))


def published(model: LeWorldModel) -> Callable[..., torch.Tensor]:
    """Return the published rollout from one context."""
    return lambda *inputs: model.rollout(*(array[None] for array in inputs))[0]


def in_numpy(
    search: DeviceSearch,
    model: LeWorldModel,
    task: dict[str, Any],
    coarse: Callable[..., torch.Tensor] | None = None,
) -> NumpySearch:
    """Return the reference: costs of the published rollout, noise as ``search`` drew it last."""

    def cost(rollout: Callable[..., torch.Tensor], candidates: np.ndarray) -> np.ndarray:
        actions = torch.tensor(candidates, dtype=torch.float32)
        if task['first'] is not None:
            first = torch.tensor(task['first']).expand(len(actions), 1, -1)
            actions = torch.cat((first, actions), dim=1)
        latents = rollout(torch.tensor(task['context']), torch.tensor(task['past']), actions)
        return goal_cost(latents.numpy(), task['goal'], task['weights'])

    noise: Any = SimpleNamespace(standard_normal=lambda shape: search._noise.cpu().numpy())
    costs = partial(cost, published(model)), None if coarse is None else partial(cost, coarse)
    return NumpySearch(CONFIG, costs[0], task['low'], task['high'], noise, costs[1])


def assert_equal(found: tuple[Any, ...], expected: Step, tolerance: float = 1e-5) -> None:
    """Same elites in the same order; costs up to the rounding of a float32 rollout."""
    for name, value, wanted in zip(Step._fields, found, expected):
        allowed = {'rtol': tolerance} if 'cost' in name else {'rtol': 0, 'atol': 1e-12}
        np.testing.assert_allclose(value, wanted, err_msg=name, **allowed)
        assert np.asarray(value).dtype == np.float64


def assert_search_equals_numpy(
    search: DeviceSearch, model: LeWorldModel, task: dict[str, Any], tolerance: float = 1e-5
) -> None:
    """Several iterations, each from what the last one found, the first with extra sequences."""
    search.load(**task)
    reference = in_numpy(search, model, task)
    mean, std = start()
    for number in range(4):
        extra = extras(5) if number == 0 else None
        step = Step(*search.iterate(mean, std, extra, exact=True))
        assert_equal(step, reference.iterate(mean, std, extra, exact=True), tolerance)
        mean, std = step.mean, step.std
        assert search.cost(mean) == pytest.approx(reference.cost(mean), rel=tolerance)
        assert np.all(step.elites >= task['low']) and np.all(step.elites <= task['high'])


def test_floor_of_the_spread_is_the_planners():
    """Engines may not import planning, so the number is written twice."""
    assert device_search.MIN_STD == cem.MIN_STD


@pytest.mark.parametrize('shared_first', [False, True])
@pytest.mark.parametrize('bounds', [UNBOUNDED, BOUNDED], ids=['unbounded', 'bounded'])
def test_iterations_equal_numpy(manifest, model, shared_first, bounds):
    """With and without a shared block; nothing is left of the problem loaded before."""
    search = make(manifest, model, shared_first)
    for seed in range(2):
        task = problem(manifest, shared_first, bounds, seed)
        assert_search_equals_numpy(search, model, task)


@pytest.mark.parametrize('count', [0, 1, SAMPLES - 1, SAMPLES, 3 * SAMPLES])
def test_any_number_of_extra_sequences(manifest, model, count):
    """At most S − 1 take part, the mean stays, and they are gone in the next iteration."""
    search, task = make(manifest, model), problem(manifest)
    search.load(**task)
    reference = in_numpy(search, model, task)
    for extra in (extras(count), None):
        step = search.iterate(*start(), extra, exact=True)
        assert_equal(step, reference.iterate(*start(), extra, exact=True))


def test_equal_elites_keep_a_spread(manifest, model):
    """Where all candidates are the mean, the spread is the floor and their order is kept."""
    search, task = make(manifest, model), problem(manifest)
    search.load(**task)
    mean, std = start()[0], np.zeros((BLOCKS, SIZE))
    step = search.iterate(mean, std, None, exact=True)
    assert np.all(step[1] == cem.MIN_STD)
    assert_equal(step, in_numpy(search, model, task).iterate(mean, std, None, exact=True))


def test_candidates_without_finite_cost(manifest, model):
    """They are no elites, and mean and spread are those of the others, however few."""
    search, task = make(manifest, model), problem(manifest)
    search.load(**task)
    extra = extras(SAMPLES - 4)
    extra[:, 1, 3] = np.nan
    step = Step(*search.iterate(*start(), extra, exact=True))
    assert_equal(step, in_numpy(search, model, task).iterate(*start(), extra, exact=True))
    assert len(step.elites) == len(step.costs) == 4 < ELITES


@pytest.mark.parametrize(
    ('where', 'value'), [('context', np.nan), ('goal', np.nan), ('goal', 1e30)]
)
def test_nothing_finite(manifest, model, where, value):
    """Mean and spread come back as given, with no elites, and CEM says what it misses."""
    search, task = make(manifest, model), problem(manifest)
    task[where][..., 0] = value
    search.load(**task)
    mean, std = start()
    step = Step(*search.iterate(mean, std, None, exact=True))
    np.testing.assert_array_equal(step.mean, mean)
    np.testing.assert_array_equal(step.std, std)
    assert step.elites.shape == (0, BLOCKS, SIZE) and step.costs.shape == (0,)
    assert step.cost_of_mean == search.cost(mean) == np.inf
    with pytest.raises(ModelError, match='none of 24 candidate plans has a finite cost'):
        CEM(CONFIG).solve(search, mean, std)


def test_coarse_rollout(manifest, model):
    """With a cheaper rollout the inexact iterations use it, and only they."""
    search, task = make(manifest, model, coarse=True), problem(manifest, bounds=BOUNDED)
    assert search.coarse and not make(manifest, model).coarse
    search.load(**task)
    fast = FastRollout(model, torch.bfloat16)
    reference = in_numpy(search, model, task, lambda *inputs: torch.stack(fast(*inputs), dim=1))
    costs = []
    for exact in (True, False):
        step = search.iterate(*start(), None, exact)
        assert_equal(step, reference.iterate(*start(), None, exact))
        costs.append(step[-1])
    assert costs[0] != costs[1]
    assert costs[0] == pytest.approx(search.cost(start()[0]), rel=1e-6)


def test_seed_sets_the_noise(manifest, model):
    """Equal seeds give equal searches; another seed and the next iteration other noise."""
    search = make(manifest, model)
    search.load(**problem(manifest))
    found = []
    for seed in (5, 5, 6):
        search.seed(seed)
        found.append([search.iterate(*start(), None, exact=True)[0] for _ in range(2)])
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])
    assert not np.array_equal(found[0][0], found[0][1])


def test_search_lowers_the_cost(manifest, model):
    """CEM with it comes close to a goal that a hidden plan is known to reach."""
    search, task = make(manifest, model, coarse=True), problem(manifest, seed=1)
    hidden = torch.tensor(extras(1), dtype=torch.float32)
    context = torch.tensor(task['context']), torch.tensor(task['past'])
    task['goal'] = published(model)(*context, hidden)[0, -1].numpy()
    search.load(**task)
    mean = np.zeros((BLOCKS, SIZE))
    solution = CEM(replace(CONFIG, iterations=12)).solve(search, mean, 1.0)
    assert solution.cost == search.cost(solution.mean) < 0.5 * search.cost(mean)


class Recorder(TorchDispatchMode):
    """Records as a capture does; replays go wrong where a value was fixed in recording."""

    #: Operations that a host has to wait for: numbers out of tensors, shapes out of values.
    WAITING = ('_local_scalar_dense', 'item', 'nonzero', 'masked_select', 'equal', 'is_nonzero')

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        indices = args[1] if name == 'index' else ()
        if name in self.WAITING or any(index.dtype == torch.bool for index in indices):
            raise AssertionError(f'{func} waits for the device')
        result = func(*args, **(kwargs or {}))
        self.operations.append((func, args, kwargs or {}, result))
        return result

    def replay(self) -> None:
        for func, args, kwargs, result in self.operations:
            for old, new in zip(tree_leaves(result), tree_leaves(func(*args, **kwargs))):
                if old.data_ptr() != new.data_ptr():  # no view, nothing done in place
                    old.copy_(new)


def test_waiting_is_noticed():
    """The check itself finds the usual ways to wait for a device."""
    x = torch.ones(3)
    for wait in (x[0].item, lambda: x[x > 0], x.nonzero, lambda: bool(x[0])):
        with pytest.raises(AssertionError, match='waits for the device'), Recorder():
            wait()


@pytest.mark.parametrize('exact', [False, True])
@pytest.mark.parametrize('shared_first', [False, True])
@torch.inference_mode()
def test_step_can_be_captured(manifest, model, shared_first, exact, monkeypatch):
    """Recorded on empty buffers and replayed on full ones, it waits for none and is the step."""
    recorders = []

    def ready(self: DeviceSearch, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        with Recorder() as recorder:
            result = step()
        recorders.append(recorder)
        return lambda: recorder.replay() or result

    called = make(manifest, model, shared_first, coarse=True)
    monkeypatch.setattr(DeviceSearch, '_ready', ready)
    replayed = make(manifest, model, shared_first, coarse=True)
    # Exact, coarse and the cost of a mean.
    assert [len(recorder.operations) > 100 for recorder in recorders] == [True] * 3
    for seed in range(2):
        for extra in (extras(5), None):
            steps = []
            for search in (called, replayed):
                search.load(**problem(manifest, shared_first, BOUNDED, seed))
                steps.append(Step(*search.iterate(*start(seed), extra, exact)))
            assert_equal(*steps, tolerance=1e-12)
            assert called.cost(start()[0]) == replayed.cost(start()[0])


@torch.inference_mode()
def test_step_stays_on_its_device(manifest, model, monkeypatch):
    """On a device without values no operation meets a tensor of the host, nor makes one."""
    generator = torch.Generator()
    monkeypatch.setattr(torch, 'Generator', lambda device: generator)
    search = make(manifest, copy.deepcopy(model).to('meta'), shared_first=True, coarse=True)
    with Recorder() as recorder:
        for step in (*search._iterations.values(), search._check):
            step()
    for func, *tensors in recorder.operations:
        for tensor in tree_leaves(tensors):
            if isinstance(tensor, torch.Tensor):
                assert tensor.device.type == 'meta', f'{func} meets a tensor of the host'


@pytest.mark.parametrize(
    'key', ['context', 'past', 'first', 'goal', 'weights', 'low', 'high', 'mean', 'std', 'extra']
)
def test_wrong_shapes_are_named(tiny_bundle, model, key):
    """Nothing is spread over a buffer that it does not fill."""
    search = make(tiny_bundle.manifest, model, shared_first=True)
    task = problem(tiny_bundle.manifest, shared_first=True)
    step = {'mean': start()[0], 'std': start()[1], 'extra': extras(2), 'exact': True}
    call, inputs = (search.load, task) if key in task else (search.iterate, step)
    with pytest.raises(ModelError, match=rf'{key} has shape \(.*1,?\): the search reads \('):
        call(**{**inputs, key: inputs[key][..., :1]})


def test_first_block_must_be_as_announced(tiny_bundle, model):
    """A shared first block cannot be forgotten, nor slipped in."""
    for shared_first, words in ((True, 'None: .* made with a'), (False, 'given: .* made without')):
        search = make(tiny_bundle.manifest, model, shared_first)
        with pytest.raises(ModelError, match=f'first is {words}'):
            search.load(**problem(tiny_bundle.manifest, not shared_first))


def test_engine_offers_a_search_on_cuda_only(tiny_bundle, monkeypatch):
    """One of each size, kept, because a capture takes seconds, and seeded anew."""
    engine = load_engine(tiny_bundle, 'torch', provider='cpu', horizon=4)
    assert isinstance(engine, TorchEngine)
    assert engine.search(SAMPLES, ELITES, BLOCKS, False, seed=0) is None
    monkeypatch.setattr(engine, 'provider', 'cuda')  # its weights stay on the CPU
    search = engine.search(SAMPLES, ELITES, 3, True, seed=1)
    noise = [search._noise.normal_(generator=search._generator).clone()]
    assert engine.search(SAMPLES, ELITES, 3, True, seed=1) is search
    assert engine.search(SAMPLES, ELITES, 3, False, seed=2) is not search
    assert torch.equal(noise[0], search._noise.normal_(generator=search._generator))
    assert not search.coarse
    with pytest.raises(ModelError, match='5 blocks: the engine rolls out at most 4'):
        engine.search(SAMPLES, ELITES, 4, True, seed=1)
    for sizes in ((8, 9, 2), (8, 0, 2), (8, 2, 0)):
        with pytest.raises(ModelError, match=r'search has 8 samples.*elites in \[1, samples\]'):
            engine.search(*sizes, False, seed=1)


@needs_cuda
@pytest.mark.parametrize('shared_first', [False, True])
def test_captured_graph_is_the_step(manifest, model, shared_first):
    """Replays equal numpy for the same noise, and the uncaptured step for the same seed."""
    coarse = torch.cuda.is_bf16_supported()
    search = make(manifest, copy.deepcopy(model).cuda(), shared_first, coarse)
    assert_search_equals_numpy(search, model, problem(manifest, shared_first, BOUNDED), 1e-4)
    for exact in (True, False):
        search.seed(9)
        captured = search._iterations[exact]().clone()
        search.seed(9)
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode('error')  # nothing in a step may wait for the host
        try:
            with torch.inference_mode():
                called = search._step(exact)
        finally:
            torch.cuda.set_sync_debug_mode('default')
        torch.testing.assert_close(captured, called, rtol=1e-6, atol=1e-9)


@needs_cuda
def test_searches_of_an_engine_on_cuda(tiny_bundle):
    """They lower the cost, and graphs of other sizes, used in between, change nothing."""
    engine = load_engine(tiny_bundle, 'torch', precision='auto', provider='cuda', horizon=5)
    assert isinstance(engine, TorchEngine)
    mean, solutions = np.zeros((BLOCKS, SIZE)), []
    for _ in range(2):
        for samples in (2 * SAMPLES, SAMPLES):
            search = engine.search(samples, ELITES, BLOCKS, True, seed=4)
            search.load(**problem(tiny_bundle.manifest, True, BOUNDED))
            solutions.append(CEM(CONFIG).solve(search, mean, 1.0))
            assert solutions[-1].cost < search.cost(mean)
    np.testing.assert_array_equal(solutions[1].mean, solutions[3].mean)
