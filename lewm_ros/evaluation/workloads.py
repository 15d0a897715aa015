# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What `lewm benchmark` times: works of one engine on fixed random input, and a random bundle."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import torch

from lewm_ros.bundle import FILES, WEIGHTS, Bundle, Manifest, write_bundle
from lewm_ros.engines import Engine, load_engine
from lewm_ros.evaluation.closed_loop import planner_config
from lewm_ros.evaluation.dino_wm import HISTORY, PATCHES, WIDTH, DinoWM
from lewm_ros.files import find
from lewm_ros.model import PRESETS, LeWorldModel
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.costs import goal_cost, weights
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.history import Context
from lewm_ros.time import NS_PER_S
from lewm_ros.training.export import export_files, export_weights

SAMPLES, STEPS, ELITES = 300, 5, 30  #: of a cost call, as published
COST_CALL = 'cost_call_300x5'
#: --provider by engine, where an engine has another word for it
_PROVIDERS = {
    'onnxruntime': {'cpu': 'CPUExecutionProvider', 'cuda': 'CUDAExecutionProvider'},
    'openvino': {'cpu': 'CPU'},
}


@dataclass(frozen=True)
class Problem:
    """Random input that every engine gets alike."""

    image: np.ndarray  #: (S, S, 3) uint8
    context: np.ndarray  #: (H, D) latents
    past: np.ndarray  #: (H − 1, k·A) normalised blocks
    actions: np.ndarray  #: (300, 5, k·A) normalised blocks
    goal: np.ndarray  #: (D,) latent that another such plan leads to

    @classmethod
    def of(cls, bundle: Bundle, engine: Engine) -> Problem:
        """Make the one for a bundle; ``engine`` rolls the hidden plan out."""
        manifest, rng = bundle.manifest, np.random.default_rng(0)
        size, block = manifest.image_size, manifest.frameskip * bundle.contract.action.size
        image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
        context, past, actions = (
            rng.normal(size=shape).astype(np.float32)
            for shape in (
                (manifest.history, manifest.latent_size),
                (manifest.history - 1, block),
                (SAMPLES + 1, STEPS, block),
            )
        )
        goal = engine.rollout(context, past, actions[:1])[0, -1]
        return cls(image, context, past, actions[1:], goal)


class Contender:
    """One engine at one precision.

    Args:
        bundle: with a horizon of at least 5 blocks.
        name: of the engine.
        precision: 'f32' or 'bf16'.
        threads: of one call.
        provider: 'cpu', 'cuda' or '' for the engine's choice.

    Raises EngineError as ``load_engine``.

    """

    def __init__(
        self, bundle: Bundle, name: str, precision: str, threads: int, provider: str
    ) -> None:
        provider = _PROVIDERS.get(name, {}).get(provider, provider)
        # A planner may need less than 5 blocks, and a shorter engine is a cheaper one.
        self._load = cache(partial(load_engine, bundle, name, threads, precision, provider))
        self._bundle = bundle
        self.engine = self._load(STEPS)

    def costs(self, problem: Problem) -> np.ndarray:
        """One cost call, (300,), in the engine's precision."""
        exact = self.engine.precision == 'f32'
        inputs = problem.context, problem.past, problem.actions
        arrays = problem.goal, weights('ramp', STEPS)
        return self.engine.costs(*inputs, goal_cost, arrays, exact).astype(float)

    def prepare(self, work: str, problem: Problem) -> Callable[[], object]:
        """Return the call to time, first calls behind it, which may take much longer."""
        if work in ('encode', COST_CALL):
            encode = partial(self.engine.encode, problem.image)
            call: Callable[[], object] = (
                encode if work == 'encode' else partial(self.costs, problem)
            )
            call()
            return call
        if work == 'plan_live':
            plan = self._planning(planner_config('live', seed=0), problem)
            plan()  # cold; from here on each search starts from the last one
            return plan
        iterations = int(work.removeprefix('plan_300x'))
        config = PlannerConfig(
            horizon=STEPS,
            samples=SAMPLES,
            elites=ELITES,
            iterations=iterations,
            cold_samples=SAMPLES,
            cold_iterations=iterations,
        )
        return self._planning(config, problem, cold=True)

    def _planning(
        self, config: PlannerConfig, problem: Problem, cold: bool = False
    ) -> Callable[[], object]:
        """Encode a frame and plan without a deadline; each call is one block after the last."""
        bundle = self._bundle
        engine = self._load(config.rollout_blocks(bundle.spec))
        planner = RecedingHorizonPlanner(bundle.spec, bundle.contract, engine, config)
        planner.warm_up()
        engine.encode(problem.image)
        past = bundle.spec.denormalise_block(problem.past)
        committed = np.zeros((bundle.manifest.frameskip, bundle.contract.action.size))
        stamp = 0

        def plan() -> None:
            nonlocal stamp
            stamp += round(bundle.block * NS_PER_S)
            if cold:
                planner.reset()
            engine.encode(problem.image)
            planner.plan(Context(stamp, problem.context, past), committed, problem.goal)

        return plan


