# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A first contract from a bag: its topics, and what its messages say about the robot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from math import ceil, floor, log10
from pathlib import Path
import re
from typing import Any

import numpy as np
from rosbags.serde import SerdeError
import yaml

from lewm_ros.bags.message_types import TYPES
from lewm_ros.bags.raw import Topic
from lewm_ros.bags.reader import Bag
from lewm_ros.errors import ConfigError, ObservationError, one_line
from lewm_ros.robot import checks
from lewm_ros.robot.contract import ACTION_TYPES, IMAGE_TYPES, STATE_TYPES, Camera
from lewm_ros.robot.fields import POINT_FIELD, read_fields
from lewm_ros.robot.imaging import from_message
from lewm_ros.time import NS_PER_S

#: Most messages of a topic that are read, and how many in a row.
_MOST, _RUN = 20_000, 1000
#: Highest control rate of a draft [Hz]: a block of five periods leaves time for a plan.
_FASTEST = 30.0
#: Names of topics that carry commands.
_COMMANDED = re.compile(
    'cmd|command|action|goal|target|set_?point|reference|trajectory', re.IGNORECASE
)
#: A joint follows a command if the mean difference is at most this share of the command's range.
FOLLOWS = 0.15
#: Images of a topic that are tried.
TRIED = 100
#: Numbers that differ by less than this share of the largest are equal.
SAME = 1e-6
#: Words in a topic's name that tell what quantity plain numbers are.
_WORDS = {'position': 'pos', 'velocity': 'vel|speed', 'effort': 'effort|torque|force'}
_UNITS = {'position': 'rad', 'velocity': 'rad/s', 'effort': 'N*m'}
_TWIST = {f'linear.{axis}': 'm/s' for axis in 'xyz'} | {
    f'angular.{axis}': 'rad/s' for axis in 'xyz'
}
_ODOMETRY = {
    'pose.pose.position.x': 'm',
    'pose.pose.position.y': 'm',
    'twist.twist.linear.x': 'm/s',
    'twist.twist.angular.z': 'rad/s',
}


@dataclass
class _Numbers:
    """The numbers of a topic's messages; ``names``, ``units``: one for each of ``fields``."""

    fields: list[str]
    names: list[str]
    units: list[str]
    kind: str = 'velocity'
    rows: list[np.ndarray] = field(default_factory=list)
    times: list[int] = field(default_factory=list)  #: log times of the rows [ns]


def draft(path: Path) -> tuple[str, list[str]]:
    """Draft a contract for a bag: return its text, with topics as comments, and what is lacking.

    The text is a valid contract where nothing is lacking. The topics are chosen by type, name and
    count; limits are those of the commands in the bag. Comments say what the user has to decide.

    Raises BagError where the bag cannot be read.
    """
    bag = Bag(path, Counter())
    counts = bag.counts()
    logged = _log_times(bag)
    lines, lacking = _table(counts, logged), []
    name = re.sub('[^a-z0-9_]+', '_', path.stem.lower()).strip('_')
    lines += ['# Every key is explained in docs/contract.md.', f'name: {_flow(name or "my_robot")}']

    images = _ranked(counts, IMAGE_TYPES, lambda topic: 'depth' not in topic.name)
    cameras = (line for topic in images if (line := _camera(bag, topic)))
    if (camera := next(cameras, None)) is not None:
        lines.append(camera)
    elif images:
        lacking.append(f'no camera: none of {[t.name for t in images]} has images that can be read')
    else:
        lacking.append(f'no camera: no message of {" or ".join(IMAGE_TYPES)}')

    # Joint states are the robot's own unless their name says otherwise.
    measured_only = {
        topic
        for topic in counts
        if topic.type == 'sensor_msgs/msg/JointState' and not _COMMANDED.search(topic.name)
    }
    action = _choose(
        {topic: count for topic, count in counts.items() if topic not in measured_only},
        ACTION_TYPES,
        lambda topic: _COMMANDED.search(topic.name) is not None,
        lambda topic: topic.type != 'sensor_msgs/msg/JointState',
    )
    others = {topic: count for topic, count in counts.items() if topic != action}
    state = _choose(
        others,
        STATE_TYPES,
        lambda topic: _COMMANDED.search(topic.name) is None,
        lambda topic: topic.type in ('sensor_msgs/msg/JointState', 'nav_msgs/msg/Odometry'),
    )
    measured = None if state is None else _numbers(bag, state, False)
    commands = None if action is None else _numbers(bag, action, True)
    if action is None or commands is None:
        text = f'no commands: no message of {", ".join(ACTION_TYPES)} with numbers'
        if measured_only:
            named = ', '.join(sorted(topic.name for topic in measured_only))
            text += f' (by its name, {named} is measured)'
        lacking.append(text)
    else:
        values = np.array(commands.rows)
        if not len(_moving(values)):
            lacking.append(f'no commands: all messages on {action.name} are equal')
        else:
            plain = action.type.endswith('Float64MultiArray')
            if plain and measured is not None:
                _follow(commands, measured)
            lines += _action(action, commands, values, _ticks(_rate(logged[action])))
    if state is not None and measured is not None:
        channel = {'topic': state.name, 'type': state.type, 'fields': measured.fields}
        lines.append(f'state: {_flow(channel)}  # not for the model: for reports and safety')

    if action is not None and commands is not None:
        rate = max(_rate(logged[action]), 0.1)  # what a contract takes
        faster = f'  # a plan takes longer than a block at {rate:.0f} Hz' if rate > _FASTEST else ''
        rate = min(rate, _FASTEST)
        shown = float(f'{rate:.2g}' if rate < 10 else round(rate))
        lines.append(f'rates: {{control: {shown}}}{faster}')
        mode = 'hold' if commands.kind == 'position' else 'zero'
        lines.append(f'stop: {{mode: {mode}, observation_timeout: 0.5}}')
    return '\n'.join(lines), lacking


