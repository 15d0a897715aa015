# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""rosbag2 bags as episodes: the one path from recorded, or simulated, data to training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
import logging
from operator import itemgetter
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from rosbags.serde import SerdeError

from lewm_ros.bags.clocks import Stamps
from lewm_ros.bags.images import ImageBuffer, ImageFile
from lewm_ros.bags.layout import COMMAND
from lewm_ros.bags.message_types import TYPES
from lewm_ros.bags.raw import Topic
from lewm_ros.bags.reader import Bag, find_bags, read_metadata
from lewm_ros.bags.timeline import Timeline
from lewm_ros.bags.topics import EPISODE
from lewm_ros.errors import BagError, ConfigError, ObservationError
from lewm_ros.robot.contract import Camera, Contract
from lewm_ros.robot.fields import JointOrder, read_command, read_fields
from lewm_ros.robot.history import SLOWEST, block_actions, frame_period, nearest, window_indices
from lewm_ros.robot.imaging import from_message, other_view, prepare, unstated_order
from lewm_ros.time import NS_PER_S

#: A pause between frames longer than this [s] starts a new episode.
GAP = 1.0
#: Share of it without any message from which on the recorder is taken to have paused.
PAUSE = 0.8
log = logging.getLogger('lewm')


@dataclass(frozen=True)
class Episode:
    """One uninterrupted piece of a recording; stamps are int64 [ns]."""

    stamps: np.ndarray  #: (n,) of the frames, ascending
    images: np.ndarray  #: (n, S, S, 3) uint8, as imaging.prepare makes them
    action_stamps: np.ndarray  #: (m,) when each command takes effect, ascending
    actions: np.ndarray  #: (m, A) float64, contract units
    #: (n, X) float64, the state nearest to each frame; NaN where that is further than GAP away
    states: np.ndarray | None


@dataclass
class ReadReport:
    """What a reader found."""

    frames: int = 0
    episodes: int = 0
    late: int = 0  #: frames and commands that arrived late and were sorted in
    refused: Counter[str] = field(default_factory=Counter)  #: what was left out, by reason
    unstamped: set[str] = field(default_factory=set)  #: topics whose log times are used
    clocks: list[str] = field(default_factory=list)  #: of each bag whose clocks differ, by how much
    logged: bool = True  #: whether differing clocks are logged too
    joints: dict[str, list[str]] = field(default_factory=dict)  #: read by index, by section
    camera_size: tuple[int, int] | None = None  #: width and height of the images [px]

    def see(self, image: np.ndarray, camera: Camera) -> None:
        """Note the size of an image (H, W, 3); raise ObservationError for one of another view."""
        size = image.shape[1], image.shape[0]
        before = self.camera_size = self.camera_size or size
        if what := other_view(size, before, camera.crop is not None):
            raise ObservationError(
                f'image is {size[0]}x{size[1]} pixels, the first was {before[0]}x{before[1]}: '
                f'expected the same {what}'
            )


def check_view(
    bag: Path,
    size: tuple[int, int] | None,
    before: tuple[int, int] | None,
    camera: Camera,
    whose: str,
) -> None:
    """Raise BagError for a bag with images of another view than those before.

    ``whose`` says whose those are; a size (width, height) [px] that is None is not known.
    """
    if size and before and (what := other_view(size, before, camera.crop is not None)):
        raise BagError(
            f'bag {bag} has images of {size[0]}x{size[1]} pixels, those of {whose} were '
            f'{before[0]}x{before[1]}: expected the same {what}'
        )


