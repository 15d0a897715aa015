# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Statistics of bags: timing, episodes, usable windows, commands, delay."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from lewm_ros.bags.bag_report import BagReport, EpisodeReport, TopicReport, match_topics
from lewm_ros.bags.contact_sheet import ContactSheet
from lewm_ros.bags.delay import Delay, DelayEstimate
from lewm_ros.bags.episodes import (
    Episode,
    ReadReport,
    episode_windows,
    read_episodes,
    slow_camera,
)
from lewm_ros.bags.layout import header_stamp
from lewm_ros.bags.message_types import has_header
from lewm_ros.bags.raw import Topic
from lewm_ros.bags.reader import Bag
from lewm_ros.bags.timeline import BEHIND
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.history import held_values
from lewm_ros.time import NS_PER_S

#: An interval is a gap where it exceeds this many periods and this long [s].
GAP_PERIODS, GAP_SECONDS = 3, 0.2
#: A pause between commands is long where it exceeds GAP_PERIODS usual ones and this [s].
LONG_PAUSE = 1.0
#: A command this close to a limit is saturated, as a share of the range between limits.
NEAR = 0.01
#: A dimension is constant if it varies by less than this share of the range.
STILL = 1e-6
#: A dimension hardly moves if it is off its commonest value for less than this share of ticks.
RARE = 0.01
#: Histogram bins between the limits, to find the commonest value.
BINS = 1001
#: Images lack contrast if their values span less than this, of 255; 12 bits read as 16 span 16.
FLAT = 20
#: Episodes of a bag that are listed as text.
LISTED = 20


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
    moving: float | None = None  #: share of the control ticks off the commonest value, 0 to 1
    saturated: float | None = None  #: share of the control ticks, 0 to 1
    beyond: int = 0  #: commands outside of the limits


@dataclass
class Report:
    """Report on all bags."""

    contract: str
    window_frames: int
    block_s: float
    windows: int = 0
    bags: list[BagReport] = field(default_factory=list)
    actions: list[ActionReport] = field(default_factory=list)
    darkest: int | None = None  #: value in the images as the model sees them, 0 to 255
    brightest: int | None = None
    delay: Delay | None = None
    sheet: str | None = None  #: the contact sheet, None where none was drawn

    def why_unusable(self) -> str:
        """Explain in one line why there is no usable window."""
        episodes = [episode for bag in self.bags for episode in bag.episodes]
        reasons = [
            problem
            for bag in self.bags
            for problem in bag.problems
            if not bag.episodes or problem.startswith('clocks differ')
        ]
        refused: Counter[str] = Counter()
        for bag in self.bags:
            refused.update(bag.refused)
        if refused:
            reasons.append('refused: ' + '; '.join(f'{n} x {why}' for why, n in refused.items()))
        lapsed = sum(episode.lapsed for episode in episodes)
        if lapsed:
            reasons.append(f'{lapsed} windows left out: commands older than action.hold')
        if slow := slow_camera(
            [e.seconds / (e.frames - 1) for e in episodes if e.frames > 1], self.block_s
        ):
            reasons.append(slow)
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
    """Intervals between the messages of a topic; 8 bytes each. ``by_log``: of their log times."""

    def __init__(self, topic: Topic, report: TopicReport, by_log: bool) -> None:
        self.report = report
        self.report.count = 0
        self.report.clock = 'header' if has_header(topic.type) and not by_log else 'log'
        self._last: int | None = None
        self._spans = array('q')

    def add(self, logged: int, data: bytes) -> None:
        """Add a message logged at ``logged`` [ns]."""
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
        """Ignore the time until the next message."""
        self._last = None

    def finish(self) -> None:
        """Complete the report."""
        spans = np.array(self._spans, dtype=np.int64) / NS_PER_S
        if len(spans):
            period = float(np.median(spans))
            low, high = np.percentile(spans, [5, 95])
            long = spans[spans > _gap(period)]
            self.report.rate_hz = 1 / period
            self.report.jitter_ms = float(high - low) * 1000
            self.report.gaps = len(long)
            self.report.longest_gap_s = float(long.max()) if len(long) else None


