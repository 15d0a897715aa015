# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Training windows of any number of bags, in memory-mapped arrays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
import logging
from pathlib import Path

import numpy as np

from lewm_ros.bags.episodes import check_view, slow_camera
from lewm_ros.bags.reader import find_bags
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import Camera, Contract
from lewm_ros.training.cache import CachedBag, cached_bag, hash_bags

#: Largest ratio of camera periods between bags; recordings of one camera differ far less.
MAX_PERIOD_RATIO = 1.2
log = logging.getLogger('lewm')


class Images:
    """Frames of several bags as one array (n, S, S, 3) uint8, to be indexed by integers.

    Or their latents (n, D) float32, of an encoder that is not trained.
    """

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *map(len, parts)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one frame, (S, S, 3) or (D,)."""
        return self._parts[0].shape[1:]

    def __getitem__(self, index: np.ndarray) -> np.ndarray:
        """Read the frames of some indices (...), (..., S, S, 3)."""
        result = np.empty((*index.shape, *self.shape), dtype=self._parts[0].dtype)
        self.read(index, result)
        return result

    def read(self, index: np.ndarray, out: np.ndarray) -> None:
        """Read the frames of some indices (...) into ``out`` (..., S, S, 3)."""
        if len(self._parts) == 1:
            np.take(self._parts[0], index, axis=0, out=out, mode='clip')  # 'raise' would copy
            return
        part = np.searchsorted(self._starts, index, side='right') - 1
        for number in np.unique(part):
            here = part == number
            out[here] = self._parts[number][index[here] - self._starts[number]]


@dataclass(frozen=True)
class Windows:
    """Windows of F = H + 1 frames.

    Attributes:
        images: (n, S, S, 3) uint8, every frame of every episode, on disk.
        frames: (w, F) int64 indices into ``images``.
        blocks: (w, F − 1, k·A) float32 action blocks, contract units.
        episodes: (w,) int32, the episode of each window, numbered through all bags.
        sources: (w,) int64, the bag of each window, an index into ``bags``.
        bags: those with windows, in the order given.
        camera_period: median time between frames [s].

    """

    images: Images
    frames: np.ndarray
    blocks: np.ndarray
    episodes: np.ndarray
    sources: np.ndarray
    bags: tuple[CachedBag, ...]
    camera_period: float

    def split(self, held_out: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Window indices for training and validation, whole episodes apart.

        Each bag gives a share ``held_out`` of its episodes to validation, at least one; the choice
        does not depend on the other bags. A bag with a single episode gives it to training, unless
        all bags have only one: then a share of the bags is held out.

        Raises BagError where there are not at least two episodes.
        """
        groups = [np.unique(self.episodes[self.sources == i]) for i in range(len(self.bags))]
        if all(len(group) == 1 for group in groups):
            groups = [np.concatenate(groups)]
        chosen = []
        for group in groups:
            if len(group) > 1:
                count = min(max(1, round(held_out * len(group))), len(group) - 1)
                chosen.append(np.random.default_rng(seed).permutation(group)[:count])
        if not chosen:
            raise BagError(
                '1 episode with usable windows: training needs at least 2, so that one can be '
                'held out for validation'
            )
        validation = np.isin(self.episodes, np.concatenate(chosen))
        return np.flatnonzero(~validation), np.flatnonzero(validation)

    def action_statistics(self, windows: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of one tick's action over windows, each (A,) float64."""
        pieces = np.array_split(windows, 1 + len(windows) // 65_536)
        ticks = len(windows) * self.blocks[0].size // size
        mean, square = np.zeros(size), np.zeros(size)
        for piece in pieces:
            mean += self.blocks[piece].reshape(-1, size).sum(axis=0, dtype=np.float64) / ticks
        for piece in pieces:
            square += np.square(self.blocks[piece].reshape(-1, size) - mean).sum(axis=0) / ticks
        return mean, np.sqrt(square)


def batches(windows: np.ndarray, size: int, seed: int, start: int = 0) -> Iterator[np.ndarray]:
    """Endless batches of window indices, a fresh order each epoch.

    Batch i depends on ``seed`` and i alone, so a resumed run continues with batch ``start``.
    """
    per_epoch = len(windows) // size
    if per_epoch == 0:
        raise BagError(f'{len(windows)} training windows: a batch needs {size}; record more')
    epoch, first = divmod(start, per_epoch)
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(windows)
        for i in range(first, per_epoch):
            yield order[i * size : (i + 1) * size]
        epoch, first = epoch + 1, 0


def load_windows(
    bags: Sequence[Path], contract: Contract, size: int, history: int, frameskip: int, cache: Path
) -> Windows:
    """Windows of some bags; those whose content was read before come from the cache.

    Args:
        bags: rosbag2 folders, single files of them, or folders of bags.
        contract: the robot.
        size: image size S [px].
        history: H.
        frameskip: k; a block lasts k control periods.
        cache: folder that holds one sub-folder for each bag.

    Raises:
        BagError: a recording given twice, bags of different camera rates, image sizes or orders of
            joints, or nothing usable, with the reasons counted.

    """
    # One by one: a bag that is in two of the given folders is refused, not dropped.
    hashes = hash_bags([path for bag in bags for path in find_bags([bag])], cache)
    _refuse_copies(hashes)
    read = []
    for path, content in hashes:
        read.append(cached_bag(path, content, contract, size, history, frameskip, cache))
        _log_summary(read[-1])
    usable = [bag for bag in read if bag.summary.windows]
    if not usable:
        reasons = '; '.join(f'{n} x {r}' for b in read for r, n in b.summary.refused.items())
        hold = contract.action.hold
        periods = [b.summary.camera_period for b in read if b.summary.camera_period]
        slow = slow_camera(periods, frameskip * contract.period)
        raise BagError(
            f'no usable window in {[str(b.path) for b in read]}: '
            f'{sum(b.summary.frames for b in read)} frames read; a window needs {history + 1} '
            f'frames {frameskip * contract.period:g} s apart with commands in between'
            + ('' if hold is None else f', none older than action.hold ({hold:g} s)')
            + (f'; refused: {reasons}' if reasons else '')
            + (f'; {slow}' if slow else '')
            + ''.join(f'; {text}' for bag in read for text in bag.summary.clocks)
        )
    _refuse_other_orders(usable)
    _refuse_other_views(usable, contract.camera)
    frames, episodes, place, number = [], [], 0, 0
    for bag in usable:
        frames.append(bag.frames + place)
        episodes.append(bag.episodes + number)
        place, number = place + bag.summary.frames, number + bag.summary.episodes
    return Windows(
        Images([bag.images for bag in usable]),
        np.concatenate(frames),
        np.concatenate([bag.blocks for bag in usable]),
        np.concatenate(episodes),
        np.repeat(np.arange(len(usable)), [len(bag.frames) for bag in usable]),
        tuple(usable),
        _camera_period(usable),
    )


def _refuse_copies(hashes: list[tuple[Path, list[str]]]) -> None:
    first: dict[str, Path] = {}
    for path, content in hashes:
        for digest in content:
            if digest in first:
                raise BagError(
                    f'bag {path} has the content of {first[digest]}, given before: give each '
                    'recording once, or held-out episodes would be trained on'
                )
        first |= dict.fromkeys(content, path)


def _refuse_other_orders(bags: Sequence[CachedBag]) -> None:
    first: dict[str, CachedBag] = {}
    for bag in bags:
        for section, joints in bag.summary.joints.items():
            other = first.setdefault(section, bag)
            if joints != other.summary.joints[section]:
                raise BagError(
                    f'bag {bag.path} lists the joints of {section} as {", ".join(joints)}, '
                    f'{other.path} as {", ".join(other.summary.joints[section])}: name them in '
                    'the contract, such as position[elbow]'
                )


def _refuse_other_views(bags: Sequence[CachedBag], camera: Camera) -> None:
    first, *others = bags
    before = first.summary.camera_size
    for bag in others:
        check_view(bag.path, bag.summary.camera_size, before, camera, f'bag {first.path}')


def _log_summary(bag: CachedBag) -> None:
    found = bag.summary
    for reason, times in found.refused.items():
        log.warning('%s: refused %d messages: %s', bag.path, times, reason)
    for text in found.clocks:
        log.warning('bag %s: %s', bag.path, text)
    log.log(
        logging.INFO if found.windows else logging.WARNING,
        '%s: %d episodes, %d frames, %d windows (%d frames start none), %d messages late',
        bag.path,
        found.episodes,
        found.frames,
        found.windows,
        found.frames - found.windows,
        found.late,
    )


def _camera_period(bags: Sequence[CachedBag]) -> float:
    """Median over all frames [s]. Raises BagError where bags are too different.

    At run time frames are compared with this single period. If it is too long, a lost frame goes
    unnoticed; if it is too short, no context is found.
    """
    ordered = sorted(bags, key=lambda bag: bag.summary.camera_period)
    short, long = ordered[0], ordered[-1]
    if long.summary.camera_period > MAX_PERIOD_RATIO * short.summary.camera_period:
        raise BagError(
            f'bag {short.path} has {1 / short.summary.camera_period:.3g} frames a second, '
            f'{long.path} {1 / long.summary.camera_period:.3g}: a model is of one camera rate '
            f'(within a factor of {MAX_PERIOD_RATIO:g}); train from bags of the rate that the '
            'robot runs at'
        )
    total = np.cumsum([bag.summary.frames for bag in ordered])
    return ordered[int(np.searchsorted(total, total[-1] / 2))].summary.camera_period
