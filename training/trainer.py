# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Training: batches, losses, checkpoints, validation on held-out episodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, replace
import io
from itertools import islice
import json
import math
from pathlib import Path
import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from lewm_ros.bundle import Manifest
from lewm_ros.errors import ModelError
from lewm_ros.evaluation.bags import FULL_CONTEXT, HELD_OUT_WINDOWS
from lewm_ros.evaluation.latents import effective_rank, latent_std, straightness
from lewm_ros.files import atomic_write
from lewm_ros.model import LeWorldModel, prediction_loss
from lewm_ros.robot.contract import Contract
from lewm_ros.training.augment import jitter_colours
from lewm_ros.training.batchnorm import reestimate_batchnorm, share_batchnorm
from lewm_ros.training.config import TrainConfig
from lewm_ros.training.device import has_bfloat16
from lewm_ros.training.distributed import (
    any_rank,
    gathered,
    mean_over_ranks,
    part,
    rank,
    world_size,
)
from lewm_ros.training.export import export_files
from lewm_ros.training.frozen import FrozenEncoder
from lewm_ros.training.loader import normalised, read_ahead
from lewm_ros.training.objectives import Objective, make_objective
from lewm_ros.training.windows import Windows, batches

#: Mean losses over windows: of the prediction, and of the last latent as the prediction.
LOSSES = ('validation_prediction', 'validation_copy_last')
#: Longest plan of the exported rollout graph [blocks].
HORIZON = 6
LOG_EVERY = 50
#: Held-out windows of a validation, and the least number from each bag (if it has them).
MAX_VALIDATED, MIN_OF_EACH_BAG = 2048, 64
#: Steps from which compiling the networks for a GPU, a minute or two, pays off.
COMPILE_FROM = 10_000
#: Below this mean latent standard deviation, after the first steps, the encoder has collapsed.
COLLAPSED = 0.1