class _Ranges:
    """Ranges of the commands of all bags."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._ticks = 0
        self._values = np.zeros((contract.action.size, BINS), dtype=int)
        self._near = np.zeros(contract.action.size, dtype=int)
        self._beyond = np.zeros(contract.action.size, dtype=int)
        self._least = np.full(contract.action.size, np.inf)
        self._greatest = np.full(contract.action.size, -np.inf)

    def add(self, episode: Episode) -> None:
        """Add an episode."""
        low, high = self._contract.action.bounds
        margin = NEAR * (high - low)
        first, last = max(episode.stamps[0], episode.action_stamps[0]), episode.stamps[-1]
        ticks = np.arange(first, last + 1, round(self._contract.period * NS_PER_S))
        hold = self._contract.action.hold
        held = held_values(episode.action_stamps, episode.actions, ticks, hold)
        held = held[np.isfinite(held).all(axis=1)]
        self._ticks += len(held)
        places = np.clip((held - low) / (high - low) * BINS, 0, BINS - 1).astype(int)
        self._values += [np.bincount(column, minlength=BINS) for column in places.T]
        self._near += ((held <= low + margin) | (held >= high - margin)).sum(axis=0)
        self._beyond += ((episode.actions < low) | (episode.actions > high)).sum(axis=0)
        self._least = np.minimum(self._least, episode.actions.min(axis=0))
        self._greatest = np.maximum(self._greatest, episode.actions.max(axis=0))

    def result(self) -> list[ActionReport]:
        """Return a report for each dimension."""
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
                report.moving = float(1 - self._values[i].max() / self._ticks)
                report.saturated = float(self._near[i] / self._ticks)
            reports.append(report)
        return reports


def inspect_bags(
    bags: list[Path], path: Path, size: int, history: int, frameskip: int, out: Path | None
) -> Report:
    """Read bags as training would, one episode in memory at a time.

    Args:
        bags: rosbag2 folders or files.
        path: the contract.
        size: image size S [px].
        history: H; a window has H + 1 frames.
        frameskip: k; a block lasts k control periods.
        out: contact sheet to draw (PNG), which needs matplotlib; None, or no episode, for none.

    """
    contract = Contract.load(path)
    endless = replace(contract, action=replace(contract.action, hold=None))
    report = Report(str(path), history + 1, frameskip * contract.period)
    ranges, delay = _Ranges(contract), DelayEstimate(contract)
    levels: list[int] = []
    sheet = ContactSheet(contract.action.names, contract.action.bounds)
    for bag_path in bags:
        found = BagReport(str(bag_path))
        report.bags.append(found)
        sheet.bag()
        met = ReadReport(logged=False)
        pause = 0.0
        try:
            bag = Bag(bag_path, Counter())
            roles = match_topics(bag, contract, found)
            _time_topics(bag, found, roles, contract)
            if not {'camera', contract.action.applied.key} <= roles.keys():
                continue  # match_topics has added the problem
            origin: int | None = None
            for episode in read_episodes([bag_path], contract, size, met):
                windows = len(episode_windows(episode, contract, history, frameskip)[0])
                for_ever = episode_windows(episode, endless, history, frameskip)[0]
                pause = max(pause, _pause(episode, contract))
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
                        len(for_ever) - windows,
                    )
                )
                report.windows += windows
                levels += [int(episode.images.min()), int(episode.images.max())]
                ranges.add(episode)
                delay.add(episode)
                sheet.add(episode, gaps, windows)
        except BagError as error:
            found.add_problem(error)
        except OSError as error:
            found.problems.append(f'cannot be read as rosbag2 ({error})')
        finally:
            found.refused = dict(met.refused)
            found.problems += met.clocks
            found.notes += _about_hold(contract, found, pause)
    report.darkest, report.brightest = min(levels, default=None), max(levels, default=None)
    report.actions, report.delay = ranges.result(), delay.result()
    if out is not None and any(bag.episodes for bag in report.bags):
        sheet.draw(out)
        report.sheet = str(out)
    return report


def _about_hold(contract: Contract, report: BagReport, pause: float) -> list[str]:
    """Say what action.hold excluded, or that it may be missing; ``pause`` [s] is from _pause."""
    hold = contract.action.hold
    if hold is not None:
        lapsed = sum(episode.lapsed for episode in report.episodes)
        text = f'{lapsed} windows left out: commands older than action.hold ({hold:g} s)'
        return [text] if lapsed else []
    if not pause:
        return []
    return [
        f'commands pause for up to {pause:.1f} s: is the last one held? If not, set action.hold '
        'to how long the driver holds it'
    ]


def _pause(episode: Episode, contract: Contract) -> float:
    """Return the longest pause [s] after a non-stop command while frames arrive; 0 if not long."""
    first, last = episode.stamps[[0, -1]]
    edges = np.clip(np.append(episode.action_stamps, last), first, last)
    moving = np.any(episode.actions, axis=1) | (contract.stop.mode == 'hold')
    steps = np.diff(episode.action_stamps) / NS_PER_S
    usual = float(np.median(steps)) if len(steps) else 0.0
    longest = float(np.diff(edges)[moving].max(initial=0)) / NS_PER_S
    return longest if longest > max(GAP_PERIODS * usual, LONG_PAUSE) else 0.0


def _time_topics(bag: Bag, report: BagReport, roles: dict[str, Topic], contract: Contract) -> None:
    """Measure the timing of every topic; ``roles`` of :func:`match_topics`."""
    lines = {(line.name, line.type): line for line in report.topics}
    sources = (contract.camera, contract.action.applied, contract.state)
    by_log = [roles.get(s.key) for s in sources if s is not None and s.stamp == 'log']
    topics = {topic: _Intervals(topic, lines[topic], topic in by_log) for topic in bag.topics}
    numbers = roles.get('episode')
    number: bytes | None = None
    for topic, logged, data in bag.messages(topics):
        if topic == numbers and data != number:
            number = data
            for intervals in topics.values():
                intervals.pause()
        topics[topic].add(logged, data)
    for intervals in topics.values():
        intervals.finish()


def _gap(period: float) -> float:
    """Length [s] above which an interval is a gap, given the period [s]."""
    return max(GAP_PERIODS * period, GAP_SECONDS)


def _gaps(stamps: np.ndarray) -> list[tuple[int, int]]:
    """Gaps (from, to) [ns] between frames."""
    steps = np.diff(stamps) / NS_PER_S
    if not len(steps):
        return []
    at = np.flatnonzero(steps > _gap(float(np.median(steps))))
    return [(int(stamps[i]), int(stamps[i + 1])) for i in at]
