# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The SIGReg weight λ for some bags, found by short trainings.

The paper calls its search a bisection and publishes neither bracket nor stopping rule. This one
halves a bracket of log λ around the best λ so far (:func:`search`), so n values of λ would take
O(log n) trainings.

The criterion is neither a loss nor a ratio of errors in latent space: both are lowest for latents
that collapse, or that leave out what is hard to predict, such as a pushed object. Images are the
same for every λ. So the latent predicted 4 blocks ahead, in held-out episodes and with the recorded
commands, is replaced by the nearest latent of a training frame, and the image of that frame is
compared with the recorded one. The figure is the **share of the image explained**: one minus the
squared difference over that of a random training frame. It is dimensionless. It should fall where
latents do not distinguish scenes (λ too small), and where they hold what cannot be predicted (λ too
large). Its standard error is over the held-out episodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
import logging
import math
from pathlib import Path

import numpy as np
import torch

from lewm_ros.errors import BagError, ModelError
from lewm_ros.planning.roadmap import assign
from lewm_ros.robot.contract import Contract
from lewm_ros.training.config import TrainConfig
from lewm_ros.training.device import choose_device, keep_memory
from lewm_ros.training.loader import normalised
from lewm_ros.training.run_folder import RunFolder
from lewm_ros.training.train import learn
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import Windows, load_windows

#: Bracket of λ, and trainings at most: three quarter the bracket, each other halves a quarter.
LOW, HIGH, TRAININGS = 0.01, 1.0, 4
#: Share of the episodes held out: more than in training, since their number makes the error.
HELD_OUT = 0.2
#: Held-out pairs of windows that are predicted, and training frames to choose from, at most.
WINDOWS, FRAMES = 4000, 4000
log = logging.getLogger('lewm')


@dataclass(frozen=True)
class Trial:
    """What a short training with one λ gave."""

    sigreg_weight: float
    explained: float  #: share of the image; -inf where training diverged or collapsed
    error: float  #: its standard error

    def within_noise_of(self, other: Trial) -> bool:
        """Whether the difference of the two shares is within their standard error."""
        return abs(self.explained - other.explained) <= math.hypot(self.error, other.error)


def search(
    evaluate: Callable[[float], tuple[float, float]],
    start: float,
    low: float = LOW,
    high: float = HIGH,
    most: int = TRAININGS,
) -> list[Trial]:
    """Find the λ of the largest share explained, which is assumed to have a single maximum.

    ``start`` and the logarithmic middles of the bracket's two halves come first. Then the search
    closes in on the best: it halves the gap to its better neighbour, or to the end of the bracket
    if the best is outermost. The search ends early if the best and its better neighbour are within
    noise of each other, as at a flat maximum.

    Args:
        evaluate: λ to share explained and standard error.
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
        best = max(ordered, key=lambda trial: trial.explained)
        place = ordered.index(best)
        neighbours = ordered[max(0, place - 1) : place] + ordered[place + 1 : place + 2]
        better = max(neighbours, key=lambda trial: trial.explained)
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
    best = max(trials, key=lambda trial: trial.explained)
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
    config = replace(config, held_out=HELD_OUT, refine=False)
    sizes = config.model(architecture, contract.action.size)
    windows = load_windows(
        list(data),
        contract,
        sizes.image_size,
        sizes.history,
        sizes.frameskip,
        folder.parent / 'cache',
    )
    pairs = chained(windows, windows.split(HELD_OUT, seed)[1])
    episodes = len(np.unique(windows.episodes[pairs[:, 0]]))
    if episodes < 2:
        raise BagError(
            f'{episodes} held-out episodes of {2 * sizes.history} blocks or more: tuning compares '
            'at least 2, a fifth of each bag; record 8 or more'
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
        return explained_share(trainer, pairs)

    trials = search(evaluate, config.sigreg_weight)
    if not math.isfinite(max(trial.explained for trial in trials)):
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


def chained(windows: Windows, chosen: np.ndarray) -> np.ndarray:
    """Pairs (n, 2) of windows (w,), ascending, where the second begins at the first one's end."""
    starts, ends = windows.frames[chosen, 0], windows.frames[chosen, -1]
    place = np.searchsorted(starts, ends).clip(max=len(starts) - 1)
    follows = starts[place] == ends
    return np.stack([chosen[follows], chosen[place[follows]]], axis=1)


@torch.no_grad()
def explained_share(trainer: Trainer, pairs: np.ndarray) -> tuple[float, float]:
    """Share of the image that is explained at the end of pairs (n, 2), and its standard error.

    The context is the first H frames of a pair; what follows is predicted H + 1 blocks ahead.
    """
    windows, model, size = trainer.windows, trainer.model, trainer.config.batch
    history = model.config.history
    rng = np.random.default_rng(trainer.seed)  # the same frames for every λ
    pairs = rng.permutation(pairs)[:WINDOWS]
    known = rng.permutation(np.unique(windows.frames[trainer.train]))[:FRAMES]
    latents = []
    for i in range(0, len(known), size):
        frames = torch.from_numpy(windows.images[known[i : i + size]]).to(trainer.device)
        latents.append(model.encode(normalised(frames)[None])[0].cpu().numpy())
    library = np.concatenate(latents)
    errors = []
    for i in range(0, len(pairs), size):
        first, second = pairs[i : i + size].T
        pixels, before = trainer.batch(first)
        _, after = trainer.batch(second)
        context, past = model.encode(pixels[:, :history]), before[:, : history - 1]
        plan = torch.cat([before[:, history - 1 :], after], dim=1)
        predicted = model.rollout(context, past, plan[:, None])[:, 0, -1].cpu().numpy()
        seen = windows.images[windows.frames[second, -1]].astype(np.float32)
        compared = known[assign(predicted, library)[0]], rng.choice(known, len(first))
        errors.append([np.square(windows.images[c] - seen).mean(axis=(1, 2, 3)) for c in compared])
    found, random = np.concatenate(errors, axis=1)
    of = windows.episodes[pairs[:, 0]]
    shares = [1 - found[of == episode].mean() / random.mean() for episode in np.unique(of)]
    return float(np.mean(shares)), float(np.std(shares, ddof=1) / math.sqrt(len(shares)))
