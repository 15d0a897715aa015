# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm evaluate BUNDLE --voe`: what surprises the model, and what it does not notice.

The violation-of-expectation test of the LeWorldModel paper, with the planner driving: episodes are
equal up to a moment, and then either continue normally or are perturbed.
"""

from __future__ import annotations

from collections.abc import Sequence
import hashlib
from typing import Any

import numpy as np
from tqdm import tqdm

from lewm_ros.api import thresholds_of
from lewm_ros.bags.episodes import Episode
from lewm_ros.bundle import Bundle, Calibration
from lewm_ros.engines import Engine
from lewm_ros.evaluation.closed_loop import PlannerPolicy, any_goals
from lewm_ros.evaluation.detection import (
    Trial,
    auroc,
    detection_figures,
    monitor_figures,
    share,
)
from lewm_ros.evaluation.scoring import score_episode
from lewm_ros.evaluation.voe_figure import BEFORE
from lewm_ros.planning import PlannerConfig
from lewm_ros.progress import progress
from lewm_ros.robot.imaging import prepare
from lewm_ros.sim import Task
from lewm_ros.sim.collect import START, simulate
from lewm_ros.sim.perturbations import DRIFT_PERIOD, PERTURBATIONS
from lewm_ros.time import NS_PER_S

#: False alarms that are less likely than this are more than alpha promises.
RARE = 0.05
#: Time in which an event must be detected, for abrupt kinds and for slowly growing ones [s].
ABRUPT, SLOW = 1.0, DRIFT_PERIOD
#: An episode continues for this long afterwards [s].
REST = 1.5
#: The monitor for kinds that the surprise score may miss.
MONITORS = {'freeze': 'frozen_camera', 'drift': 'drift'}


class EncodedOnce:
    """An engine that caches latents of equal images, shared by planner and score within a trial."""

    name: str
    provider: str
    precision: str
    rollout: Any

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._latents: dict[bytes, np.ndarray] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Return the latent (D,) of an image (S, S, 3) uint8."""
        key = hashlib.sha256(image.tobytes()).digest()
        if key not in self._latents:
            self._latents[key] = self._engine.encode(image)
        return self._latents[key]

    def forget(self) -> None:
        """Clear the cache at the start of a trial."""
        self._latents.clear()


class Trials:
    """Runs trials of one task under the planner, with new goals as in calibration data.

    Args:
        bundle: the model.
        task: what it drives.
        engine: runs the bundle; its horizon is at least that of planner and calibration.
        config: of the planner.
        calibration: thresholds of all detectors.

    """

    def __init__(
        self,
        bundle: Bundle,
        task: Task,
        engine: Engine,
        config: PlannerConfig,
        calibration: Calibration,
    ) -> None:
        self._bundle, self._task, self._calibration = bundle, task, calibration
        self._engine = EncodedOnce(engine)
        self._policy = PlannerPolicy(
            bundle, bundle.contract, self._engine, config, task, *any_goals(task)
        )

    def run(
        self, kinds: Sequence[str], seed: tuple[int, int], bar: tqdm
    ) -> tuple[Trial, dict[str, Trial]]:
        """Run an episode without an event, and for each kind one with such an event.

        The episodes are equal up to the event. It occurs at a random time within a goal, once
        there have been scores for a while.
        """
        manifest = self._bundle.manifest
        rng = np.random.default_rng(seed)
        full = (manifest.history - 1 + self._calibration.horizon) * self._bundle.block
        time = full + BEFORE + rng.uniform(0, self._task.goal_seconds)
        phase = rng.uniform(0, self._bundle.contract.period)
        self._engine.forget()

        def drive(kind: str | None, seconds: float) -> tuple[Episode, int]:
            self._task.rng = np.random.default_rng((*seed, 1))
            return self._drive(kind, time, time + seconds + REST, phase)

        usual, moment = drive(None, max(watched(kind) for kind in kinds))
        normal = self._trial(usual, usual, moment)
        bar.update()
        trials = {}
        for kind in kinds:
            episode, moment = drive(kind, watched(kind))
            trials[kind] = self._trial(episode, usual, moment)
            bar.update()
        return normal, trials

    def _drive(
        self, kind: str | None, time: float, seconds: float, phase: float
    ) -> tuple[Episode, int]:
        """Run an episode, perturbed at the first command from ``time`` [s] on.

        Returns the episode and the stamp of that command [ns].
        """
        bundle, task = self._bundle, self._task
        size, crop = bundle.manifest.image_size, bundle.contract.camera.crop
        rate = self._policy.camera_rate
        images, actions = [], []
        due, moment = START + round(time * NS_PER_S), 0
        task.reset()
        for what, stamp, value in simulate(
            task, bundle.contract, self._policy, seconds, rate, phase, START
        ):
            if what == 'image':
                images.append((stamp, prepare(value, size, crop)))
            elif what == 'action':
                actions.append((stamp, value))
                if not moment and stamp >= due:
                    moment = stamp
                    if kind is not None:
                        task.perturb(kind)
        episode = Episode(
            np.array([stamp for stamp, _ in images]),
            np.stack([image for _, image in images]),
            np.array([stamp for stamp, _ in actions]),
            np.stack([action for _, action in actions]),
            None,
        )
        return episode, moment

    def _trial(self, episode: Episode, usual: Episode, moment: int) -> Trial:
        """Score an episode; the first frame unlike the ``usual`` one can show the event."""
        scored = score_episode(
            self._bundle,
            self._engine,
            episode,
            self._calibration.horizon,
            thresholds_of(self._calibration),
        )
        after = np.flatnonzero(episode.stamps > moment)
        shown = next(
            (i for i in after if not np.array_equal(episode.images[i], usual.images[i])), after[0]
        )
        inside = (scored.stamps >= episode.stamps[shown]) & (
            scored.stamps <= episode.stamps[shown] + ABRUPT * NS_PER_S
        )
        peak = int(np.argmax(np.where(inside, scored.scores, -np.inf)))
        image = episode.images[np.searchsorted(episode.stamps, scored.stamps[peak])]
        return Trial(
            began=int(episode.stamps[after[0]]),
            shown=int(episode.stamps[shown]),
            stamps=scored.stamps,
            scores=scored.scores,
            events=scored.events,
            strangest=(np.stack([scored.predicted[peak], self._engine.encode(image)]), image),
        )


