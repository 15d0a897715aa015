# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm train`: learn a world model from bags, and write it as a bundle."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
import logging
import math
import os
from pathlib import Path
import signal
import sys
import time
from typing import Any

import numpy as np
import torch
import yaml

from lewm_ros import __version__
from lewm_ros.bags.episodes import recording_command
from lewm_ros.bundle import CARD, MANIFEST, write_bundle
from lewm_ros.errors import TrainingError
from lewm_ros.files import find
from lewm_ros.model import PRESETS as MODELS
from lewm_ros.progress import progress
from lewm_ros.robot.contract import Contract
from lewm_ros.training.device import choose_device, keep_memory
from lewm_ros.training.presets import PRESETS
from lewm_ros.training.run_folder import RunFolder
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import load_windows

VALIDATE_EVERY = 500
#: An export takes a minute or so: the folder's bundle is made anew no more often than this [s].
EXPORT_EVERY = 1200.0
log = logging.getLogger('lewm')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('--data', nargs='+', type=Path, required=True, help='one bag or more')
    parser.add_argument('--contract', default='reacher', help='contract file or name')
    parser.add_argument('--preset', choices=sorted(PRESETS), default='small')
    parser.add_argument(
        '--out', type=Path, required=True, help='bundle folder, written or replaced at the end'
    )
    parser.add_argument(
        '--run', dest='folder', type=Path, help='run folder (default runs/NAME of the bundle)'
    )
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.add_argument('--steps', type=int, help="optimiser steps (default: the preset's)")
    parser.add_argument('--lr', type=float, help="peak learning rate (default: the preset's)")
    parser.add_argument(
        '--colour-jitter',
        type=float,
        default=0.0,
        metavar='STRENGTH',
        help='mix the colours of each training frame at random, so that the model does not heed '
        'them; 1 is strong (default: 0, not at all)',
    )
    parser.add_argument('--threads', type=int, default=os.cpu_count(), help='CPU threads')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--resume', action='store_true', help='continue the run folder')


def run(args: argparse.Namespace) -> int:
    """Train, validate, write checkpoints and the bundle."""
    folder = RunFolder(args.folder or Path('runs') / args.out.name)
    if args.out.exists() and not (args.out / MANIFEST).exists():
        raise TrainingError(f'--out {args.out} exists and is no bundle: choose another folder')
    if folder.checkpoint.exists() and not args.resume:
        raise TrainingError(
            f'{folder.checkpoint} exists: add --resume, or choose another --run folder'
        )
    if args.resume and not folder.checkpoint.exists():
        raise TrainingError(f'--resume: there is no {folder.checkpoint}')
    trainer = _trainer(args, folder.path.parent / 'cache')
    for bag in _bags(trainer):
        log.info('%(path)s: %(held_out)d of %(episodes)d episodes held out', bag)
    log.info('training on %s, %s', trainer.device, 'bfloat16' if trainer.bfloat16 else 'float32')
    with folder.claimed():
        if args.resume:
            trainer.load(folder.checkpoint)
            folder.go_back(trainer.step)
        else:
            folder.begin(_config(args, trainer))
        with _stops(trainer):
            losses = _train(trainer, folder, args.out.name)
        if trainer.step < trainer.recipe.steps:
            trainer.save(folder.checkpoint)
            print(f'stopped at step {trainer.step}: --resume continues there', file=sys.stderr)
            raise KeyboardInterrupt
        manifest = trainer.manifest(args.out.name, _provenance(trainer, folder, losses))
        files = trainer.files()
        write_bundle(folder.bundle, manifest, files)
    if (args.out / CARD).is_file():
        files[CARD] = args.out / CARD
    bundle = write_bundle(args.out, manifest, files)
    for bag in manifest.provenance['bags']:
        print(
            f'{bag["name"]}: {_losses(bag)}' if bag['held_out'] else f'{bag["name"]}: none held out'
        )
    print(f'wrote {bundle.path}')
    return 0


def _trainer(args: argparse.Namespace, cache: Path) -> Trainer:
    contract = Contract.load(find('contract', args.contract))
    recipe = PRESETS[args.preset]
    if args.steps is not None:
        if args.steps < 1:
            raise TrainingError(f'--steps is {args.steps}: expected at least 1')
        recipe = replace(recipe, steps=args.steps)
    if args.lr is not None:
        if not 0 < args.lr < math.inf:
            raise TrainingError(f'--lr is {args.lr}: expected more than 0')
        recipe = replace(recipe, rate=args.lr)
    if not 0 <= args.colour_jitter < math.inf:
        raise TrainingError(f'--colour-jitter is {args.colour_jitter}: expected 0 or more')
    recipe = replace(recipe, colour_jitter=args.colour_jitter)
    device = choose_device(args.device)
    keep_memory()
    torch.set_num_threads(args.threads)
    config = MODELS[args.preset](contract.action.size)
    windows = load_windows(
        args.data, contract, config.image_size, config.history, config.frameskip, cache
    )
    return Trainer(windows, contract, args.preset, recipe, device, args.seed)


