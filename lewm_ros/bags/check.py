# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm check CONTRACT [--bag BAG ...]`: does a contract hold together, and do bags fit it?"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
import json
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError

from lewm_ros.bags.episodes import TYPES, find_topic
from lewm_ros.bags.raw import Topic
from lewm_ros.bags.reader import Bag, find_bags
from lewm_ros.checks import CheckError
from lewm_ros.errors import BagError, ContractError, ObservationError
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.fields import read_command, read_fields, steps
from lewm_ros.robot.imaging import from_message, prepare

#: So many messages of a topic are looked into before its others are taken to be like them.
_SAMPLES = 5
#: So many messages are read in search of those.
_MOST = 5000

Reader = Callable[[Any], np.ndarray]


@dataclass
class TopicLine:
    """A topic of a bag, and what the contract takes it for."""

    name: str
    type: str
    count: int
    role: str = ''


@dataclass
class BagReport:
    """How a bag fits the contract; it does where there are no problems."""

    bag: str
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    topics: list[TopicLine] = field(default_factory=list)


def check_contract(path: Path) -> tuple[Contract | None, list[str]]:
    """Load a contract; None and everything that is wrong, or the contract and what does not fit."""
    try:
        contract = Contract.load(path)
    except CheckError as error:
        return None, list(error.texts)
    channels = [contract.action, contract.action.executed, contract.state]
    return contract, [
        f"{channel.key}.fields has '{path}': {reason}"
        for channel in channels
        if channel is not None
        for path in channel.fields
        if (reason := lacks_number(channel.type, path))
    ]


def lacks_number(kind: str, path: str) -> str | None:
    """Say why messages of a type have no number at a path; None where they have one."""
    fields: Any = TYPES.fielddefs  # nested tuples, whose types tell little
    node: Any = (Nodetype.NAME, kind)
    for name, item in steps(path):
        if node[0] != Nodetype.NAME:
            return f'a number has no {name}'
        known = dict(fields[node[1]][1])
        if name not in known:
            return f'{node[1]} has no {name}; it has {", ".join(known)}'
        node = known[name]
        listed = node[0] in (Nodetype.ARRAY, Nodetype.SEQUENCE)
        if listed and item is None:
            return f'{name} is a list, say which of it: {name}[0]'
        if item is not None:
            if not listed:
                return f'{name} is no list'
            inner, size = node[1]
            if size and item >= size and node[0] == Nodetype.ARRAY:
                return f'{name} has {size} entries'
            node = inner
    if node[0] != Nodetype.BASE:
        return f'{path} is a {node[1]}: name one of its numbers'
    return f'{path} is a {node[1][0]}' if node[1][0] in ('string', 'wstring') else None


def check_bag(path: Path, contract: Contract | None) -> BagReport:
    """Look for the contract's topics in a bag, and into the first messages of each."""
    report = BagReport(str(path))
    damage: Counter[str] = Counter()
    try:
        bag = Bag(path, damage)
        report.topics = [
            TopicLine(topic.name, topic.type, count) for topic, count in bag.counts().items()
        ]
        if contract is not None:
            _check_topics(bag, contract, report)
        damage |= bag.damage
    except BagError as error:
        report.problems.append(str(error).removeprefix(f'bag {path}: '))
    report.notes += [f'{count} x {reason}' for reason, count in damage.items()]
    return report


def _check_topics(bag: Bag, contract: Contract, report: BagReport) -> None:
    camera, applied, state = contract.camera, contract.action.applied, contract.state

    readers: dict[Topic, list[Reader]] = {}

    def look_for(key: str, name: str, kind: str, reader: Reader) -> None:
        topic = _look_for(bag, key, name, kind, report)
        if topic is not None:
            readers.setdefault(topic, []).append(reader)

    look_for(
        'camera',
        camera.topic,
        camera.type,
        lambda message: prepare(from_message(message, camera.scale), 16, camera.crop),
    )
    key = applied.key
    look_for(key, applied.topic, applied.type, lambda m: read_command(m, applied.fields))
    if state is not None:
        look_for('state', state.topic, state.type, lambda m: read_fields(m, state.fields))
    number = find_topic(bag, 'episode', 'std_msgs/msg/UInt32')
    for line in report.topics:
        if number is not None and line.name == number.name:
            line.role = 'episode'
    if number is None:
        report.notes.append('no episode topic: episodes are cut at pauses and clock jumps only')
    _sample(bag, readers, report)


