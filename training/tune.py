# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The SIGReg weight λ for some bags, found by short trainings.

The paper calls its search a bisection and publishes neither bracket nor stopping rule. This one
halves a bracket of log λ around the best λ so far (:func:`search`), so n values of λ would take
O(log n) trainings.

What is compared is no loss: latents that shrink or collapse have a low one, so losses of different
λ do not compare. It is the **contrast of commands** in held-out episodes: how much larger the
squared error 4 blocks ahead becomes with the commands that another window has in one dimension,
``log(error with others / error with its own)``, mean over the dimensions of the command. That is
what a planner tells plans apart by, with the recorded future as its goal. It has no scale. It
falls to 0 where latents collapse or do not show a command (λ too small), and where they hold what
cannot be predicted (λ too large). Its standard error is over the held-out episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import logging
import math
from pathlib import Path

import numpy as np
import torch

from lewm_ros.bundle import Bundle
from lewm_ros.engines.torch_engine import ReferenceEngine
from lewm_ros.errors import BagError, ModelError
from lewm_ros.evaluation.held_out import AHEAD, HeldOutWindows
from lewm_ros.evaluation.planability import Recordings
from lewm_ros.robot.contract import Contract
from lewm_ros.training.config import TrainConfig
from lewm_ros.training.device import choose_device, keep_memory
from lewm_ros.training.run_folder import RunFolder
from lewm_ros.training.train import describe_bags, learn
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import load_windows

#: Bracket of λ, and trainings at most: three quarter the bracket, each other halves a quarter.
LOW, HIGH, TRAININGS = 0.01, 1.0, 4
#: Share of the episodes held out: more than in training, since their number makes the error.
HELD_OUT = 0.2
log = logging.getLogger('lewm')


@dataclass(frozen=True)
class Trial:
    """What a short training with one λ gave."""

    sigreg_weight: float
    contrast: float  #: -inf where training diverged or the latents collapsed
    error: float  #: standard error of the contrast

    def within_noise_of(self, other: Trial) -> bool:
        """Whether the difference of the two contrasts is within their standard error."""
        return abs(self.contrast - other.contrast) <= math.hypot(self.error, other.error)


def search(
    evaluate: Callable[[float], tuple[float, float]],
    start: float,
    low: float = LOW,
    high: float = HIGH,
    most: int = TRAININGS,
) -> list[Trial]:
    """Look for the λ of the largest contrast, which is taken to have one top, flat or not.

    ``start`` and the middles of the bracket's halves come first, on a logarithmic scale. Then the
    bracket closes on the best: the gap to its better neighbour is halved, or to the end of the
    bracket where the best is the outermost. The top is flat, and the search over, where the best
    and its better neighbour are within noise of each other.

    Args:
        evaluate: λ to contrast and standard error.
        start: first λ.
        low: lower end of the bracket, not evaluated.
        high: upper end, likewise.
        most: evaluations, at least 3.

    Returns:
        The evaluations in their order.

    """
    trials = [Trial(weight, *evaluate(weight)) for weight in _first(start, low, high)]
    while len(trials) < most:
        ordered = sorted(trials, key=lambda trial: trial.sigreg_weight)
        best = max(ordered, key=lambda trial: trial.contrast)
        place = ordered.index(best)
        neighbours = ordered[max(0, place - 1) : place] + ordered[place + 1 : place + 2]
        better = max(neighbours, key=lambda trial: trial.contrast)
        if best.within_noise_of(better):
            break
        end = better.sigreg_weight
        if len(neighbours) == 1:
            end = low if place == 0 else high
        weight = _between(best.sigreg_weight, end)
        trials.append(Trial(weight, *evaluate(weight)))
    return trials


def choose(trials: Sequence[Trial], start: float) -> Trial:
    """Return the trial nearest to ``start`` of those within noise of the best."""
    best = max(trials, key=lambda trial: trial.contrast)
    close = [trial for trial in trials if trial is best or trial.within_noise_of(best)]
    return min(close, key=lambda trial: abs(math.log(trial.sigreg_weight / start)))


