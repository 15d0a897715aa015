# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Report on a bag: its topics and their roles in a contract, its episodes, its problems."""

from __future__ import annotations

from dataclasses import dataclass, field

from lewm_ros.bags.episodes import find_episodes, find_topic, foreign, is_named
from lewm_ros.bags.raw import Topic
from lewm_ros.bags.reader import Bag
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import Contract


@dataclass
class TopicReport:
    """A topic, and its timing if measured; pauses between numbered episodes do not count."""

    name: str
    type: str
    count: int = 0
    role: str = ''  #: in the contract, such as 'camera'; '' for none
    clock: str = 'log'  #: source of the times: 'header' stamps, or 'log' times
    rate_hz: float | None = None  #: 1 / median interval
    jitter_ms: float | None = None  #: 5th to 95th percentile of the intervals
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
    lapsed: int = 0  #: windows left out, since a command in them is older than action.hold


@dataclass
class BagReport:
    """A bag; it fits the contract where there are no problems."""

    bag: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    topics: list[TopicReport] = field(default_factory=list)
    episodes: list[EpisodeReport] = field(default_factory=list)
    refused: dict[str, int] = field(default_factory=dict)  #: what was left out, by reason

    def add_problem(self, error: BagError) -> None:
        """Add the reason why the bag cannot be read."""
        self.problems.append(str(error).removeprefix(f'bag {self.bag}: '))


def match_topics(bag: Bag, contract: Contract | None, report: BagReport) -> dict[str, Topic]:
    """List the topics of a bag and match them to a contract.

    Args:
        bag: the recording.
        contract: of the robot; None to list the topics only.
        report: receives the topics, and a problem for each topic that is missing.

    Returns the topics found, by role: 'camera', 'action' (or 'action.executed'), 'state',
    'episode'.

    """
    report.topics = [TopicReport(t.name, t.type, count) for t, count in bag.counts().items()]
    if contract is None:
        return {}
    camera, applied, state = contract.camera, contract.action.applied, contract.state
    wanted = {'camera': (camera.topic, camera.type), applied.key: (applied.topic, applied.type)}
    if state is not None:
        wanted['state'] = (state.topic, state.type)
    found: dict[str, Topic] = {}
    for role, (name, kind) in wanted.items():
        try:
            topic = find_topic(bag, name, kind)
        except BagError as error:
            report.problems.append(f'{role}: {error}')
            continue
        if topic is not None:
            found[role] = topic
        else:
            there = _there_instead(bag, name, kind)
            report.problems.append(f'{role}.topic {name} ({kind}): {there}')
    try:
        number = find_episodes(bag, [found[r] for r in ('camera', applied.key) if r in found])
    except BagError as error:
        report.problems.append(f'episode: {error}')
        number = None
    if number is not None:
        found['episode'] = number
    else:
        report.notes.append('no episode topic: episodes are cut at pauses and clock jumps only')
    for line in report.topics:
        roles = [role for role, topic in found.items() if topic == (line.name, line.type)]
        line.role = ', '.join(roles)
        report.problems += [
            f'{role}.topic {line.name}: no messages in the bag'
            for role in roles
            if not line.count and role != 'episode'
        ]
    return found


def _there_instead(bag: Bag, name: str, kind: str) -> str:
    """Describe the topics that may have been meant."""
    why = foreign(bag, name)
    if why is not None:
        return why
    same_name = [t.type for t in bag.topics if is_named(t.name, name)]
    if same_name:
        return f'its type in the bag is {same_name[0]}'
    same_type = [t.name for t in bag.topics if t.type == kind]
    if same_type:
        return f'not in the bag; topics of this type: {", ".join(same_type)}'
    tail = '/' + name.rpartition('/')[2]
    alike = [f'{t.name} ({t.type})' for t in bag.topics if t.name.endswith(tail)]
    if alike:
        return f'not in the bag, which has {", ".join(alike)}'
    return 'not in the bag, and no other topic has this type'
