# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How well a bundle can plan, measured on held-out recordings, without robot or simulator.

Planning needs more than a low prediction loss: a distance that ranks states near the goal,
commands that show in the latents, and recordings that connect goals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
import time

import numpy as np

from lewm_ros.api import make_planner
from lewm_ros.bags.delay import DelayEstimate, derivative
from lewm_ros.bags.episodes import Episode, ReadReport, episode_windows
from lewm_ros.bundle import Bundle
from lewm_ros.bundle.roadmap_file import read_roadmap
from lewm_ros.engines import Engine
from lewm_ros.errors import BagError, ModelError
from lewm_ros.evaluation.bags import (
    FULL_CONTEXT,
    HELD_OUT_WINDOWS,
    Encoded,
    encode_bags,
    trained_bags,
)
from lewm_ros.evaluation.held_out import Dimension, HeldOutWindows
from lewm_ros.evaluation.roadmap import NODES
from lewm_ros.planning import PlannerConfig
from lewm_ros.planning.roadmap import Recorded, Roadmap, assign, build
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.history import Context, frame_period, window_indices
from lewm_ros.time import NS_PER_S

#: Frames that are read at most.
FRAMES = 6000
#: Number of goals, roadmap time within which frames are near a goal [s], fewest near frames to
#: rank, and frames whose connection to each goal is checked.
GOALS, NEAR, FEWEST, TRIED = 30, 1.0, 10, 7
#: Random pairs for the typical distance, and frames whose nearest latent is looked up.
PAIRS, PROBED = 4000, 500
#: Longest lag whose distance is measured [blocks].
LAGS = 40
#: A distance beyond this share of a random pair's has saturated.
SATURATED = 0.7
#: Plans that are timed, the first of which is cold.
PLANS = 10


@dataclass(frozen=True)
class Field:
    """How well latents determine a position in the state: by the nearest latent elsewhere."""

    name: str
    error: float  #: median difference to the frame with the nearest latent of another episode
    chance: float  #: median difference of random frames
    precision: float  #: the error, scaled down to the model's floor


@dataclass(frozen=True)
class Planability:
    """Figures of a bundle on held-out recordings; distances are in latent units."""

    episodes: int
    frames: int
    windows: int  #: of H + 1 frames, as in training
    lost: dict[str, int]  #: frames at which no window starts, by reason
    refused: dict[str, int]  #: messages left out, by reason
    block: float  #: [s]
    random_pair: float  #: median distance of two random frames
    by_lag: list[float]  #: median distance of frames 1, 2, … camera periods apart
    camera_period: float  #: median of these recordings [s]
    trained_period: float  #: of those of training [s]
    reach: float  #: time up to which ``by_lag`` stays below 0.7 of a random pair [blocks]
    step: float  #: median distance over one block, share of a random pair
    saturated: float  #: share of the blocks beyond 0.7 of a random pair
    order: float | None  #: Spearman of distance and roadmap time near a goal, median of 30 goals
    order_least: float | None
    prediction: list[float]  #: mean squared error per dimension, 1, 2, … blocks ahead
    copying: list[float]  #: of the last latent as the prediction
    trained: float | None  #: the error on the episodes held out in training, where stored
    floor: float  #: error one block ahead in the calmest tenth of the windows
    actions: list[Dimension]
    states: list[Field]
    roadmap: bool  #: the bundle has one; else the figures are of one of these recordings
    covered: float | None  #: as in a bundle's roadmap entry
    connected: float | None
    delay: float | None  #: from command to motion, beyond the contract's [s]; None: unknown
    encode_ms: float
    budget_ms: float  #: that a plan may take
    plan_ms: float | None  #: with the frame's encoding; None where the planner's horizon is longer


