# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Learn a world model from bags, and write it as a bundle."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
import logging
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
from lewm_ros.bundle import CARD, Bundle, check_writable, name_of, refuse_other, write_bundle
from lewm_ros.errors import LewmError, ModelError
from lewm_ros.progress import progress
from lewm_ros.robot.contract import Contract
from lewm_ros.training.config import TrainConfig
from lewm_ros.training.device import choose_device, keep_memory
from lewm_ros.training.distributed import begin, end, first_rank_first, rank, world_size
from lewm_ros.training.frozen import load_encoder
from lewm_ros.training.run_folder import RunFolder
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import load_windows

VALIDATE_EVERY = 500
#: Shortest time between exports of the run folder's bundle, each of which takes a minute [s].
EXPORT_EVERY = 1200.0
log = logging.getLogger('lewm')


def train(
    data: Sequence[Path],
    contract: Contract,
    architecture: str,
    config: TrainConfig,
    out: Path,
    folder: RunFolder,
    device: str = 'auto',
    threads: int = 1,
    seed: int = 0,
    resume: bool = False,
    frozen_encoder: Path | None = None,
    cache: Path | None = None,
    shared: bool = True,
) -> Bundle | None:
    """Train, validate, write checkpoints and the bundle.

    Under ``torchrun`` several processes do, and the first of them writes.

    With ``config.refine`` the first process then trains the predictor for as many steps more, on
    the latents of the finished encoder: before, it follows latents that still change. These steps
    are fast, since each frame is encoded once. Where they fail, the bundle is that of before.

    Args:
        data: bags.
        contract: of the robot that they are of.
        architecture: name of one in ``lewm_ros.model.ARCHITECTURES``.
        config: how to train it.
        out: bundle folder, written or replaced at the end.
        folder: of the run.
        device: 'auto', 'cpu' or 'cuda'.
        threads: of the processor.
        seed: of weights, batches, dropout and projections.
        resume: continue the run in the folder.
        frozen_encoder: ONNX file of an encoder that is not trained, or a bundle whose encoder is
            kept with its weights; see :mod:`lewm_ros.training.frozen`.
        cache: folder of bags that were read; None: ``cache`` beside the run folder.
        shared: whether the processes of torchrun train together, rather than this one alone.

    Returns:
        The bundle; None in the processes that do not write it.

    Raises:
        LewmError: the data, the folders or a setting are wrong, or training has diverged.
        KeyboardInterrupt: the run was stopped by a signal; its checkpoint is written.

    """
    refuse_other(out)
    check_writable(out)
    if folder.path.resolve().is_relative_to(out.resolve()):
        raise ModelError(
            f'run folder {folder.path} lies in bundle {out}: choose another with --run'
        )
    cache = cache or folder.path.parent / 'cache'
    if folder.checkpoint.exists() and not resume:
        raise ModelError(
            f'{folder.checkpoint} exists: add --resume, or choose another --run folder'
        )
    if resume and not folder.checkpoint.exists():
        raise ModelError(f'--resume: there is no {folder.checkpoint}')
    device = choose_device(device)
    keep_memory()
    torch.set_num_threads(threads)
    if shared:
        begin(device, config.batch)
    writes = rank() == 0
    alone = RunFolder(folder.path / 'predictor')

    def refine() -> Bundle | None:
        log.info('%d steps of the predictor alone', config.steps)
        weight = TrainConfig.sigreg_weight  # there is no SIGReg
        return train(
            data,
            contract,
            architecture,
            replace(config, colour_jitter=0.0, image_size=None, sigreg_weight=weight),
            out,
            alone,
            device,
            threads,
            seed,
            resume and alone.checkpoint.exists(),
            folder.bundle,
            cache,
            shared=False,
        )

    if resume and frozen_encoder is None and alone.checkpoint.exists():
        end()
        if not writes:
            return None
        with folder.claimed():  # the encoder is finished, and stays as it is
            return refine()
    frozen = None if frozen_encoder is None else load_encoder(frozen_encoder, threads)
    if frozen is not None:
        frozen.check(contract)
        config = replace(config, refine=False)
    sizes = config.model(architecture, contract.action.size, frozen)
    with first_rank_first():
        windows = load_windows(
            list(data),
            contract,
            sizes.image_size,
            sizes.history,
            sizes.frameskip,
            cache,
        )
        if frozen is not None:
            windows = frozen.encoded(windows, cache)
    trainer = Trainer(windows, contract, architecture, config, device, seed, frozen)
    for bag in _bags(trainer):
        log.info('%(path)s: %(held_out)d of %(episodes)d episodes held out', bag)
    precision = 'bfloat16' if trainer.bfloat16 else 'float32'
    log.info('training on %s, %s, processes: %d', trainer.device, precision, world_size())
    with folder.claimed() if writes else nullcontext():
        if resume:
            trainer.load(folder.checkpoint)
        losses = learn(trainer, folder, name_of(out), threads)
        end()
        if trainer.step < config.steps:
            log.info('stopped at step %d: --resume continues there', trainer.step)
            raise KeyboardInterrupt
        if not writes:
            return None
        manifest = trainer.manifest(name_of(out), _provenance(trainer, folder, losses))
        files = trainer.files()
        write_bundle(folder.bundle, manifest, files)
        if config.refine:
            try:
                return refine()
            except (LewmError, OSError) as error:  # the bundle works without
                log.warning('the predictor is not trained alone: %s', error)
    if (out / CARD).is_file():
        files[CARD] = out / CARD
    return write_bundle(out, manifest, files)