def read_episodes(
    bags: Iterable[str | Path],
    contract: Contract,
    size: int,
    report: ReadReport | None = None,
    spill: BinaryIO | None = None,
) -> Iterator[Episode]:
    """Read every episode of some bags, in order, holding one at a time.

    An episode ends where the number on the ``episode`` topic changes, where no frame comes for
    more than a second, and where a clock is set back. If that topic has messages, data
    before the first of them or after a 0 belongs to no episode.

    Args:
        bags: rosbag2 folders (MCAP or sqlite3), single files of them, or folders of bags.
        contract: names the topics and fields, and the crop.
        size: image size S [px].
        report: updated while reading.
        spill: unbuffered file, open for reading and writing, that holds the images instead of
            memory; ``Episode.images`` is then mapped from it.

    Raises:
        BagError: a bag cannot be read at all, or lacks a topic of the contract.

    """
    report = ReadReport() if report is None else report
    images = ImageBuffer() if spill is None else ImageFile(spill)
    for path in find_bags(bags):
        damage: Counter[str] = Counter()
        try:
            yield from _read_bag(Bag(path, damage), contract, size, report, damage, images)
        except OSError as error:
            raise BagError(f'bag {path}: cannot be read as rosbag2 ({error})') from error
        finally:
            report.refused.update(damage)


def episode_windows(
    episode: Episode, contract: Contract, history: int, frameskip: int
) -> tuple[np.ndarray, np.ndarray]:
    """Find the usable windows of an episode: frames one block apart with known commands.

    Returns indices of the frames (w, H + 1) and action blocks (w, H, k·A) float64.
    """
    period = int(frame_period(episode.stamps))
    block = round(frameskip * contract.period * NS_PER_S)
    found = window_indices(episode.stamps, block, history + 1, period)
    actions = block_actions(
        episode.action_stamps,
        episode.actions,
        episode.stamps[found],
        frameskip,
        contract.action.hold,
    )
    known = ~np.isnan(actions).any(axis=(1, 2))
    return found[known], actions[known]


def slow_camera(periods: Sequence[float], block: float) -> str | None:
    """Explain that a camera is too slow for the block [s]; None if it is not.

    ``periods`` are times between its frames [s].
    """
    period = float(np.median(periods)) if len(periods) else 0.0
    if period <= SLOWEST * block:
        return None
    return (
        f'frames come every {period:.3g} s, a block lasts {block:g} s: lower rates.control, or '
        'raise the rate of the camera'
    )