def tune(
    data: Sequence[Path],
    contract: Contract,
    architecture: str,
    config: TrainConfig,
    folder: Path,
    threads: int = 1,
    seed: int = 0,
) -> list[Trial]:
    """Train for a short time with a few λ, and measure each on held-out episodes.

    Args:
        data: bags.
        contract: of the robot that they are of.
        architecture: name of one in ``lewm_ros.model.ARCHITECTURES``.
        config: of the short trainings; its λ is the first.
        folder: of the runs, each in :func:`run_folder`; those that are there are continued. Bags
            that were read are cached beside it.
        threads: of the processor.
        seed: of weights, batches, dropout and projections, the same for every λ.

    Raises:
        LewmError: the data, the folders or a setting are wrong, or no training succeeded.
        KeyboardInterrupt: stopped by a signal; the checkpoint is written.

    """
    device = choose_device('auto')
    keep_memory()
    torch.set_num_threads(threads)
    config = replace(config, held_out=HELD_OUT)
    sizes = config.model(architecture, contract.action.size)
    windows = load_windows(
        list(data),
        contract,
        sizes.image_size,
        sizes.history,
        sizes.frameskip,
        folder.parent / 'cache',
    )
    episodes = len(np.unique(windows.episodes[windows.split(HELD_OUT, seed)[1]]))
    if episodes < 2:
        raise BagError(
            f'{episodes} episode to hold out: tuning compares at least 2, a fifth of each bag; '
            'record 8 or more'
        )

    def evaluate(weight: float) -> tuple[float, float]:
        changed = replace(config, sigreg_weight=weight)
        trainer = Trainer(windows, contract, architecture, changed, device, seed)
        run = run_folder(folder, weight)
        with run.claimed():
            if run.checkpoint.exists():
                trainer.load(run.checkpoint)
            log.info('training with SIGReg weight %g', weight)
            try:
                learn(trainer, run, contract.name, threads)
            except ModelError as error:
                log.warning('SIGReg weight %g: %s', weight, error)
                return -math.inf, 0.0
            if trainer.step < config.steps:
                log.info('stopped at step %d: the same command continues there', trainer.step)
                raise KeyboardInterrupt
        return _contrast(trainer, run, data, threads)

    trials = search(evaluate, config.sigreg_weight)
    if not math.isfinite(max(trial.contrast for trial in trials)):
        raise ModelError('no training succeeded, see the warnings: try more steps')
    return trials


def run_folder(folder: Path, weight: float) -> RunFolder:
    """Return the run folder of a λ."""
    return RunFolder(folder / f'sigreg_{weight:g}')


def _first(start: float, low: float, high: float) -> tuple[float, float, float]:
    return start, _between(low, start), _between(start, high)


def _between(one: float, other: float) -> float:
    """Return the logarithmic middle, to two digits."""
    return float(f'{math.sqrt(one * other):.2g}')


def _contrast(
    trainer: Trainer, run: RunFolder, data: Sequence[Path], threads: int
) -> tuple[float, float]:
    """Contrast of the commands in the held-out episodes, and its standard error over them."""
    manifest = trainer.manifest(run.path.name, {'bags': describe_bags(trainer)})
    bundle = Bundle(run.path, manifest)  # in memory alone
    ahead = min(AHEAD, bundle.spec.horizon)
    engine = ReferenceEngine(bundle, threads, 'f32', trainer.device, ahead, trainer.model)
    found = []
    for episode in Recordings.of_bags(bundle, engine, data).episodes:
        try:
            windows = HeldOutWindows(bundle, [episode], np.random.default_rng(0))
        except BagError:  # too short for a plan
            continue
        dimensions = windows.dimensions(windows.predict(engine), None, 0.0)
        found.append(np.mean([math.log(dimension.ratio) for dimension in dimensions]))
    if len(found) < 2:
        raise BagError(
            f'{len(found)} held-out episodes of at least '
            f'{(bundle.spec.history + ahead - 1) * bundle.spec.block:g} s: tuning compares 2 or '
            'more; record longer ones'
        )
    return float(np.mean(found)), float(np.std(found, ddof=1) / math.sqrt(len(found)))