def _train(trainer: Trainer, folder: RunFolder, name: str) -> list[dict[str, float]]:
    """Train to the end, or until stopped; returns the held-out losses of each bag."""
    steps = trainer.recipe.steps
    losses: list[dict[str, float]] = []
    exported = time.monotonic()
    with progress(total=steps, initial=trainer.step, unit='step', desc='train') as bar:
        while trainer.step < steps:
            until = min(steps, (trainer.step // VALIDATE_EVERY + 1) * VALIDATE_EVERY)
            for row in trainer.run(until):
                if trainer.step < until:
                    folder.add(row)
                bar.set_postfix(
                    pred=f'{row["prediction"]:.4f}',
                    sigreg=f'{row["sigreg"]:.2f}',
                    std=f'{row["latent_std"]:.2f}',
                    rank=f'{row["effective_rank"]:.1f}',
                )
                bar.update(trainer.step - bar.n)
            if trainer.step < until:
                return []
            figures, losses = trainer.validate()
            # The row before the checkpoint: what a checkpoint has seen is never missing.
            folder.add(row | figures)
            trainer.save(folder.checkpoint)
            folder.draw()
            bar.write(
                f'step {trainer.step}: {_losses(figures)}, latent std '
                f'{figures["validation_latent_std"]:.2f}, effective rank '
                f'{figures["validation_effective_rank"]:.1f} of '
                f'{trainer.model.config.latent_size}'
            )
            if trainer.step < steps and time.monotonic() - exported >= EXPORT_EVERY:
                manifest = trainer.manifest(name, _provenance(trainer, folder, losses))
                write_bundle(folder.bundle, manifest, trainer.files())
                exported = time.monotonic()
    return losses or trainer.validate()[1]  # a run that was killed after its last step


def _losses(figures: Mapping[str, float]) -> str:
    return (
        f'held-out prediction {figures["validation_prediction"]:.4f} (copying the last latent: '
        f'{figures["validation_copy_last"]:.4f})'
    )


@contextmanager
def _stops(trainer: Trainer) -> Iterator[None]:
    """Let the first Ctrl-C, or SIGTERM, end the run after the step it is in."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def stop(number: int, frame: object) -> None:
        trainer.stopping = True
        restore()
        print('\nstopping after this step; once more to stop at once', file=sys.stderr)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _bags(trainer: Trainer) -> list[dict[str, Any]]:
    """Describe the bags and what is held out of each."""
    windows = trainer.windows
    held_out = [
        len(np.unique(windows.episodes[trainer.held_out][windows.sources[trainer.held_out] == i]))
        for i in range(len(windows.bags))
    ]
    return [
        {
            'path': str(bag.path),
            'recorded_by': recording_command(bag.path),
            'sha256': bag.hashes,
            **{key: value for key, value in asdict(bag.summary).items() if key != 'refused'},
            'held_out': count,
        }
        for bag, count in zip(windows.bags, held_out)
    ]


def _config(args: argparse.Namespace, trainer: Trainer) -> dict[str, Any]:
    """Everything needed to run it again."""
    return {
        'command': ' '.join(['lewm', *sys.argv[1:]]),
        'bags': _bags(trainer),
        'contract': trainer.contract.to_dict(),
        'preset': trainer.preset,
        'recipe': asdict(trainer.recipe),
        'seed': trainer.seed,
        'device': trainer.device,
        'precision': 'bfloat16' if trainer.bfloat16 else 'float32',
        'threads': args.threads,
        'versions': {'lewm_ros': __version__, 'torch': str(torch.__version__)},
    }


def _provenance(
    trainer: Trainer, folder: RunFolder, losses: list[dict[str, float]]
) -> dict[str, Any]:
    """What a bundle says of its making."""
    config = yaml.safe_load(folder.config.read_text())
    kept = ('command', 'preset', 'recipe', 'seed', 'device', 'precision', 'versions')
    return {
        **{key: config[key] for key in kept},
        'data': [bag['recorded_by'] for bag in config['bags']],
        'bags': [
            {
                'name': Path(bag['path']).name,
                **{
                    key: bag[key] for key in ('sha256', 'episodes', 'held_out', 'frames', 'windows')
                },
                **found,
            }
            for bag, found in zip(config['bags'], losses)
        ],
        'minutes': round(trainer.seconds / 60, 1),
        'frames': len(trainer.windows.images),
        'metrics': folder.last(),
    }
