# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Checks of a contract, and of bags against it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.serde import SerdeError

from lewm_ros.bags.bag_report import BagReport, match_topics
from lewm_ros.bags.clocks import Stamps
from lewm_ros.bags.layout import header_stamp
from lewm_ros.bags.message_types import TYPES, has_header
from lewm_ros.bags.raw import Topic
from lewm_ros.bags.reader import Bag
from lewm_ros.errors import BagError, ConfigError, ObservationError
from lewm_ros.robot.checks import CheckError
from lewm_ros.robot.contract import Camera, Channel, Contract
from lewm_ros.robot.fields import JOINT_TYPES, JointOrder, read_command, read_fields, steps
from lewm_ros.robot.imaging import from_message, prepare, unstated_order

#: Messages of each topic that are decoded; later images are assumed to be like them.
_SAMPLES = 5
#: Shortest message with a header [bytes]: encapsulation, stamp, frame_id.
_HEADER = 16

#: A section of the contract, and what reads its part of a message.
Reader = tuple[Camera | Channel, Callable[[Any], np.ndarray]]


def check_contract(path: Path) -> tuple[Contract | None, list[str]]:
    """Load a contract and check it against its message types.

    Returns the contract, None where it cannot be loaded, and all problems found.
    """
    try:
        contract = Contract.load(path)
    except CheckError as error:
        return None, list(error.texts)
    action, executed, state = contract.action, contract.action.executed, contract.state
    listed = [(f'{c.key}.fields', c.type, c.fields) for c in (action, executed, state) if c]
    listed.append(('action.fixed', action.type, tuple(action.fixed or ())))
    return contract, [
        f"{key} has '{path}': {reason}"
        for key, kind, paths in listed
        for path in paths
        if (reason := lacks_number(kind, path))
    ]


def lacks_number(kind: str, path: str) -> str | None:
    """Return why messages of a type have no number at a path; None where they have one."""
    fields: Any = TYPES.fielddefs  # nested tuples
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
            return f'{name} is a list: name an element, such as {name}[0]'
        if item is not None:
            if not listed:
                return f'{name} is not a list'
            inner, size = node[1]
            if size and isinstance(item, int) and item >= size and node[0] == Nodetype.ARRAY:
                return f'{name} has {size} entries'
            node = inner
    if node[0] != Nodetype.BASE:
        return f'{path} is a {node[1]}: name one of its numbers'
    return f'{path} is a {node[1][0]}' if node[1][0] in ('string', 'wstring') else None


def check_bag(path: Path, contract: Contract | None) -> BagReport:
    """Match a bag's topics to a contract, decode the first messages of each and read them all."""
    report = BagReport(str(path))
    damage: Counter[str] = Counter()
    try:
        bag = Bag(path, damage)
        found = match_topics(bag, contract, report)
        if contract is not None:
            stamps = Stamps(set())
            readers = _readers(contract, found)
            _read(bag, readers, stamps, report)
            differ = stamps.differ(contract)
            report.problems += [] if differ is None else [differ]
        damage |= bag.damage
    except BagError as error:
        report.add_problem(error)
    report.refused = dict(damage)
    return report


def _readers(contract: Contract, found: Mapping[str, Topic]) -> dict[Topic, list[Reader]]:
    """Return how each topic is read, for each section; ``found`` maps roles to topics."""
    camera, applied, state = contract.camera, contract.action.applied, contract.state
    readers: list[Reader] = [
        (camera, lambda m: prepare(from_message(m, camera), 16, camera.crop)),
        (applied, lambda m: read_command(m, applied.fields)),
    ]
    if state is not None:
        readers.append((state, lambda m: read_fields(m, state.fields)))
    by_topic: dict[Topic, list[Reader]] = {}
    for reader in readers:
        if (role := reader[0].key) in found:
            by_topic.setdefault(found[role], []).append(reader)
    return by_topic


def _read(
    bag: Bag,
    readers: dict[Topic, list[Reader]],
    stamps: Stamps,
    report: BagReport,
) -> None:
    """Read the first messages of each topic as training would; of later ones what may change.

    That is the clock that stamps them, and the order of joints that are read by index.
    """
    seen: Counter[Topic] = Counter()
    problems: dict[str, None] = {}
    notes: dict[str, None] = {}
    orders = {topic: _orders(topic, found) for topic, found in readers.items()}
    stamped = {topic: has_header(topic.type) for topic in readers}
    for topic, logged, data in bag.messages(readers):
        seen[topic] += 1
        first = seen[topic] <= _SAMPLES
        try:
            message = None
            if first or orders[topic]:
                message = TYPES.deserialize_cdr(data, topic.type)
            for order in orders[topic]:
                order.check(message)
            for source, read in readers[topic]:
                if stamped[topic] and source.stamp == 'header' and len(data) >= _HEADER:
                    stamps.note(header_stamp(data), logged, topic, source)
                if first:
                    read(message)
                    unstated = isinstance(source, Camera) and unstated_order(message, source)
                    if unstated:
                        notes[f'{topic.name}: {unstated}'] = None
        except (ObservationError, ConfigError) as error:
            problems[f'{topic.name}: {error}'] = None
        except SerdeError:
            problems[f'{topic.name}: message that is damaged or of another layout'] = None
    report.problems += problems
    report.notes += notes


def _orders(topic: Topic, found: list[Reader]) -> list[JointOrder]:
    """Return the checks of the joint order of a topic whose joints are read by index."""
    if topic.type not in JOINT_TYPES:
        return []
    orders = [JointOrder(source.fields) for source, _ in found if isinstance(source, Channel)]
    return [order for order in orders if order.by_place]