class DinoWMCall:
    """A cost call of DINO-WM's shape over the same steps, for a few of the 300 samples.

    Args:
        context: known frames, as many as the LeWM bundle has.
        provider: a torch device.
        precision: of everything, 'f32' or 'bf16'.

    """

    name = 'torch'

    def __init__(self, context: int, provider: str, precision: str = 'f32') -> None:
        self.provider, self.precision = provider, precision
        kind = torch.float32 if precision == 'f32' else torch.bfloat16
        # Two samples fill a processor's cores; a GPU needs more, and has the time for them.
        self.samples = 2 if provider == 'cpu' else 30
        windows = [min(context + step, HISTORY) for step in range(STEPS)]
        self.scaled_from = f'{self.samples} of {SAMPLES} samples, windows of {windows} frames'
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self._model = DinoWM().to(provider, kind).eval().requires_grad_(False)
            shape = self.samples, context, PATCHES, WIDTH
            self._context = torch.randn(shape).to(provider, kind)
            self._goal = torch.randn(PATCHES, WIDTH).to(provider, kind)

    @torch.inference_mode()
    def __call__(self) -> np.ndarray:
        """Costs of the few samples."""
        last = self._model.rollout(self._context, STEPS)[:, -1]
        return (last - self._goal).square().sum(dim=(1, 2)).float().cpu().numpy()


def random_bundle(folder: Path, preset: str = 'paper', graphs: bool = True) -> Bundle:
    """Write a bundle with random weights, of the published size: 10 Hz, blocks of 5 × 2 actions.

    Without ``graphs``, which take a minute to export, only the torch engines can run it.
    """
    contract = Contract.load(find('contract', 'reacher'))
    contract = replace(contract, rates=replace(contract.rates, control=10.0))
    size = contract.action.size
    config = PRESETS[preset](size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LeWorldModel(config)
        disturb(model)
    manifest = Manifest(
        name=f'random weights, {preset}',
        architecture=config.to_dict(),
        image_size=config.image_size,
        frameskip=config.frameskip,
        history=config.history,
        horizon=STEPS,
        latent_size=config.latent_size,
        action_mean=(0.0,) * size,
        action_std=(0.5,) * size,
        contract=contract,
        camera_period=contract.period,
    )
    if graphs:
        return write_bundle(folder, manifest, export_files(model, STEPS))
    return write_bundle(
        folder, manifest, {**dict.fromkeys(FILES, b''), WEIGHTS: export_weights(model)}
    )


@torch.no_grad()
def disturb(model: torch.nn.Module) -> None:
    """Move what is one or zero in a new model, and would hide errors or be optimised away.

    With AdaLN at zero, as it starts, every block is the identity and actions have no effect.
    """
    for parameter in model.parameters():
        if parameter.ndim == 1 or not parameter.any():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(std=0.1)
        elif name.endswith('running_var'):
            buffer.uniform_(0.5, 2.0)