def _log_times(bag: Bag) -> dict[Topic, np.ndarray]:
    """Return when the first messages of each topic were recorded, (n,) int64 [ns]."""
    times: dict[Topic, list[int]] = {topic: [] for topic in bag.topics}
    for topic, logged, _ in bag.messages(times):
        if len(times[topic]) < _MOST:
            times[topic].append(logged)
    return {topic: np.array(found, dtype=np.int64) for topic, found in times.items()}


def _rate(times: np.ndarray) -> float:
    """Return the message rate without pauses [Hz]; 10 if there are too few messages to tell."""
    steps = np.diff(times)
    usual = steps[steps <= 3 * np.median(steps)] if len(steps) else steps
    total = usual.sum() / NS_PER_S
    return float(len(usual) / total) if total > 0 else 10.0


def _table(counts: Counter[Topic], logged: dict[Topic, np.ndarray]) -> list[str]:
    """Topics as comments."""
    width = max(len(topic.name) for topic in counts)
    lines = ['# Topics of the bag, messages, rate [Hz]:']
    for topic, count in counts.items():
        rate = f'{_rate(logged[topic]):.1f}' if count > 1 else '-'
        lines.append(
            f'#   {one_line(topic.name):<{width}}  {one_line(topic.type)}  {count}  {rate}'
        )
    return lines


def _choose(
    counts: dict[Topic, int], types: Iterable[str], *signs: Callable[[Topic], bool]
) -> Topic | None:
    """Return the topic that :func:`_ranked` puts first, or None."""
    return next(iter(_ranked(counts, types, *signs)), None)


def _ranked(
    counts: dict[Topic, int], types: Iterable[str], *signs: Callable[[Topic], bool]
) -> list[Topic]:
    """Return the topics of these types, ranked by the signs, in order, then by count."""
    found = [topic for topic, count in counts.items() if count and topic.type in types]

    def rank(topic: Topic) -> tuple[int, ...]:
        return (*(sign(topic) for sign in signs), counts[topic])

    return sorted(found, key=rank, reverse=True)