def learn(trainer: Trainer, folder: RunFolder, name: str, threads: int) -> list[dict[str, float]]:
    """Train to the end, or until a signal stops it; a checkpoint is written either way.

    Args:
        trainer: new, or loaded from the folder's checkpoint; it is left in eval mode.
        folder: of the run, claimed.
        name: of the bundle that is exported at times.
        threads: of the processor.

    Returns:
        The held-out losses of each bag; none where it was stopped.

    Raises ModelError where training has diverged.

    """
    if rank() == 0:
        if trainer.step:
            folder.go_back(trainer.step)
        else:
            folder.begin(_config(trainer, threads))
    with _stops(trainer):
        losses = _train(trainer, folder, name)
    if trainer.step < trainer.config.steps:
        trainer.save(folder.checkpoint)
    return losses


def _train(trainer: Trainer, folder: RunFolder, name: str) -> list[dict[str, float]]:
    """Train to the end, or until stopped; returns the held-out losses of each bag."""
    steps, writes = trainer.config.steps, rank() == 0
    losses: list[dict[str, float]] = []
    exported = time.monotonic()
    with progress(
        total=steps, initial=trainer.step, unit='step', desc='train', disable=not writes
    ) as bar:
        while trainer.step < steps:
            until = min(steps, (trainer.step // VALIDATE_EVERY + 1) * VALIDATE_EVERY)
            for row in trainer.run(until):
                if writes and trainer.step < until:
                    folder.add(row)
                bar.set_postfix(
                    pred=f'{row["prediction"]:.4f}',
                    reg=f'{row["regulariser"]:.2f}',
                    std=f'{row["latent_std"]:.2f}',
                    rank=f'{row["effective_rank"]:.1f}',
                )
                bar.update(trainer.step - bar.n)
            if trainer.step < until:
                return []
            metrics, losses = trainer.validate()
            if writes:  # before the checkpoint: what it has seen is never missing
                folder.add(row | metrics)
            trainer.save(folder.checkpoint)
            if not writes:
                continue
            folder.draw()
            bar.write(
                f'step {trainer.step}: {describe_losses(metrics)}, latent std '
                f'{metrics["validation_latent_std"]:.2f}, effective rank '
                f'{metrics["validation_effective_rank"]:.1f} of '
                f'{trainer.model.config.latent_size}, straightness '
                f'{metrics["validation_straightness"]:.2f}'
            )
            if trainer.step < steps and time.monotonic() - exported >= EXPORT_EVERY:
                manifest = trainer.manifest(name, _provenance(trainer, folder, losses))
                write_bundle(folder.bundle, manifest, trainer.files())
                exported = time.monotonic()
    return losses or trainer.validate()[1]  # a run that was killed after its last step


def describe_losses(metrics: Mapping[str, float]) -> str:
    """Name both held-out losses, for people."""
    return (
        f'held-out prediction {metrics["validation_prediction"]:.4f} (copying the last latent: '
        f'{metrics["validation_copy_last"]:.4f})'
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
        if rank() == 0:
            print('\nstopping after this step; once more to stop at once', file=sys.stderr)

    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        restore()


def _bags(trainer: Trainer) -> list[dict[str, Any]]:
    """Describe the bags and what is held out of each."""
    windows, chosen = trainer.windows, trainer.held_out
    first = np.cumsum([0, *(bag.summary.episodes for bag in windows.bags)])
    held_out = [
        np.unique(windows.episodes[chosen][windows.sources[chosen] == i]) - first[i]
        for i in range(len(windows.bags))
    ]
    return [
        {
            'path': str(bag.path),
            'recorded_by': recording_command(bag.path),
            'sha256': bag.hashes,
            **{key: value for key, value in asdict(bag.summary).items() if key != 'refused'},
            'held_out': len(numbers),
            'held_out_episodes': numbers.tolist(),  # in the order of the bag, from 0
        }
        for bag, numbers in zip(windows.bags, held_out)
    ]


def _config(trainer: Trainer, threads: int) -> dict[str, Any]:
    """Everything needed to run it again."""
    return {
        'command': ' '.join(['lewm', *sys.argv[1:]]),
        'bags': _bags(trainer),
        'contract': trainer.contract.to_dict(),
        'model': trainer.architecture,
        'config': asdict(trainer.config),
        'frozen_encoder': trainer.settings()['frozen_encoder'],
        'seed': trainer.seed,
        'device': trainer.device,
        'precision': 'bfloat16' if trainer.bfloat16 else 'float32',
        'threads': threads,
        'processes': world_size(),
        'versions': {'lewm_ros': __version__, 'torch': str(torch.__version__)},
    }


def _provenance(
    trainer: Trainer, folder: RunFolder, losses: list[dict[str, float]]
) -> dict[str, Any]:
    """What a bundle says of its making."""
    config = yaml.safe_load(folder.config.read_text())
    kept = (
        'command',
        'model',
        'config',
        'frozen_encoder',
        'seed',
        'device',
        'precision',
        'versions',
    )
    return {
        **{key: config[key] for key in kept},
        'data': [bag['recorded_by'] for bag in config['bags']],
        'bags': [
            {
                'name': Path(bag['path']).name,
                **{
                    key: bag[key]
                    for key in (
                        *('sha256', 'episodes', 'held_out', 'held_out_episodes'),
                        *('frames', 'windows'),
                    )
                },
                **found,
            }
            for bag, found in zip(config['bags'], losses)
        ],
        **({} if trainer.frozen is None else trainer.frozen.provenance),
        'minutes': round(trainer.seconds / 60, 1),
        'frames': len(trainer.windows.images),
        'metrics': folder.last(),
    }
