# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm inspect BAG --contract C`: what do bags hold, and what of it can be learned from?"""

from __future__ import annotations

import argparse
from array import array
from collections import Counter
from dataclasses import asdict, dataclass, field
import json
from pathlib import Path

import numpy as np
from rosbags.interfaces import Nodetype

from lewm_ros.bags.contact_sheet import ContactSheet
from lewm_ros.bags.delay import Delay, DelayEstimate
from lewm_ros.bags.episodes import (
    TYPES,
    Episode,
    ReadReport,
    episode_windows,
    find_topic,
    read_episodes,
)
from lewm_ros.bags.layout import header_stamp
from lewm_ros.bags.raw import Topic
from lewm_ros.bags.reader import Bag, find_bags
from lewm_ros.bags.timeline import BEHIND
from lewm_ros.errors import BagError
from lewm_ros.evaluation.report import prepare_report
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S

#: An interval is a gap where it is longer than so many periods and than so many seconds.
GAP_PERIODS, GAP_SECONDS = 3, 0.2
#: A command this near to a limit, as a share of the range between limits, is saturated.
NEAR = 0.01
#: A dimension that moves by less than this share of the range is constant.
STILL = 1e-6
#: So many episodes of a bag are listed as text.
LISTED = 20


@dataclass
class TopicReport:
    """A topic and its timing, within episodes where the bag numbers them."""

    name: str
    type: str
    count: int = 0
    clock: str = 'log'  #: what was timed: 'header' stamps, or the times of logging
    rate_hz: float | None = None  #: 1 / median interval
    jitter_ms: float | None = None  #: from the 5th to the 95th percentile of the intervals
    gaps: int = 0
    longest_gap_s: float | None = None


@dataclass
class EpisodeReport:
    """An episode as training sees it."""

    start_s: float  #: since the first frame of the bag
    seconds: float  #: from its first frame to its last
    frames: int
    commands: int
    gaps: int  #: between its frames
    windows: int


@dataclass
class BagReport:
    """A bag."""

    bag: str
    problem: str | None = None  #: why it cannot be read
    topics: list[TopicReport] = field(default_factory=list)
    episodes: list[EpisodeReport] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)  #: messages left out, by reason


@dataclass
class ActionReport:
    """One action dimension over all bags, in contract units."""

    name: str
    unit: str
    low: float
    high: float
    least: float | None = None  #: None where there are no commands
    greatest: float | None = None
    constant: bool = False
    saturated: float | None = None  #: share of the control ticks, 0 to 1
    beyond: int = 0  #: commands outside of the limits


@dataclass
class Report:
    """What bags hold."""

    contract: str
    window_frames: int
    block_s: float
    windows: int = 0
    bags: list[BagReport] = field(default_factory=list)
    actions: list[ActionReport] = field(default_factory=list)
    delay: Delay | None = None
    sheet: str | None = None  #: the contact sheet, None where there is no episode

    def why_unusable(self) -> str:
        """Say in one line why there is no window."""
        episodes = [episode for bag in self.bags for episode in bag.episodes]
        reasons = [bag.problem for bag in self.bags if bag.problem]
        refused: Counter[str] = Counter()
        for bag in self.bags:
            refused.update(bag.refused)
        if refused:
            reasons.append('refused: ' + '; '.join(f'{n} x {why}' for why, n in refused.items()))
        longest = max((episode.seconds for episode in episodes), default=0.0)
        span = (self.window_frames - 1) * self.block_s
        text = (
            f'no usable window in {[bag.bag for bag in self.bags]}: {len(episodes)} episodes'
            + (f', the longest {longest:.2f} s' if episodes else '')
            + f'; a window needs {self.window_frames} frames {self.block_s:g} s apart ({span:g} s) '
            'with commands in between'
        )
        return '; '.join([text, *reasons])