class Losses(nn.Module):
    """The losses of a batch as one module, which DistributedDataParallel asks for.

    Args:
        model: what is trained.
        objective: what is added to the prediction loss.
        autocast: whether networks compute in bfloat16.

    """

    def __init__(self, model: LeWorldModel, objective: Objective, autocast: bool) -> None:
        super().__init__()
        self.model, self.objective, self.autocast = model, objective, autocast

    def forward(
        self, pixels: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prediction loss, what the objective adds, and the latents (B, F, D) of a batch."""
        with torch.autocast(pixels.device.type, torch.bfloat16, enabled=self.autocast):
            z = self.model.encode(pixels)
            predicted = self.model.predict(z[:, :-1], actions)
        return prediction_loss(predicted, z[:, 1:]), self.objective(z, actions), z


class Trainer:
    """One training run; its state is a checkpoint from which it continues exactly.

    Set ``stopping`` (e.g. in a signal handler) to end :meth:`run` after the current step, in all
    processes if there are several.

    Args:
        windows: the data.
        contract: the robot.
        architecture: name of one in ``lewm_ros.model.ARCHITECTURES``.
        config: how to train it.
        device: 'cpu' or 'cuda'.
        seed: of weights, batches, dropout and projections.
        frozen: encoder of the windows; only the rest is trained then, on the prediction loss alone.

    Raises:
        ModelError: an objective that is unknown, an action dimension that never changes,
            collapse, or a loss that is not finite.

    """

    def __init__(
        self,
        windows: Windows,
        contract: Contract,
        architecture: str,
        config: TrainConfig,
        device: str,
        seed: int,
        frozen: FrozenEncoder | None = None,
    ) -> None:
        if frozen is not None:
            config = replace(config, objective='prediction')
            if config.colour_jitter:
                raise ModelError(
                    f'colour_jitter is {config.colour_jitter}: expected 0 with a frozen encoder, '
                    'which encodes each frame once'
                )
        self.windows, self.contract, self.config, self.frozen = windows, contract, config, frozen
        self.architecture, self.device, self.seed = architecture, device, seed
        self.train, self.held_out = windows.split(config.held_out, seed)
        self.mean, self.std = windows.action_statistics(self.train, contract.action.size)
        for name, std in zip(contract.action.names, self.std):
            if not std > 1e-6:
                raise ModelError(
                    f'action {name} has standard deviation {std:g} in the training data: a world '
                    'model needs it to vary; record commands that move it'
                )
        if frozen is not None:
            self.latent_mean, self.latent_std = frozen.statistics(windows, self.train)
        torch.manual_seed(seed)
        sizes = config.model(architecture, contract.action.size, frozen)
        self.model = LeWorldModel(sizes).to(device)
        if frozen is not None:
            frozen.begin(self.model)
        self.objective = make_objective(config, self.model.config).to(device)
        self.parameters = [*self.model.parameters(), *self.objective.parameters()]
        self.optimiser = torch.optim.AdamW(
            self.parameters,
            lr=config.lr,
            weight_decay=config.weight_decay,
            fused=device == 'cuda',
        )
        if device == 'cuda' and config.steps >= COMPILE_FROM:
            self.compile()
        self.bfloat16 = has_bfloat16(device)
        self.losses: nn.Module = Losses(self.model, self.objective, self.bfloat16)
        if world_size() > 1:
            share_batchnorm(self.model)
            self.losses = DistributedDataParallel(self.losses)
            if rank() > 0:
                torch.manual_seed(seed + rank())  # dropout and colours differ between processes
        self.step = 0
        self.seconds = 0.0
        self.stopping = False

    def compile(self) -> None:
        """Let torch compile encoder and predictor, in place, at their next calls."""
        self.model.encoder.compile()
        self.model.predictor.compile()

    def settings(self) -> dict[str, Any]:
        """Settings that must be equal to continue from a checkpoint."""
        config = asdict(self.config)
        del config['refine']  # what comes after
        return {
            'model': self.architecture,
            'config': config,
            'seed': self.seed,
            'data': [bag.key for bag in self.windows.bags],
            'frozen_encoder': None if self.frozen is None else self.frozen.sha256,
            'processes': world_size(),
        }

    def lr(self, step: int) -> float:
        """Learning rate at a step: linear warm-up over 1 %, cosine to zero."""
        warm = max(1, self.config.steps // 100)
        if step < warm:
            return self.config.lr * (step + 1) / warm
        share = (step - warm) / max(1, self.config.steps - warm)
        return self.config.lr * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    def batch(self, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (B, F, 3, S, S) and normalised blocks (B, F − 1, k·A) of some windows."""
        return self.placed(self.read(chosen))

    def read(self, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Frames (B, F, S, S, 3) uint8 and normalised blocks of some windows, in host memory.

        In place of frames the latents (B, F, D) float32 of a frozen encoder.
        """
        blocks = self.windows.blocks[chosen]
        shape = (*blocks.shape[:2], -1, len(self.mean))
        scaled = (blocks.reshape(shape) - self.mean) / self.std
        index = self.windows.frames[chosen]
        images = self.windows.images
        # Copies from pinned memory overlap with the computation on the device.
        pinned = self.device == 'cuda'
        kind = torch.uint8 if self.frozen is None else torch.float32
        frames = torch.empty((*index.shape, *images.shape), dtype=kind, pin_memory=pinned)
        images.read(index, frames.numpy())
        actions = torch.from_numpy(scaled.reshape(blocks.shape).astype(np.float32))
        return frames, actions.pin_memory() if pinned else actions

    def placed(self, batch: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (B, F, 3, S, S) float32 and blocks on the device, of what :meth:`read` gave.

        In place of pixels the standardised latents (B, F, D) of a frozen encoder.
        """
        frames, actions = (part.to(self.device, non_blocking=True) for part in batch)
        if self.frozen is not None:
            mean = torch.from_numpy(self.latent_mean).to(self.device)
            return (frames - mean) / float(self.latent_std), actions
        return normalised(frames), actions

    def update(
        self, pixels: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """One optimiser step on a batch, as :meth:`placed` gives it.

        Returns loss, prediction loss and regulariser, (3,), and the latents (B, F, D). Both are
        detached and stay on the device, so the host does not wait for it. If there are several
        processes, each returns those of its part of the batch.
        """
        self.model.train()
        if self.config.colour_jitter:
            pixels = jitter_colours(pixels, self.config.colour_jitter)
        prediction, regulariser, z = self.losses(pixels, actions)
        loss = prediction + self.objective.weight * regulariser
        for group in self.optimiser.param_groups:
            group['lr'] = self.lr(self.step)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, self.config.grad_clip_norm)
        self.optimiser.step()
        self.step += 1
        return torch.stack([loss, prediction, regulariser]).detach(), z.detach()

    def run(self, until: int) -> Iterator[dict[str, float]]:
        """Train up to a step, yielding the metrics of every LOG_EVERY-th and of the last."""
        source = batches(self.train, self.config.batch, self.seed, start=self.step)
        source = map(part, islice(source, max(0, until - self.step)))
        clock = time.monotonic() - self.seconds
        unchecked: list[torch.Tensor] = []
        for batch in read_ahead(self.read, source):
            if any_rank(self.stopping):
                if unchecked:  # a checkpoint follows, which must hold finite weights
                    self._check(unchecked)
                return
            losses, z = self.update(*self.placed(batch))
            unchecked.append(losses)
            self.seconds = time.monotonic() - clock
            if self.step % LOG_EVERY == 0 or self.step == until:
                _, prediction, regulariser = self._check(unchecked)
                unchecked.clear()
                flat = gathered(z).flatten(0, 1).float().cpu().numpy()
                std = latent_std(flat)
                if self.step >= 200 and std < COLLAPSED:
                    raise ModelError(
                        f'the latent space has collapsed at step {self.step}: standard deviation '
                        f'{std:.3f}, expected near 1; raise the weight of the regulariser or check '
                        'that the images differ'
                    )
                yield {
                    'step': self.step,
                    'seconds': round(self.seconds, 1),
                    'prediction': prediction,
                    'regulariser': regulariser,
                    'latent_std': std,
                    'effective_rank': effective_rank(flat),
                }

    def _check(self, losses: list[torch.Tensor]) -> list[float]:
        """Return the last losses. Raises ModelError for the first that is not finite.

        Called once in many steps: checking each step would make a GPU wait for the host.
        """
        found = mean_over_ranks(torch.stack(losses)).tolist()
        for step, (loss, prediction, regulariser) in enumerate(found, self.step - len(found) + 1):
            if not math.isfinite(loss):
                raise ModelError(
                    f'the loss is {loss} at step {step} (prediction {prediction:g}, regulariser '
                    f'{regulariser:g}): lower the learning rate'
                )
        return found[-1]

    @torch.no_grad()
    def validate(self) -> tuple[dict[str, float], list[dict[str, float]]]:
        """Re-estimate BatchNorm, then measure on held-out episodes. Leaves eval mode on.

        Every process measures alone, with the same result.

        Returns the metrics over all bags, and of each bag (none where nothing of it is held out)
        the two losses, the prediction loss with a full context alone, as in planning, and the
        number of held-out windows.
        """
        rng = np.random.default_rng(self.seed)
        size = self.config.batch
        fit = rng.permutation(self.train)[: 20 * size]
        if world_size() > 1:  # each has a part of every batch
            fit = fit[: len(fit) // size * size]
        reestimate_batchnorm(
            self.model, (self.batch(part(fit[i : i + size])) for i in range(0, len(fit), size))
        )
        sources = self.windows.sources[self.held_out]
        totals, latents = np.zeros(2), []
        bags: list[dict[str, float]] = []
        for number in range(len(self.windows.bags)):
            windows = self.held_out[sources == number]
            share = len(windows) / len(self.held_out)
            chosen = rng.permutation(windows)[: max(MIN_OF_EACH_BAG, round(share * MAX_VALIDATED))]
            errors = [np.empty((0, 3))]
            for i in range(0, len(chosen), size):
                pixels, actions = self.batch(chosen[i : i + size])
                z = self.model.encode(pixels)
                predicted = self.model.predict(z[:, :-1], actions)
                both = torch.stack([predicted, z[:, :-1]]) - z[:, 1:]
                squares = both.square().mean(dim=3)
                squares = torch.stack([*squares.mean(dim=2), squares[0, :, -1]], dim=1)
                errors.append(squares.double().cpu().numpy())
                latents.append(z)
            bags.append({})
            if len(chosen):
                mean = np.concatenate(errors).mean(axis=0)
                bags[-1] = dict(zip((*LOSSES, FULL_CONTEXT), mean.tolist()))
                bags[-1][HELD_OUT_WINDOWS] = len(windows)
                totals += share * mean[:2]
        every = torch.cat(latents).float().cpu().numpy()
        flat = every.reshape(-1, every.shape[-1])
        return {
            **dict(zip(LOSSES, totals.tolist())),
            'validation_latent_std': latent_std(flat),
            'validation_effective_rank': effective_rank(flat),
            'validation_straightness': straightness(every),
        }, bags

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically. Of several processes the first does, and all wait."""
        state = {
            'settings': json.dumps(self.settings()),
            'model': self.model.state_dict(),
            'objective': self.objective.state_dict(),
            'optimiser': self.optimiser.state_dict(),
            'step': self.step,
            'seconds': self.seconds,
            'rng': gathered(torch.get_rng_state()),
        }
        if self.device == 'cuda':
            state['cuda_rng'] = gathered(torch.cuda.get_rng_state())
        if rank() == 0:
            content = io.BytesIO()  # torch.save gives no reason if the disk is full
            torch.save(state, content)
            with atomic_write(path) as partial:
                partial.write_bytes(content.getbuffer())
        any_rank(False)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint.

        Raises ModelError naming a setting that differs, or for a file that is none.
        """
        try:
            state = torch.load(path, map_location=self.device, weights_only=True)
            then = {'processes': 1} | json.loads(state['settings'])
        except Exception as error:  # torch.load has no common base of its errors
            raise ModelError(
                f'checkpoint {path}: cannot be read ({type(error).__name__}): start a new run '
                'folder, or put the file back'
            ) from error
        now = json.loads(json.dumps(self.settings()))
        for key, value in now.items():
            if then.get(key) != value:
                raise ModelError(
                    f'checkpoint {path} was made with {key} {then.get(key)}, this run has '
                    f'{value}: start a new run folder, or use the same settings'
                )
        self.model.load_state_dict(state['model'])
        self.objective.load_state_dict(state['objective'])
        self.optimiser.load_state_dict(state['optimiser'])
        self.step, self.seconds = state['step'], state['seconds']
        torch.set_rng_state(_own(state['rng']))
        if self.device == 'cuda' and 'cuda_rng' in state:
            torch.cuda.set_rng_state(_own(state['cuda_rng']))

    def manifest(self, name: str, provenance: dict[str, Any]) -> Manifest:
        """Describe the model for a bundle."""
        config = self.model.config
        if self.frozen is not None:
            config = self.frozen.architecture(config)
        return Manifest(
            name=name,
            architecture=config.to_dict(),
            image_size=config.image_size,
            frameskip=config.frameskip,
            history=config.history,
            horizon=HORIZON,
            latent_size=config.latent_size,
            action_mean=tuple(self.mean.tolist()),
            action_std=tuple(self.std.tolist()),
            contract=self.contract,
            camera_period=self.windows.camera_period,
            camera_size=self.windows.bags[0].summary.camera_size,
            joints={
                k: tuple(v) for bag in self.windows.bags for k, v in bag.summary.joints.items()
            },
            provenance=provenance,
        )

    def files(self) -> dict[str, bytes | Path]:
        """Weights and graphs of a bundle; call after :meth:`validate`."""
        with torch.random.fork_rng(devices=[]):  # exporting must not change the run
            files = dict[str, bytes | Path](export_files(self.model, HORIZON))
        if self.frozen is not None:
            files |= self.frozen.files(self.model, self.latent_mean, self.latent_std)
        return files


def _own(states: torch.Tensor) -> torch.Tensor:
    """Return this process's part of the generators' states of all (processes · n,)."""
    return states.cpu().reshape(world_size(), -1)[rank()].clone()  # torch misreads a view