def _look_for(bag: Bag, key: str, name: str, kind: str, report: BagReport) -> Topic | None:
    """Find a topic and give it its role, or say what there is in its place."""
    try:
        topic = find_topic(bag, name, kind)
    except BagError as error:
        report.problems.append(f'{key}: {error}')
        return None
    if topic is None:
        tail = '/' + name.lstrip('/')
        same_name = [t.type for t in bag.topics if t.name.endswith(tail) and t.type != kind]
        same_type = [t.name for t in bag.topics if t.type == kind]
        there = 'it is not in the bag, and nothing of this type is'
        if same_name:
            there = f'in the bag it is {same_name[0]}'
        elif same_type:
            there = f'it is not in the bag; of this type there is {", ".join(same_type)}'
        report.problems.append(f'{key}.topic {name} ({kind}): {there}')
        return None
    for line in report.topics:
        if line.name == topic.name and line.type == topic.type:
            line.role = ', '.join(filter(None, [line.role, key]))
            if not line.count:
                report.problems.append(f'{key}.topic {name}: the bag has no message of it')
    return topic


def _sample(bag: Bag, readers: dict[Topic, list[Reader]], report: BagReport) -> None:
    """Read the first messages of each topic as training would."""
    seen: Counter[Topic] = Counter()
    refused: dict[str, None] = {}
    for place, (topic, _, data) in enumerate(bag.messages(readers)):
        if place == _MOST or all(seen[t] >= _SAMPLES for t in readers):
            break
        seen[topic] += 1
        if seen[topic] > _SAMPLES:
            continue
        try:
            message = TYPES.deserialize_cdr(data, topic.type)
            for reader in readers[topic]:
                reader(message)
        except (ObservationError, ContractError) as error:
            refused[f'{topic.name}: {error}'] = None
        except SerdeError:
            refused[f'{topic.name}: message that is damaged or of another layout'] = None
    report.problems += refused


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Say everything that is wrong with a contract, and which of its topics bags lack. Exit '
        'status 0 where all fits, 2 otherwise.'
    )
    parser.add_argument('contract', help='a contract file, or a name in config/robots')
    parser.add_argument(
        '--bag',
        nargs='+',
        action='extend',
        type=Path,
        default=[],
        help='bags, or folders of bags',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Check and print."""
    path = find('contract', args.contract)
    contract, problems = check_contract(path)
    bags = []
    for given in args.bag:
        try:
            bags += [check_bag(bag, contract) for bag in find_bags([given])]
        except BagError as error:
            bags.append(BagReport(str(given), [str(error).removeprefix(f'bag {given}: ')]))
    if args.json:
        print(
            json.dumps(
                {
                    'contract': str(path),
                    'problems': problems,
                    'bags': [asdict(report) for report in bags],
                }
            )
        )
    else:
        lines = _text(f'contract {path}', problems)
        for report in bags:
            lines += _text(f'bag {report.bag}', report.problems, contract is None)
            lines += _table(report)
        print('\n'.join(lines))
    return 2 if problems or any(report.problems for report in bags) else 0


def _text(name: str, problems: list[str], unknown: bool = False) -> list[str]:
    verdict = f'{len(problems)} problem{"s" if len(problems) > 1 else ""}'
    if not problems:
        verdict = 'readable; whether it fits, a sound contract would say' if unknown else 'fits'
    return [f'{name}: {verdict}', *(f'  - {text}' for text in problems)]


def _table(report: BagReport) -> list[str]:
    width = max((len(line.name) for line in report.topics), default=0)
    kinds = max((len(line.type) for line in report.topics), default=0)
    rows = [
        f'  {line.name:{width}}  {line.type:{kinds}}  {line.count:8d}  {line.role}'.rstrip()
        for line in report.topics
    ]
    return [*rows, *(f'  note: {text}' for text in report.notes)]