def _messages(bag: Bag, topic: Topic) -> Iterable[tuple[int, Any]]:
    """Yield log times [ns] and messages: all, or runs of them over the whole bag."""
    every = max(_RUN, _RUN * bag.counts()[topic] // _MOST)
    for number, (_, logged, data) in enumerate(bag.messages([topic])):
        if number % every >= _RUN:
            continue
        try:
            yield logged, TYPES.deserialize_cdr(data, topic.type)
        except SerdeError:  # `lewm check` counts these
            continue


def _camera(bag: Bag, topic: Topic) -> str | None:
    """Return the line of a camera; None if none of its first images can be read."""
    camera: dict[str, Any] = {'topic': topic.name, 'type': topic.type, 'crop': None}
    for _, message in islice(_messages(bag, topic), TRIED):
        encoding = getattr(message, 'encoding', '')
        try:
            if encoding == '16UC1':
                camera['scale'] = float(max(np.frombuffer(message.data, np.uint16).max(), 1))
            height, width = from_message(message, Camera(**camera)).shape[:2]
        except (ObservationError, ValueError):  # such as a first frame that is broken
            continue
        side = min(width, height)
        remark = f'  # {width} x {height} {one_line(encoding)}'.rstrip()
        if width != height:
            crop = [(width - side) // 2, (height - side) // 2, side, side]
            remark += f'; crop: {crop} is the square in the middle'
        if encoding == '16UC1':
            remark += '; scale: the value seen as white, here the largest of the first image'
        elif encoding == '8UC3':
            remark += '; 8UC3 does not state the order of its colours: add order: rgb or order: bgr'
        return f'camera: {_flow(camera)}{remark}'
    return None


def _numbers(bag: Bag, topic: Topic, command: bool) -> _Numbers | None:
    """Read the numbers of a topic; None if it has none. Commands are all of one kind."""
    found: _Numbers | None = None
    for logged, message in _messages(bag, topic):
        if found is None:
            found = _described(topic, message, command)
            if not found.fields:
                found = None
                continue
        try:
            row = read_fields(message, tuple(found.fields))
        except (ConfigError, ObservationError):  # shorter than the first, or of other joints
            continue
        found.rows.append(row)
        found.times.append(logged)
    return None if found is None or not found.rows else _finite(found)


def _finite(numbers: _Numbers) -> _Numbers | None:
    """Leave out numbers that are never finite, then messages in which others are not."""
    rows = np.array(numbers.rows)
    kept = np.flatnonzero(np.isfinite(rows).any(axis=0))
    whole = np.isfinite(rows[:, kept]).all(axis=1)
    if not len(kept) or not whole.any():
        return None
    for key in ('fields', 'names', 'units'):
        setattr(numbers, key, [getattr(numbers, key)[n] for n in kept])
    numbers.rows = list(rows[whole][:, kept])
    numbers.times = [time for time, keep in zip(numbers.times, whole) if keep]
    return numbers


def _described(topic: Topic, message: Any, command: bool) -> _Numbers:
    """Say what the numbers of a message are."""
    kind = topic.type.rpartition('/')[2]
    if kind == 'Float64MultiArray':
        guessed = [k for k, words in _WORDS.items() if re.search(words, topic.name.lower())]
        meaning, size = (guessed or ['velocity'])[0], len(message.data)
        names = [f'command_{n}' for n in range(size)]
        fields = [f'data[{n}]' for n in range(size)]
        return _Numbers(fields, names, [_UNITS[meaning]] * size, meaning)
    if kind in ('Twist', 'TwistStamped'):
        prefix = '' if kind == 'Twist' else 'twist.'
        names = [path.replace('.', '_') for path in _TWIST]
        return _Numbers([prefix + path for path in _TWIST], names, [*_TWIST.values()])
    if kind == 'Odometry':
        return _Numbers([*_ODOMETRY], [*_ODOMETRY], [*_ODOMETRY.values()])
    if kind == 'JointState':
        holder, prefix, joints = message, '', message.name
        arrays = {k: k for k in _UNITS}
    else:
        holder = message.points[0] if message.points else None
        prefix, joints, arrays = 'points[0].', message.joint_names, POINT_FIELD
    longest = max(len(getattr(holder, array, ())) for array in arrays.values())
    named = len(set(joints)) >= longest and all(map(checks.JOINT.fullmatch, joints))
    numbers = _Numbers([], [], [])
    for meaning, array in arrays.items():
        size = len(getattr(holder, array, ()))
        if not size or (command and numbers.fields):
            continue
        numbers.kind = meaning if not numbers.fields else numbers.kind
        entries = joints if named else range(size)
        numbers.fields += [f'{prefix}{array}[{entry}]' for entry in entries[:size]]
        numbers.names += [
            one_line(joints[n]) if n < len(joints) else f'joint_{n}' for n in range(size)
        ]
        numbers.units += [_UNITS[meaning]] * size
    return numbers


def _follow(commands: _Numbers, state: _Numbers) -> None:
    """Treat plain numbers as positions if joint positions follow all of them."""
    x, y = np.array(commands.rows), np.array(state.rows)
    places = [n for n, path in enumerate(state.fields) if path.startswith('position[')]
    if not places:
        return
    held = np.searchsorted(commands.times, state.times, side='right') - 1
    x, y = x[held[held >= 0]], y[held >= 0][:, places]
    if not len(x):
        return
    off = np.abs(x[:, :, None] - y[:, None]).mean(axis=0)  # (A, joints)
    joints = [places[n] for n in off.argmin(axis=1)]
    if (off.min(axis=1) <= FOLLOWS * np.ptp(x, axis=0)).all() and len({*joints}) == len(joints):
        commands.kind = 'position'
        commands.names = [state.names[n] for n in joints]
        commands.units = [state.units[n] for n in joints]


def _moving(values: np.ndarray) -> np.ndarray:
    """Return which dimensions of (n, A) vary by more than rounding errors."""
    return np.flatnonzero(np.ptp(values, axis=0) > SAME * np.abs(values).max())


def _ticks(rate: float) -> int:
    """Return how many commands of this rate [Hz] there are in a drafted control period."""
    return max(1, round(rate / _FASTEST))


def _changes(commands: _Numbers, values: np.ndarray, ticks: int) -> np.ndarray:
    """Return the changes of the commands (n, A) over so many messages, not across pauses."""
    taken = np.diff(commands.times)
    apart = np.asarray(commands.times[ticks:]) - commands.times[:-ticks]
    changes = np.abs(values[ticks:] - values[:-ticks])
    whole = apart <= 3 * ticks * np.median(taken) if len(taken) else apart > 0
    return changes[whole] if whole.any() else np.zeros((1, values.shape[1]))


def _action(topic: Topic, commands: _Numbers, values: np.ndarray, ticks: int) -> list[str]:
    """Lines of the section; ``values`` (n, A), of which a control period has ``ticks``."""
    moving = _moving(values).tolist()
    low, high = values.min(axis=0), values.max(axis=0)
    if commands.kind != 'position':  # zero, the stop command, must be allowed
        low, high = np.minimum(low, 0.0), np.maximum(high, 0.0)
    changes = np.percentile(_changes(commands, values, ticks), 99, axis=0)
    lines = [
        'action:',
        f'  topic: {_flow(topic.name)}',
        f'  type: {topic.type}',
        f'  fields: {_flow([commands.fields[n] for n in moving])}',
    ]
    still = [n for n in range(len(commands.fields)) if n not in moving]
    fixed = {commands.fields[n]: float(f'{values[0, n]:g}') for n in still}
    if topic.type.startswith('geometry_msgs/'):  # what is not set is 0 there
        fixed = {path: value for path, value in fixed.items() if value}
    if fixed:
        lines.append(f'  fixed: {_flow(fixed)}  # constant in the bag')
    step: Any = None
    if commands.kind == 'position':  # else a plan may cross the range in one period
        step = [_outward(float(changes[n]) or float(high[n] - low[n]), ceil) for n in moving]
    guess = '  # check: guessed' if topic.type.endswith('Float64MultiArray') else ''
    lines += [
        f'  names: {_flow([commands.names[n] for n in moving])}',
        f'  units: {_flow([commands.units[n] for n in moving])}{guess}',
        f'  kind: {commands.kind}{guess}',
        '  # Limits of the commands in the bag: set those of the robot.',
        f'  low: {[_outward(low[n], floor) for n in moving]}',
        f'  high: {[_outward(high[n], ceil) for n in moving]}',
        '  # In the bag 99 % of the changes in a control period are within '
        f'{[_outward(changes[n], ceil) for n in moving]}.',
        f'  max_step: {_flow(step)}',
        '  delay: 0.0  # `lewm inspect` measures it',
        '  executed: null',
    ]
    return lines


def _outward(value: float, away: Callable[[float], int]) -> float:
    """Round to two digits by ``floor`` or ``ceil``."""
    if value == 0:
        return 0.0
    unit = 10.0 ** (floor(log10(abs(value))) - 1)
    return float(f'{away(round(value / unit, 6)) * unit:.6g}')


def _flow(value: Any) -> str:
    """YAML on one line."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6)
    return text.removesuffix('\n...\n').strip()