class _EpisodeSplitter:
    """Collects frames, commands and states, and splits them into episodes."""

    def __init__(self, action_size: int, report: ReadReport, images: ImageBuffer) -> None:
        self._action_size = action_size
        self._report = report
        self._images = images
        self._frame_logged = self._newest_logged = self._silence = 0  # [ns]
        self._begin()

    def _begin(self) -> None:
        self._frames: Timeline[int] = Timeline()  # places in _images
        self._actions: Timeline[np.ndarray] = Timeline()
        self._states: list[tuple[int, np.ndarray]] = []

    def heard(self, logged: int) -> None:
        """Note that any message was logged at [ns]."""
        self._silence = max(self._silence, logged - self._newest_logged)
        self._newest_logged = logged

    def frame(self, stamp: int, image: np.ndarray, logged: int) -> Iterator[Episode]:
        """Add a frame (S, S, 3) logged at [ns]; yields the episode that it ends."""
        newest, pause = self._frames.newest, logged - self._frame_logged
        silent, self._silence, self._frame_logged = self._silence, 0, logged
        if newest is not None and stamp - newest > GAP * NS_PER_S:
            # The robot still holds its command when only frames stop. When nothing is recorded,
            # as in a pause of the recorder, it may have got others.
            held = self._actions.entries[-1:] if silent < PAUSE * pause else []
            yield from self.split()
            for command in held:
                self._actions.add(*command)
        while not self._frames.add(stamp, len(self._images)):
            yield from self._restart()
        if stamp != newest:  # else a camera that is stuck would fill the memory
            self._images.add(image)

    def action(self, stamp: int, command: np.ndarray) -> Iterator[Episode]:
        """Add a command (A,); yields the episode that it ends."""
        while not self._actions.add(stamp, command):
            yield from self._restart()

    def state(self, stamp: int, values: np.ndarray) -> None:
        """Add a state (X,)."""
        self._states.append((stamp, values))

    def _restart(self) -> Iterator[Episode]:
        """Split where the clock was set back; late values belong to the new episode."""
        frames = [(stamp, self._images.copy(place)) for stamp, place in self._frames.late]
        actions = self._actions.late
        self._frames.late, self._actions.late = [], []
        yield from self.split()
        for stamp, image in frames:
            self._frames.add(stamp, len(self._images))
            self._images.add(image)
        for stamp, command in actions:
            self._actions.add(stamp, command)

    def split(self) -> Iterator[Episode]:
        """End the episode; yields it if it has frames and commands."""
        frames, actions, states = self._frames, self._actions, self._states
        self._begin()
        frames.settle()
        actions.settle()
        usable = frames.entries if actions.entries else []
        images = self._images.take(np.array([place for _, place in usable], dtype=np.int64))
        count, report = len(frames.entries), self._report
        report.frames += count
        report.late += frames.sorted_in + actions.sorted_in
        for name, timeline in (('frame', frames), ('command', actions)):
            if timeline.duplicates:
                report.refused[f'{name} with a duplicate stamp'] += timeline.duplicates
        if usable:
            report.episodes += 1
            yield self._episode(images, frames, actions, states)
        elif count:
            report.refused['frame of an episode without commands'] += count

    def _episode(
        self,
        images: np.ndarray,
        frames: Timeline[int],
        actions: Timeline[np.ndarray],
        states: list[tuple[int, np.ndarray]],
    ) -> Episode:
        stamps = frames.stamps()
        commands = np.array([a for _, a in actions.entries]).reshape(-1, self._action_size)
        nearby = None
        if states:
            states = sorted(states, key=itemgetter(0))
            state_stamps = np.array([s for s, _ in states], dtype=np.int64)
            index = nearest(state_stamps, stamps)
            nearby = np.array([v for _, v in states], dtype=float)[index]
            old = np.abs(state_stamps[index] - stamps) > GAP * NS_PER_S
            nearby[old] = np.nan
            if old.any():
                reason = f'frame without a state within {GAP:g} s, whose state is unknown'
                self._report.refused[reason] += int(old.sum())
        return Episode(stamps, images, actions.stamps(), commands, nearby)


def _read_bag(
    bag: Bag,
    contract: Contract,
    size: int,
    report: ReadReport,
    damage: Counter[str],
    buffer: ImageBuffer,
) -> Iterator[Episode]:
    camera, applied = contract.camera, contract.action.applied
    images = _required(bag, camera.topic, camera.type)
    commands = _required(bag, applied.topic, applied.type)
    numbers = find_episodes(bag, (images, commands))
    states = None
    if contract.state is not None:
        states = find_topic(bag, contract.state.topic, contract.state.type)
    delay = contract.action.delay_ns
    splitter = _EpisodeSplitter(contract.action.size, report, buffer)
    number = None if numbers is None or not bag.counts()[numbers] else 0
    known = 0  # damage when the number was read; the next number may have been lost since
    wanted = {topic for topic in (images, commands, numbers, states) if topic is not None}
    stamps = Stamps(report.unstamped)
    fields = () if contract.state is None else contract.state.fields
    read = {applied.key: applied.fields, 'state': fields}
    # In the order of the bags before.
    orders = {key: JointOrder(paths, report.joints.get(key, ())) for key, paths in read.items()}
    order = ''
    for topic, logged, data in bag.messages(wanted):
        if number == 0 and topic != numbers and damage.total() == known:
            if topic == images:
                report.refused['frame outside of the episodes'] += 1
            continue
        splitter.heard(logged)
        try:
            message: Any = TYPES.deserialize_cdr(data, topic.type)
            if topic == numbers:
                known = damage.total()
                if message.data != number:
                    number = message.data
                    yield from splitter.split()
            if topic == images:
                stamp = stamps.read(message, logged, topic, camera)
                order = order or _warn(topic, unstated_order(message, camera))
                image = from_message(message, camera)
                report.see(image, camera)
                image = prepare(image, size, camera.crop)
                yield from splitter.frame(stamp, image, logged)
            if topic == commands:
                stamp = stamps.read(message, logged, topic, applied, delay)
                orders[applied.key].check(message)
                yield from splitter.action(stamp, read_command(message, applied.fields))
            if topic == states and contract.state is not None:
                stamp = stamps.read(message, logged, topic, contract.state)
                orders['state'].check(message)
                state = read_fields(message, fields)
                splitter.state(stamp, state)
                for path, finite in zip(fields, np.isfinite(state)):
                    if not finite:  # the other numbers count
                        report.refused[f'state {path} is not finite'] += 1
        except SerdeError:
            report.refused[f'{topic.name}: message that is damaged or of another layout'] += 1
        except (ObservationError, ConfigError) as error:
            report.refused[str(error)] += 1
    yield from splitter.split()
    report.joints |= {key: order.joints for key, order in orders.items() if order.joints}
    differ = stamps.differ(contract)
    if differ is not None:
        report.clocks.append(differ)
        if report.logged:
            log.warning('bag %s: %s', bag.path, differ)


