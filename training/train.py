# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm train`: learn a world model from bags, and write it as a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
import csv
from dataclasses import asdict, replace
import json
import logging
import math
import os
from pathlib import Path
import sys
import time
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from lewm_ros.bundle import MANIFEST, Bundle, Manifest, write_bundle
from lewm_ros.contract import Contract
from lewm_ros.errors import TrainingError
from lewm_ros.model import (
    PRESETS as MODELS,
)
from lewm_ros.model import (
    LeWorldModel,
    prediction_loss,
    random_directions,
    sigreg,
)
from lewm_ros.share import find
from lewm_training.bags import recording_command
from lewm_training.device import choose_device, has_bfloat16, keep_memory
from lewm_training.export import export_files
from lewm_training.metrics import (
    effective_rank,
    latent_std,
    reestimate_batchnorm,
)
from lewm_training.presets import PRESETS, TrainConfig
from lewm_training.windows import Windows, batches, load_windows

#: Longest plan of the exported rollout graph [blocks].
HORIZON = 6
LOG_EVERY = 50
VALIDATE_EVERY = 500
#: Below this mean latent standard deviation, after the first steps, the encoder has collapsed.
COLLAPSED = 0.1
log = logging.getLogger('lewm')


class Trainer:
    """One training run; its state is a checkpoint from which it continues exactly.

    Args:
        windows: the data.
        contract: the robot.
        preset: names the architecture.
        recipe: how to train it.
        device: 'cpu' or 'cuda'.
        seed: of weights, batches, dropout and projections.

    Raises:
        TrainingError: an action dimension that never changes, collapse, or a loss that is not
            finite.

    """

    def __init__(
        self,
        windows: Windows,
        contract: Contract,
        preset: str,
        recipe: TrainConfig,
        device: str,
        seed: int,
    ) -> None:
        self.windows, self.contract, self.recipe = windows, contract, recipe
        self.preset, self.device, self.seed = preset, device, seed
        self.train, self.held_out = windows.split(recipe.held_out, seed)
        self.mean, self.std = windows.action_statistics(self.train, contract.action.size)
        for name, std in zip(contract.action.names, self.std):
            if not std > 1e-6:
                raise TrainingError(
                    f'action {name} has standard deviation {std:g} in the training data: a world '
                    'model needs it to vary; record commands that move it'
                )
        torch.manual_seed(seed)
        self.model = LeWorldModel(MODELS[preset](contract.action.size)).to(device)
        self.optimiser = torch.optim.AdamW(
            self.model.parameters(), lr=recipe.rate, weight_decay=recipe.weight_decay
        )
        self.bfloat16 = has_bfloat16(device)
        self.step = 0
        self.seconds = 0.0

    def settings(self) -> dict[str, Any]:
        """What must be equal for a checkpoint to be continued."""
        return {
            'preset': self.preset,
            'recipe': asdict(self.recipe),
            'seed': self.seed,
            'windows': len(self.windows.frames),
            'action_mean': self.mean.tolist(),
        }

    def rate(self, step: int) -> float:
        """Learning rate at a step: linear warm-up over 1 %, cosine to zero."""
        warm = max(1, self.recipe.steps // 100)
        if step < warm:
            return self.recipe.rate * (step + 1) / warm
        share = (step - warm) / max(1, self.recipe.steps - warm)
        return self.recipe.rate * 0.5 * (1 + math.cos(math.pi * min(1.0, share)))

    def batch(self, chosen: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Pixels (B, F, 3, S, S) and normalised blocks (B, F − 1, k·A) of some windows."""
        blocks = self.windows.blocks[chosen]
        shape = (*blocks.shape[:2], -1, len(self.mean))
        scaled = (blocks.reshape(shape) - self.mean) / self.std
        return (
            torch.from_numpy(self.windows.pixels(chosen)).to(self.device),
            torch.from_numpy(scaled.reshape(blocks.shape).astype(np.float32)).to(self.device),
        )

    def losses(
        self, pixels: torch.Tensor, actions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prediction loss, SIGReg and the latents (B, F, D) of a batch."""
        with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
            z = self.model.encode(pixels)
            predicted = self.model.predict(z[:, :-1], actions)
        directions = random_directions(z.shape[-1], self.recipe.directions, device=self.device)
        return (
            prediction_loss(predicted, z[:, 1:]),
            sigreg(z.transpose(0, 1), directions),
            z,
        )

    def run(self, until: int) -> Iterator[dict[str, float]]:
        """Train up to a step, yielding the metrics of every LOG_EVERY-th."""
        source = batches(self.train, self.recipe.batch, self.seed, start=self.step)
        clock = time.monotonic() - self.seconds
        for chosen in source:
            if self.step >= until:
                return
            self.model.train()
            prediction, regulariser, z = self.losses(*self.batch(chosen))
            loss = prediction + self.recipe.sigreg_weight * regulariser
            if not torch.isfinite(loss):
                raise TrainingError(
                    f'the loss is {loss.item()} at step {self.step} (prediction '
                    f'{prediction.item():g}, SIGReg {regulariser.item():g}): lower the rate'
                )
            for group in self.optimiser.param_groups:
                group['lr'] = self.rate(self.step)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
            self.optimiser.step()
            self.step += 1
            self.seconds = time.monotonic() - clock
            if self.step % LOG_EVERY == 0 or self.step == until:
                flat = z.detach().flatten(0, 1)
                std = latent_std(flat)
                if self.step >= 200 and std < COLLAPSED:
                    raise TrainingError(
                        f'the latent space has collapsed at step {self.step}: standard deviation '
                        f'{std:.3f}, expected near 1; raise the SIGReg weight or check that the '
                        'pictures differ'
                    )
                yield {
                    'step': self.step,
                    'seconds': round(self.seconds, 1),
                    'prediction': prediction.item(),
                    'sigreg': regulariser.item(),
                    'latent_std': std,
                    'effective_rank': effective_rank(flat),
                }

    @torch.no_grad()
    def validate(self, most: int = 2048) -> dict[str, float]:
        """Re-estimate BatchNorm, then measure on held-out episodes. Leaves eval mode on."""
        rng = np.random.default_rng(self.seed)
        size = self.recipe.batch
        fit = rng.permutation(self.train)[: 20 * size]
        reestimate_batchnorm(
            self.model, (self.batch(fit[i : i + size]) for i in range(0, len(fit), size))
        )
        chosen = rng.permutation(self.held_out)[:most]
        predictions, copies, latents = [], [], []
        for i in range(0, len(chosen), size):
            pixels, actions = self.batch(chosen[i : i + size])
            z = self.model.encode(pixels)
            predicted = self.model.predict(z[:, :-1], actions)
            predictions.append((predicted - z[:, 1:]).square().mean(dim=(1, 2)))
            copies.append((z[:, :-1] - z[:, 1:]).square().mean(dim=(1, 2)))
            latents.append(z.flatten(0, 1))
        flat = torch.cat(latents)
        return {
            'validation_prediction': torch.cat(predictions).mean().item(),
            'validation_copy_last': torch.cat(copies).mean().item(),
            'validation_latent_std': latent_std(flat),
            'validation_effective_rank': effective_rank(flat),
        }

    def save(self, path: Path) -> None:
        """Write a checkpoint atomically."""
        state = {
            'settings': json.dumps(self.settings()),
            'model': self.model.state_dict(),
            'optimiser': self.optimiser.state_dict(),
            'step': self.step,
            'seconds': self.seconds,
            'rng': torch.get_rng_state(),
        }
        if self.device == 'cuda':
            state['cuda_rng'] = torch.cuda.get_rng_state()
        partial = path.with_suffix('.partial')
        torch.save(state, partial)
        os.replace(partial, path)

    def load(self, path: Path) -> None:
        """Continue from a checkpoint. Raises TrainingError naming a setting that differs."""
        state = torch.load(path, map_location=self.device, weights_only=True)
        then, now = json.loads(state['settings']), json.loads(json.dumps(self.settings()))
        for key, value in now.items():
            if then.get(key) != value:
                raise TrainingError(
                    f'checkpoint {path} was made with {key} {then.get(key)}, this run has '
                    f'{value}: start a new run folder, or use the same settings'
                )
        self.model.load_state_dict(state['model'])
        self.optimiser.load_state_dict(state['optimiser'])
        self.step, self.seconds = state['step'], state['seconds']
        torch.set_rng_state(state['rng'].cpu())
        if self.device == 'cuda' and 'cuda_rng' in state:
            torch.cuda.set_rng_state(state['cuda_rng'].cpu())

    def write(self, out: Path, provenance: dict[str, Any]) -> Bundle:
        """Write the model as a bundle; call after :meth:`validate`."""
        config = self.model.config
        manifest = Manifest(
            name=out.name,
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
            provenance=provenance,
        )
        return write_bundle(out, manifest, export_files(self.model, HORIZON))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('--data', nargs='+', type=Path, required=True, help='bags')
    parser.add_argument('--contract', default='reacher', help='contract file or name')
    parser.add_argument('--preset', choices=sorted(PRESETS), default='small')
    parser.add_argument('--out', type=Path, required=True, help='bundle folder to write')
    parser.add_argument(
        '--run', dest='folder', type=Path, help='run folder (default runs/NAME of the bundle)'
    )
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.add_argument('--steps', type=int, help="optimiser steps (default: the preset's)")
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='CPU threads')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--resume', action='store_true', help='continue the run folder')


def run(args: argparse.Namespace) -> int:
    """Train, validate, write checkpoints and the bundle."""
    contract = Contract.load(find('contract', args.contract))
    recipe = PRESETS[args.preset]
    if args.steps is not None:
        if args.steps < 1:
            raise TrainingError(f'--steps is {args.steps}: expected at least 1')
        recipe = replace(recipe, steps=args.steps)
    device = choose_device(args.device)
    keep_memory()
    torch.set_num_threads(args.threads)
    folder = args.folder or Path('runs') / args.out.name
    checkpoint = folder / 'checkpoint.pt'
    if args.out.exists() and not (args.out / MANIFEST).exists():
        raise TrainingError(f'--out {args.out} exists and is no bundle: choose another folder')
    if checkpoint.exists() and not args.resume:
        raise TrainingError(f'{checkpoint} exists: add --resume, or choose another --run folder')
    if args.resume and not checkpoint.exists():
        raise TrainingError(f'--resume: there is no {checkpoint}')
    folder.mkdir(parents=True, exist_ok=True)

    config = MODELS[args.preset](contract.action.size)
    windows = load_windows(
        args.data,
        contract,
        config.image_size,
        config.history,
        config.frameskip,
        folder.parent / 'cache',
    )
    trainer = Trainer(windows, contract, args.preset, recipe, device, args.seed)
    if args.resume:
        trainer.load(checkpoint)
    log.info('training on %s, %s', device, 'bfloat16' if trainer.bfloat16 else 'float32')

    metrics: dict[str, float] = {}
    with (
        open(folder / 'metrics.csv', 'a', newline='') as file,
        tqdm(total=recipe.steps, initial=trainer.step, unit='step', desc='train') as bar,
    ):
        rows = csv.writer(file)
        try:
            while trainer.step < recipe.steps:
                until = min(recipe.steps, (trainer.step // VALIDATE_EVERY + 1) * VALIDATE_EVERY)
                for row in trainer.run(until):
                    if file.tell() == 0:
                        rows.writerow([*row, 'validation_prediction'])
                    metrics = dict(row)
                    if trainer.step < until:
                        rows.writerow(row.values())
                    bar.set_postfix(
                        pred=f'{row["prediction"]:.4f}',
                        sigreg=f'{row["sigreg"]:.2f}',
                        std=f'{row["latent_std"]:.2f}',
                        rank=f'{row["effective_rank"]:.1f}',
                    )
                    bar.update(trainer.step - bar.n)
                metrics |= trainer.validate()
                rows.writerow([*row.values(), metrics['validation_prediction']])
                file.flush()
                trainer.save(checkpoint)
                bar.write(
                    f'step {trainer.step}: held-out prediction '
                    f'{metrics["validation_prediction"]:.4f} (copying the last latent: '
                    f'{metrics["validation_copy_last"]:.4f}), latent std '
                    f'{metrics["validation_latent_std"]:.2f}, effective rank '
                    f'{metrics["validation_effective_rank"]:.1f} of {config.latent_size}'
                )
        except KeyboardInterrupt:
            # Not saved here: the interrupt may have fallen into the middle of a step.
            bar.close()
            print('stopped; --resume continues from the last checkpoint', file=sys.stderr)
            raise
    metrics |= trainer.validate()
    provenance = {
        'command': ' '.join(['lewm', *sys.argv[1:]]),
        'data': [recording_command(bag) for bag in args.data],
        'preset': args.preset,
        'recipe': asdict(recipe),
        'seed': args.seed,
        'device': device,
        'precision': 'bfloat16' if trainer.bfloat16 else 'float32',
        'minutes': round(trainer.seconds / 60, 1),
        'frames': len(windows.images),
        'metrics': metrics,
    }
    bundle = trainer.write(args.out, provenance)
    print(f'wrote {bundle.path}')
    return 0