class _Intervals:
    """Times between the messages of a topic; 8 bytes each."""

    def __init__(self, topic: Topic) -> None:
        self.report = TopicReport(topic.name, topic.type)
        known = TYPES.fielddefs.get(topic.type)
        fields = known[1] if known is not None else []
        stamped = bool(fields) and fields[0][1] == (Nodetype.NAME, 'std_msgs/msg/Header')
        self.report.clock = 'header' if stamped else 'log'
        self._last: int | None = None
        self._spans = array('q')

    def add(self, logged: int, data: bytes) -> None:
        """Take in a message logged at a time [ns]."""
        self.report.count += 1
        stamp = logged
        if self.report.clock == 'header':
            stamp = header_stamp(data) or logged
        if self._last is None or stamp > self._last:
            if self._last is not None:
                self._spans.append(stamp - self._last)
            self._last = stamp
        elif self._last - stamp > BEHIND:
            self._last = stamp

    def pause(self) -> None:
        """Leave out the time until the next message."""
        self._last = None

    def result(self) -> TopicReport:
        """Return the report."""
        spans = np.array(self._spans, dtype=np.int64) / NS_PER_S
        if len(spans):
            period = float(np.median(spans))
            low, high = np.percentile(spans, [5, 95])
            long = spans[spans > _gap(period)]
            self.report.rate_hz = 1 / period
            self.report.jitter_ms = float(high - low) * 1000
            self.report.gaps = len(long)
            self.report.longest_gap_s = float(long.max()) if len(long) else None
        return self.report