class Recordings:
    """Held-out episodes without their images, which are many.

    Args:
        bundle: what encoded them.

    Attributes:
        episodes: each with its latents (n, D).
        frames: of all episodes; others than the first 6000 or so are left out.
        lost: frames that start no window, by reason.

    """

    def __init__(self, bundle: Bundle) -> None:
        self.episodes: list[tuple[Episode, np.ndarray]] = []
        self.frames = 0
        self.lost = Counter[str]()
        self._bundle = bundle
        self._delays = DelayEstimate(bundle.contract)
        self._shift = bundle.contract.action.delay_ns

    @classmethod
    def of_bags(
        cls,
        bundle: Bundle,
        engine: Engine,
        bags: Sequence[Path],
        report: ReadReport | None = None,
    ) -> Recordings:
        """Encode the held-out episodes of some bags until there are enough; updates ``report``."""
        recordings = cls(bundle)
        for encoded in encode_bags(bundle, engine, bags, held_out=True, report=report):
            if not recordings.add(encoded):
                break
        return recordings

    def add(self, encoded: Encoded) -> bool:
        """Add an episode unless the model was trained on it. False once there are enough."""
        episode = encoded.episode
        if encoded.held_out and self.frames < FRAMES:
            # Without the contract's delay, to detect a delay that is set too long as well.
            stamps = episode.action_stamps - self._shift
            self._delays.add(replace(episode, action_stamps=stamps))
            self.lost.update(_lost(self._bundle, episode))
            kept = replace(episode, images=episode.images[:0].copy())
            self.episodes.append((kept, encoded.latents))
            self.frames += len(encoded.latents)
        return self.frames < FRAMES

    def delay(self) -> float | None:
        """Return the delay from command to motion beyond the contract's [s]; None: unknown."""
        found = self._delays.result().seconds
        return None if found is None else found - self._bundle.contract.action.delay


def examine(
    bundle: Bundle,
    engine: Engine,
    recordings: Recordings,
    config: PlannerConfig,
    report: ReadReport | None = None,
) -> Planability:
    """Measure a bundle on recordings that it was not trained on.

    Args:
        bundle: the model, with its roadmap if it has one.
        engine: runs it, for rollouts of the planner and of 4 blocks.
        recordings: held-out episodes.
        config: of the planner that is timed.
        report: of the reader of the episodes.

    Raises BagError where there are too few frames to tell anything, ModelError where latents or
    predictions are not finite.

    """
    spec, rng, episodes = bundle.spec, np.random.default_rng(0), recordings.episodes
    windows = HeldOutWindows(bundle, episodes, rng)
    z = np.concatenate([latents for _, latents in episodes])
    if not np.isfinite(z).all():
        raise ModelError(f'bundle {bundle.path}: latents of frames are not finite')
    pairs = rng.integers(len(z), size=(2, PAIRS))
    random = float(np.median(_distance(z[pairs[0]], z[pairs[1]])))
    if not random > 0:
        raise BagError('all held-out frames look the same to the model: is the camera covered?')
    steps = windows.steps() / random
    gaps = np.concatenate([np.diff(episode.stamps) for episode, _ in episodes])
    period = float(np.median(gaps)) / NS_PER_S
    by_lag = _by_lag([latents for _, latents in episodes], round(LAGS * spec.block / period))
    beyond = np.flatnonzero(np.array([*by_lag, np.inf]) > SATURATED * random)
    way = _look_at_map(bundle, [(episode.stamps, latents) for episode, latents in episodes], rng)
    order = way.order if way is not None and len(way.order) else None
    predicted = windows.predict(engine)
    floor = windows.floor(predicted)
    encode_ms, plan_ms = _times(bundle, engine, config, windows)
    squares = np.square(predicted[:, 0] - windows.future).mean(axis=(0, 2))
    copies = np.square(windows.future - windows.now[:, None]).mean(axis=(0, 2))
    return Planability(
        episodes=len(episodes),
        frames=recordings.frames,
        windows=recordings.frames - recordings.lost.total(),
        lost=dict(recordings.lost),
        refused={} if report is None else dict(report.refused),
        block=spec.block,
        random_pair=random,
        by_lag=by_lag,
        camera_period=period,
        trained_period=spec.camera_period,
        reach=float(beyond[0]) * period / spec.block,
        step=float(np.median(steps)),
        saturated=float(np.mean(steps > SATURATED)),
        order=None if order is None else float(np.median(order)),
        order_least=None if order is None else float(order.min()),
        prediction=squares.tolist(),
        copying=copies.tolist(),
        trained=_trained(bundle),
        floor=floor,
        actions=windows.dimensions(predicted, windows.visibility(engine), floor),
        states=_states(bundle.contract, episodes, floor, rng),
        roadmap=bundle.manifest.roadmap is not None,
        covered=None if way is None else way.covered,
        connected=None if way is None else way.connected,
        delay=recordings.delay(),
        encode_ms=encode_ms,
        budget_ms=1000 * (config.deadline_fraction * spec.block - bundle.contract.action.delay),
        plan_ms=plan_ms,
    )