def _warn(topic: Topic, text: str | None) -> str:
    if text is not None:
        log.warning('%s: %s', topic.name, text)
    return text or ''


def find_topic(bag: Bag, name: str, kind: str) -> Topic | None:
    """Find a topic by its full name, or by its end where the contract's name is relative.

    Raises BagError where more than one fits.
    """
    found = [topic for topic in bag.topics if topic.type == kind and is_named(topic.name, name)]
    if len(found) > 1:
        raise BagError(
            f'{kind} {name} is ambiguous, it matches {[topic.name for topic in found]}: give the '
            'full name in the contract, or record one robot'
        )
    return found[0] if found else None


def find_episodes(bag: Bag, beside: Sequence[Topic]) -> Topic | None:
    """Find the topic of episode numbers; of several, the one in the namespace of some topics.

    Raises BagError where that does not tell which.
    """
    numbered = [t for t in bag.topics if t.type == EPISODE.type]
    found = [t for t in numbered if is_named(t.name, EPISODE.name)]
    if len(found) > 1:
        near = [t for t in found if all(b.name.startswith(_space(t.name)) for b in beside)]
        longest = max((len(topic.name) for topic in near), default=0)
        found = [topic for topic in near if len(topic.name) == longest]
        if len(found) != 1:
            raise BagError(
                f'{[t.name for t in numbered]} number episodes, and no one '
                'of them is in the namespace of camera and commands: record one robot'
            )
    return found[0] if found else None


def _space(topic: str) -> str:
    return topic.rpartition('/')[0] + '/'


def foreign(bag: Bag, name: str) -> str | None:
    """Return why a topic of this name cannot be read (it is not CDR), or None."""
    reasons = (why for topic, why in bag.foreign.items() if is_named(topic, name))
    return next(reasons, None)


def is_named(topic: str, name: str) -> bool:
    """Whether a topic is the one of a contract's name; a relative one may be in a namespace."""
    tail = '/' + name.lstrip('/')
    return topic == tail or (not name.startswith('/') and topic.endswith(tail))


def _required(bag: Bag, name: str, kind: str) -> Topic:
    found = find_topic(bag, name, kind)
    if found is None:
        why = foreign(bag, name)
        if why is not None:
            raise BagError(f'bag {bag.path}: topic {name} is {why}')
        present = ', '.join(f'{topic.name} ({topic.type})' for topic in bag.topics)
        raise BagError(
            f'bag {bag.path}: no topic {name} ({kind}) as the contract says; it has: {present}'
        )
    return found


def recording_command(bag: str | Path) -> str:
    """Return the command that made a bag, and the bag's name unless the command recreates it."""
    path = Path(bag)
    custom = read_metadata(path).get('custom_data')
    command = custom.get(COMMAND) if isinstance(custom, dict) else None
    if not isinstance(command, str) or not command:
        return path.name
    return command if command.startswith('lewm collect') else f'{command} ({path.name})'