class _Ranges:
    """Ranges of the commands of all bags."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._ticks = 0
        self._near = np.zeros(contract.action.size, dtype=int)
        self._beyond = np.zeros(contract.action.size, dtype=int)
        self._least = np.full(contract.action.size, np.inf)
        self._greatest = np.full(contract.action.size, -np.inf)

    def add(self, episode: Episode) -> None:
        """Take in an episode."""
        low, high = self._contract.action.bounds
        margin = NEAR * (high - low)
        first, last = max(episode.stamps[0], episode.action_stamps[0]), episode.stamps[-1]
        ticks = np.arange(first, last + 1, round(self._contract.period * NS_PER_S))
        held = episode.actions[np.searchsorted(episode.action_stamps, ticks, side='right') - 1]
        self._ticks += len(held)
        self._near += ((held <= low + margin) | (held >= high - margin)).sum(axis=0)
        self._beyond += ((episode.actions < low) | (episode.actions > high)).sum(axis=0)
        self._least = np.minimum(self._least, episode.actions.min(axis=0))
        self._greatest = np.maximum(self._greatest, episode.actions.max(axis=0))

    def result(self) -> list[ActionReport]:
        """One report for each dimension."""
        action = self._contract.action
        reports = []
        for i, (name, unit, low, high) in enumerate(
            zip(action.names, action.units, action.low, action.high)
        ):
            report = ActionReport(name, unit, low, high, beyond=int(self._beyond[i]))
            if self._least[i] <= self._greatest[i]:
                report.least, report.greatest = float(self._least[i]), float(self._greatest[i])
                report.constant = report.greatest - report.least <= STILL * (high - low)
            if self._ticks:
                report.saturated = float(self._near[i] / self._ticks)
            reports.append(report)
        return reports


def inspect(
    bags: list[Path], path: Path, size: int, history: int, frameskip: int, out: Path
) -> Report:
    """Read bags as training would, one episode in memory at a time, and draw the contact sheet.

    Args:
        bags: rosbag2 folders or files.
        path: the contract.
        size: image size S [px].
        history: H; a window has H + 1 frames.
        frameskip: k; a block lasts k control periods.
        out: the PNG; not written where there is no episode.

    """
    contract = Contract.load(path)
    report = Report(str(path), history + 1, frameskip * contract.period)
    ranges, delay = _Ranges(contract), DelayEstimate(contract)
    sheet = ContactSheet(contract.action.names, contract.action.bounds)
    for bag in bags:
        found = BagReport(str(bag))
        report.bags.append(found)
        sheet.bag()
        met = ReadReport()
        origin: int | None = None
        try:
            found.topics = topic_reports(bag)
            for episode in read_episodes([bag], contract, size, met):
                windows = len(episode_windows(episode, contract, history, frameskip)[0])
                origin = int(episode.stamps[0]) if origin is None else origin
                gaps = _gaps(episode.stamps)
                found.episodes.append(
                    EpisodeReport(
                        (int(episode.stamps[0]) - origin) / NS_PER_S,
                        int(episode.stamps[-1] - episode.stamps[0]) / NS_PER_S,
                        len(episode.stamps),
                        len(episode.actions),
                        len(gaps),
                        windows,
                    )
                )
                report.windows += windows
                ranges.add(episode)
                delay.add(episode)
                sheet.add(episode, gaps, windows)
        except BagError as error:
            found.problem = str(error)
        found.refused = dict(met.refused)
    report.actions, report.delay = ranges.result(), delay.result()
    if any(bag.episodes for bag in report.bags):
        sheet.draw(out)
        report.sheet = str(out)
    return report


def topic_reports(path: Path) -> list[TopicReport]:
    """Time every topic of a bag. Raises BagError where it cannot be read."""
    try:
        bag = Bag(path, Counter())
        numbers = find_topic(bag, 'episode', 'std_msgs/msg/UInt32')
        topics = {topic: _Intervals(topic) for topic in bag.topics}
        number: bytes | None = None
        for topic, logged, data in bag.messages(topics):
            if topic == numbers and data != number:
                number = data
                for intervals in topics.values():
                    intervals.pause()
            topics[topic].add(logged, data)
    except OSError as error:
        raise BagError(f'bag {path}: cannot be read as rosbag2 ({error})') from error
    return [intervals.result() for intervals in topics.values()]


def _gap(period: float) -> float:
    """Length [s] above which an interval is a gap, at some period [s]."""
    return max(GAP_PERIODS * period, GAP_SECONDS)


def _gaps(stamps: np.ndarray) -> list[tuple[int, int]]:
    """Gaps (from, to) [ns] between frames."""
    steps = np.diff(stamps) / NS_PER_S
    if not len(steps):
        return []
    at = np.flatnonzero(steps > _gap(float(np.median(steps))))
    return [(int(stamps[i]), int(stamps[i + 1])) for i in at]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Say what bags hold, and draw it: rates, gaps, episodes, windows that training can use, '
        'ranges of the commands, delay. Exit status 2 where there is no usable window.'
    )
    parser.add_argument('bags', nargs='+', type=Path, help='bags, or folders of bags')
    parser.add_argument(
        '--contract', required=True, help='a contract file, or a name in config/robots'
    )
    for option, default, text in (
        ('--image-size', 64, 'image size [px]'),
        ('--history', 3, 'frames of context H; a window has one more'),
        ('--frameskip', 5, 'control periods in a block'),
    ):
        parser.add_argument(
            option, type=int, default=default, help=f'{text}, as for training (default {default})'
        )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('inspect.png'),
        help='the contact sheet (default inspect.png)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Inspect and print. Raises BagError where there is no usable window."""
    for option in ('image_size', 'history', 'frameskip'):
        if getattr(args, option) < 1:
            name = '--' + option.replace('_', '-')
            raise BagError(f'{name} is {getattr(args, option)}: expected 1 or more')
    path = find('contract', args.contract)
    bags = find_bags(args.bags)
    prepare_report(args.out.parent)
    report = inspect(bags, path, args.image_size, args.history, args.frameskip, args.out)
    if args.json:
        print(json.dumps(asdict(report), allow_nan=False))
    else:
        from lewm_ros.bags.inspection_text import describe

        print('\n'.join(describe(report)))
    if not report.windows:
        raise BagError(report.why_unusable())
    return 0