def watched(kind: str) -> float:
    """Time in which an event of this kind must be detected [s]."""
    return ABRUPT if PERTURBATIONS[kind].abrupt else SLOW


def summarise(
    normal: list[Trial], trials: dict[str, list[Trial]], calibration: Calibration, seed: int
) -> dict[str, Any]:
    """Figures of all kinds, beside those of no event.

    Balanced accuracy is the mean of two shares: trials with an abrupt physical event in which an
    alarm begins within the time, and normal ones in which none does.
    """
    kinds: dict[str, dict[str, Any]] = {}
    for kind, done in trials.items():
        seconds = watched(kind)
        kinds[kind] = detection_figures(done, normal, seconds, seed)
        monitor = MONITORS.get(kind)
        if monitor is not None and (monitor != 'drift' or calibration.drift is not None):
            lasts = PERTURBATIONS[kind].seconds or seconds
            kinds[kind]['monitor'] = monitor_figures(done, monitor, lasts)
    alarms = [n.detection('surprise', n.shown, ABRUPT) for n in normal]
    quiet = share('quiet', alarms.count(None), len(alarms))
    physical = [k for k in kinds if PERTURBATIONS[k].physical and PERTURBATIONS[k].abrupt]
    both = None
    if {'teleport', 'colour'} <= set(trials):
        peaks = {
            kind: np.array([t.peak(t.shown, ABRUPT) for t in trials[kind]])
            for kind in ('teleport', 'colour')
        }
        both = auroc(peaks['teleport'], peaks['colour'])
    return {
        'alpha': calibration.alpha,
        'horizon': calibration.horizon,
        'threshold': calibration.threshold,
        'kinds': kinds,
        'normal': {**quiet, 'n': len(normal)},
        'teleport_vs_colour_auroc': both,
        'balanced_accuracy': (
            (np.mean([kinds[k]['detected'] for k in physical]) + quiet['quiet']) / 2
            if physical
            else None
        ),
    }


def run_trials(
    protocol: Trials, kinds: Sequence[str], count: int, seed: int
) -> tuple[list[Trial], dict[str, list[Trial]]]:
    """Run ``count`` episodes without an event, and as many of each kind; see :class:`Trials`."""
    normal: list[Trial] = []
    trials: dict[str, list[Trial]] = {kind: [] for kind in kinds}
    with progress(total=count * (1 + len(kinds)), desc='trials', unit='episode') as bar:
        for number in range(count):
            usual, perturbed = protocol.run(kinds, (seed, number), bar)
            normal.append(usual)
            for kind, trial in perturbed.items():
                trials[kind].append(trial)
    return normal, trials


def print_figures(figures: dict[str, Any]) -> None:
    """Print the figures for people."""
    print(
        f'threshold {figures["threshold"]:.2f} (alpha {figures["alpha"]:g}, horizon '
        f'{figures["horizon"]}); 95 % intervals in parentheses'
    )
    for kind, r in figures['kinds'].items():
        about = PERTURBATIONS[kind]
        what = 'physical' if about.physical else 'seen only'
        delay, low = r['delay_frames_median'], r['auroc_low']
        print(
            f'{kind} ({what}, {"abrupt" if about.abrupt else "slow"}): AUROC {r["auroc"]:.3f}'
            + (', ' if low is None else f' ({low:.3f} to {r["auroc_high"]:.3f}), ')
            + f'detected {_share(r, "detected")} of {r["n"]}'
            + ('' if delay is None else f', median delay {delay:g} frames')
            + (f'; alarm already active in {r["alarmed_before"]}' if r['alarmed_before'] else '')
        )
        if 'monitor' in r:
            m = r['monitor']
            print(
                f'  its monitor, {m["kind"]}: detected {_share(m, "detected")}'
                + (
                    ''
                    if m['delay_seconds_median'] is None
                    else f', delay {m["delay_seconds_median"]:.2f} s (median), '
                    f'{m["delay_seconds_max"]:.2f} s at most'
                )
            )
    normal = figures['normal']
    print(f'no event: no alarm in {_share(normal, "quiet")} of {normal["n"]}')
    if figures['teleport_vs_colour_auroc'] is not None:
        print(f'teleport against colour: AUROC {figures["teleport_vs_colour_auroc"]:.3f}')
    if figures['balanced_accuracy'] is not None:
        print(f'balanced accuracy on abrupt physical events: {figures["balanced_accuracy"]:.3f}')
    for alpha, r in figures['false_alarms'].items():
        rare = r['chance'] < RARE
        print(
            f'false alarms, alpha {alpha}: in {r["rate"]:.4f} of {r["windows"]} nominal windows '
            f'({r["low"]:.4f} to {r["high"]:.4f}), {r["per_hour"]:.1f} per hour; '
            f'{"more than" if rare else "as"} alpha promises (as many or more: chance '
            f'{r["chance"]:.2g})'
        )


def _share(figures: dict[str, Any], name: str) -> str:
    low, high = figures[f'{name}_low'], figures[f'{name}_high']
    return f'{figures[name]:.3f} ({low:.2f} to {high:.2f})'