def _lost(bundle: Bundle, episode: Episode) -> dict[str, int]:
    """Count the frames of an episode at which no window starts, by reason."""
    spec, stamps = bundle.spec, episode.stamps
    period = int(frame_period(stamps))
    block = round(spec.block * NS_PER_S)
    ends = int((stamps + spec.history * block > stamps[-1] + 3 * period // 4).sum())
    whole = len(window_indices(stamps, block, spec.history + 1, period))
    known = len(episode_windows(episode, bundle.contract, spec.history, spec.frameskip)[0])
    counts = {
        'the episode ends': ends,
        'a frame is missing': len(stamps) - ends - whole,
        'commands are unknown': whole - known,
    }
    return {reason: count for reason, count in counts.items() if count}


def _trained(bundle: Bundle) -> float | None:
    """Validation error one block ahead on all held-out windows of the training bags.

    Bundles of earlier versions only have a mean that includes short contexts, which is larger, and
    the number of held-out episodes.
    """
    losses = []
    for bag in trained_bags(bundle):
        if bag.get(HELD_OUT_WINDOWS):
            losses.append((float(bag[FULL_CONTEXT]), int(bag[HELD_OUT_WINDOWS])))
        elif bag.get('held_out') and 'validation_prediction' in bag:
            losses.append((float(bag['validation_prediction']), int(bag['held_out'])))
    return sum(e * n for e, n in losses) / sum(n for _, n in losses) if losses else None


def _by_lag(episodes: Sequence[np.ndarray], longest: int) -> list[float]:
    """Median distance of latents 1, 2, … frames apart, up to half of the longest episode."""
    return [
        float(np.median(np.concatenate([_distance(z[lag:], z[:-lag]) for z in episodes])))
        for lag in range(1, 1 + min(max(map(len, episodes)) // 2, longest))
    ]


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.linalg.norm(one - other, axis=-1)


@dataclass(frozen=True)
class _Map:
    """A roadmap and its figures on some frames."""

    roadmap: Roadmap
    covered: float
    connected: float
    order: np.ndarray  #: Spearman's correlation of distance and time near each of some goals


def _look_at_map(
    bundle: Bundle, recorded: Sequence[Recorded], rng: np.random.Generator
) -> _Map | None:
    """Evaluate the bundle's roadmap, or one built from these episodes; None if none can be built.

    A roadmap that may contain these frames gets at most the coverage and connection that it has on
    other frames.
    """
    spec, entry, roadmap = bundle.spec, bundle.manifest.roadmap, read_roadmap(bundle)
    z = np.concatenate([latents for _, latents in recorded])
    most = {'covered': 1.0, 'connected': 1.0}
    if roadmap is None or entry is None:
        try:
            roadmap, most = build(recorded, spec.block, spec.frameskip, NODES)
        except ModelError:  # one episode, or nothing moves
            return None
    else:
        most = {name: getattr(entry, name) for name in most}
    order, connected = [], []
    for goal in rng.permutation(len(z))[:GOALS]:
        field = roadmap.field(z[goal])
        connected += [field.locate(z[other])[1] for other in rng.integers(len(z), size=TRIED)]
        times = field.value(z)
        times[goal] = np.inf
        near = times < NEAR
        if near.sum() >= FEWEST:
            order.append(spearman(_distance(z[near], z[goal]), times[near]))
    covered = float(np.mean(roadmap.gaps(z) <= 2 * roadmap.radius))
    return _Map(
        roadmap,
        min(covered, most['covered']),
        min(float(np.mean(connected)), most['connected']),
        np.array(order),
    )


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation of x (n,) and y (n,); equal values share their mean rank."""
    ranks = []
    for values in (x, y):
        _, place, count = np.unique(values, return_inverse=True, return_counts=True)
        rank = (np.cumsum(count) - (count - 1) / 2)[place]
        ranks.append(rank - rank.mean())
    a, b = ranks
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def _states(
    contract: Contract,
    episodes: Sequence[tuple[Episode, np.ndarray]],
    floor: float,
    rng: np.random.Generator,
) -> list[Field]:
    """Compare the states (n, X) of frames with those of their nearest latents elsewhere."""
    states = [episode.states for episode, _ in episodes if episode.states is not None]
    if contract.state is None or len(states) < len(episodes) or len(episodes) < 2:
        return []
    x, z = np.concatenate(states), np.concatenate([latents for _, latents in episodes])
    of = np.repeat(np.arange(len(episodes)), [len(latents) for _, latents in episodes])
    known = np.isfinite(x).any(axis=1)  # the state was recorded at that time
    x, z, of = x[known], z[known], of[known]
    if len(np.unique(of)) < 2:
        return []
    chosen = rng.permutation(len(z))[:PROBED]
    nearest = np.empty(len(chosen), dtype=np.int64)
    for episode in np.unique(of[chosen]):
        ours, others = of[chosen] == episode, np.flatnonzero(of != episode)
        nearest[ours] = others[assign(z[chosen[ours]], z[others])[0]]
    off = x[chosen] - x[nearest]
    random = x[chosen] - x[rng.integers(len(x), size=len(chosen))]
    share = np.minimum(1, floor / np.maximum(_distance(z[chosen], z[nearest]), 1e-9))
    # An angle may count whole turns, which no image shows: the better of two readings.
    read = np.array(
        [
            [np.median(np.abs(v), axis=0) for v in (errors, chances, errors * share[:, None])]
            for errors, chances in ((off, random), (_turned(off), _turned(random)))
        ]
    )
    better = (read[:, 0] / np.maximum(read[:, 1], 1e-9)).argmin(axis=0)
    return [
        Field(name, *map(float, figures))
        for name, figures in zip(contract.state.fields, read[better, :, range(len(better))])
        # One frame shows no velocity; what is mostly the same tells nothing about the latents.
        if not derivative(name) and np.isfinite(figures).all() and figures[1] > 0
    ]


def _turned(angles: np.ndarray) -> np.ndarray:
    """Differences of angles [rad] without whole turns, in [−π, π)."""
    return (angles + np.pi) % (2 * np.pi) - np.pi


def _times(
    bundle: Bundle,
    engine: Engine,
    config: PlannerConfig,
    windows: HeldOutWindows,
) -> tuple[float, float | None]:
    """Median time of encoding a frame, and of encoding plus a warm-started plan [ms]."""
    spec = bundle.spec
    size = spec.image_size
    image = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)
    encode = _median_ms([partial(engine.encode, image)] * PLANS)
    if config.horizon > spec.horizon:
        return encode, None
    planner = make_planner(bundle, bundle.contract, engine, config)
    planner.warm_up()
    ticks, goal, calls = spec.frameskip, windows.future[0, -1], []
    for number in range(min(PLANS, len(windows.now))):
        past = windows.past[number].reshape(spec.history - 1, ticks * bundle.contract.action.size)
        stamp = round(number * spec.block * NS_PER_S)
        context = Context(stamp, windows.context[number], past)
        calls.append(partial(planner.plan, context, windows.plans[number, :ticks], goal))
    return encode, encode + _median_ms(calls)


def _median_ms(calls: Sequence[Callable[[], object]]) -> float:
    """Time calls one after another; their median [ms]."""
    taken = []
    for call in calls:
        began = time.perf_counter()
        call()
        taken.append(1e3 * (time.perf_counter() - began))
    return float(np.median(taken))
