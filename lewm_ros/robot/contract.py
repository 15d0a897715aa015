# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The robot contract: one YAML file that says what a robot sees, does and may do.

Recording, training, planning and surprise all read the same file. A bundle fixes the part
that the model was trained on (crop, action dimensions, control rate); see
:meth:`Contract.check_against_bundle`.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.errors import ConfigError, shown
from lewm_ros.robot import checks
from lewm_ros.robot.checks import LARGEST, CheckError, Findings
from lewm_ros.robot.fields import JOINT_TYPES, POINT_FIELD, named_joints
from lewm_ros.robot.yaml_reader import read_yaml
from lewm_ros.time import NS_PER_S

IMAGE_TYPES = ('sensor_msgs/msg/Image', 'sensor_msgs/msg/CompressedImage')
ACTION_TYPES = (
    'std_msgs/msg/Float64MultiArray',
    'geometry_msgs/msg/Twist',
    'geometry_msgs/msg/TwistStamped',
    'sensor_msgs/msg/JointState',
    'trajectory_msgs/msg/JointTrajectory',
)
STATE_TYPES = (*ACTION_TYPES, 'nav_msgs/msg/Odometry')
KINDS = ('position', 'velocity', 'effort')
STOP_MODES = ('zero', 'hold')
#: Source of the time of a message: its header stamp, or its log time (live: its receive time).
STAMPS = ('header', 'log')
ORDERS = ('rgb', 'bgr')


@dataclass(frozen=True)
class Camera:
    """One camera.

    ``crop`` is (x, y, width, height) in [px] of the raw image, or None. ``scale`` is the
    16-bit pixel value that becomes white (a depth in [mm], the maximum of a 10-bit sensor), or
    None. ``order`` is the channel order of 8UC3, which does not state it; None means RGB.
    ``stamp`` is one of :data:`STAMPS`.
    """

    topic: str
    type: str = 'sensor_msgs/msg/Image'
    crop: tuple[int, int, int, int] | None = None
    scale: float | None = None
    order: str | None = None
    stamp: str = 'header'

    key = 'camera'

    def __post_init__(self) -> None:
        found = Findings()
        found.note(checks.topic, 'camera.topic', self.topic)
        found.note(checks.one_of, 'camera.type', self.type, IMAGE_TYPES)
        found.note(checks.one_of, 'camera.stamp', self.stamp, STAMPS)
        if self.crop is not None:
            object.__setattr__(self, 'crop', found.note(checks.crop, 'camera.crop', self.crop))
        if self.scale is not None:
            scale = found.note(checks.number, 'camera.scale', self.scale, low=1.0, high=65535.0)
            object.__setattr__(self, 'scale', scale)
        if self.order is not None:
            found.note(checks.one_of, 'camera.order', self.order, ORDERS)
        found.report()


@dataclass(frozen=True)
class Channel:
    """Where numbers sit in a message: a topic, its type and one field path per number.

    ``stamp`` is one of :data:`STAMPS`.
    """

    topic: str
    type: str
    fields: tuple[str, ...]
    stamp: str = field(default='header', kw_only=True)

    key = 'state'

    def __post_init__(self) -> None:
        found = Findings()
        found.note(checks.topic, f'{self.key}.topic', self.topic)
        found.note(checks.one_of, f'{self.key}.type', self.type, STATE_TYPES)
        paths = found.note(checks.paths, f'{self.key}.fields', self.fields)
        object.__setattr__(self, 'fields', paths)
        self._check_joint_names(found, f'{self.key}.fields', paths or ())
        found.expect(
            len(set(paths or ())) == len(paths or ()),
            f'{self.key}.fields has duplicates: {list(paths or ())}',
        )
        found.note(checks.one_of, f'{self.key}.stamp', self.stamp, STAMPS)
        found.report()

    def _check_joint_names(self, found: Findings, key: str, paths: tuple[str, ...]) -> None:
        named = [path for path in paths if named_joints([path])]
        found.expect(
            not named or self.type in JOINT_TYPES,
            f"{key} has '{', '.join(named)}', but {self.type} has no joint names: "
            'expected an index, such as data[0]',
        )
        found.expect(
            not named or named == list(paths),
            f'{key} {list(paths)} mixes joint names and indices: name all joints',
        )


@dataclass(frozen=True)
class Executed(Channel):
    """The command as the robot reports having applied it.

    ``tolerance`` is how far a report may be from what was sent, one per dimension in contract
    units; None for 5 % of the range between the limits.
    """

    tolerance: tuple[float, ...] | None = None

    key = 'action.executed'

    def __post_init__(self) -> None:
        found = Findings()
        found.note(super().__post_init__)
        if self.tolerance is not None:
            key = 'action.executed.tolerance'
            given = found.note(_changes, key, self.tolerance)
            object.__setattr__(self, 'tolerance', given)
        found.report()


@dataclass(frozen=True)
class Action(Channel):
    """The command. Arrays of this class have one entry per dimension, in contract units.

    ``fixed`` are numbers by path that every message has beside the dimensions. ``hold`` is how long
    the robot's driver holds a command after it was received [s]; None: until the next one.
    """

    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    kind: str = ''
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    max_step: tuple[float, ...] | None = None  #: largest change per control tick
    max_rate: tuple[float, ...] | None = None  #: largest change per second
    delay: float = 0.0
    hold: float | None = None
    fixed: dict[str, float] | None = None
    executed: Executed | None = None

    key = 'action'

    def __post_init__(self) -> None:
        found = Findings()
        found.note(super().__post_init__)
        found.note(checks.one_of, 'action.type', self.type, ACTION_TYPES)
        found.note(checks.one_of, 'action.kind', self.kind, KINDS)
        if self.type in JOINT_TYPES and self.kind in KINDS:
            self._compare_kind(found)
        if self.fixed is not None:
            object.__setattr__(self, 'fixed', found.note(_fixed, 'action.fixed', self.fixed))
        sized: dict[str, Any] = {'fields': self.fields}
        for key, check in (
            ('names', checks.strings),
            ('units', checks.strings),
            ('low', _limits),
            ('high', _limits),
            ('max_step', _changes),
            ('max_rate', _changes),
        ):
            value = getattr(self, key)
            if value is not None:
                sized[key] = found.note(check, f'action.{key}', value)
                object.__setattr__(self, key, sized[key])
        delay = found.note(checks.number, 'action.delay', self.delay, low=0.0, high=1.0)
        object.__setattr__(self, 'delay', delay)
        if self.hold is not None:
            hold = found.note(checks.number, 'action.hold', self.hold, 0.0, 3600.0, above=True)
            object.__setattr__(self, 'hold', hold)
        if self.fields is not None:
            self._compare_paths(found)
        if self.executed is not None:
            sized['executed.fields'] = self.executed.fields
            if self.executed.tolerance is not None:
                sized['executed.tolerance'] = self.executed.tolerance
        if all(value is not None for value in sized.values()):
            self._compare(sized, found)
        found.report()

    def _compare_kind(self, found: Findings) -> None:
        """Check that the numbers are what ``kind`` says, by the array they are in."""
        for path in self.fields or ():
            array = str(path).rpartition('.')[2].partition('[')[0]
            meant = next((k for k, name in POINT_FIELD.items() if array in (k, name)), array)
            found.expect(
                meant == self.kind,
                f'action.kind is {self.kind}, but {path} is of kind {meant}: they must agree',
            )

    def _compare_paths(self, found: Findings) -> None:
        """Check that every number of an array comes from ``fields`` or ``fixed``, and from one."""
        fixed = list(self.fixed or ())
        if fixed:  # a message lists the joints of both
            self._check_joint_names(found, 'action.fields with action.fixed', self.paths)
        both = sorted(set(self.fields) & set(fixed))
        found.expect(not both, f'action.fixed has {", ".join(both)}, which is in action.fields too')
        listed: dict[str, set[int]] = {}
        for path in (*self.fields, *fixed):
            array, _, place = path.removesuffix(']').rpartition('[')
            if path.endswith(']') and place.isdecimal():
                listed.setdefault(array, set()).add(int(place))
        for array, places in listed.items():
            gaps = [f'{array}[{n}]' for n in range(max(places)) if n not in places]
            found.expect(
                not gaps,
                f'action.fields lacks {", ".join(gaps[:8])}: the message would have 0 there; add '
                'it to action.fields, or to action.fixed with the number to send',
            )

    def _compare(self, sized: dict[str, tuple[Any, ...]], found: Findings) -> None:
        """Check the consistency of values that are each valid by themselves."""
        size = len(self.fields)
        found.expect(
            len(set(self.names)) == len(self.names),
            f'action.names has duplicates: {list(self.names)}',
        )
        for key, value in sized.items():
            found.expect(
                len(value) == size,
                f'action.{key} has {len(value)} entries, action.fields has {size}: expected one '
                'per dimension',
            )
        for name, low, high in zip(self.names, self.low, self.high):
            found.expect(
                low < high,
                f'action limits of {name} are low {low}, high {high}: expected low < high',
            )

    @property
    def size(self) -> int:
        """Number of action dimensions A."""
        return len(self.fields)

    @property
    def applied(self) -> Channel:
        """Channel of the applied command: the robot's own report if it has one."""
        return self if self.executed is None else self.executed

    @property
    def paths(self) -> tuple[str, ...]:
        """Paths of all numbers of a message, of the dimensions first."""
        return (*self.fields, *(self.fixed or ()))

    def numbers(self, values: np.ndarray) -> np.ndarray:
        """Return the numbers at :attr:`paths` for a command (A,)."""
        return np.append(values, list((self.fixed or {}).values()))

    @property
    def delay_ns(self) -> int:
        """``delay`` [ns]."""
        return round(self.delay * NS_PER_S)

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limits, each (A,) float64, in contract units."""
        return np.array(self.low), np.array(self.high)


@dataclass(frozen=True)
class Rates:
    """Rates in [Hz]."""

    control: float

    def __post_init__(self) -> None:
        control = checks.number('rates.control', self.control, low=0.1, high=1000.0)
        object.__setattr__(self, 'control', control)


@dataclass(frozen=True)
class Stop:
    """What to send when there is nothing valid to play, and how long to wait for a frame [s]."""

    mode: str = 'zero'
    observation_timeout: float = 0.5

    def __post_init__(self) -> None:
        found = Findings()
        found.note(checks.one_of, 'stop.mode', self.mode, STOP_MODES)
        key, value = 'stop.observation_timeout', self.observation_timeout
        timeout = found.note(checks.number, key, value, low=0.01, high=60.0)
        object.__setattr__(self, 'observation_timeout', timeout)
        found.report()


@dataclass(frozen=True)
class Contract:
    """A robot, as in ``config/robots/*.yaml``. Construct with :meth:`load` or :meth:`parse`."""

    name: str
    camera: Camera
    action: Action
    rates: Rates
    stop: Stop = field(default_factory=Stop)
    state: Channel | None = None

    def __post_init__(self) -> None:
        if self.stop.mode == 'hold' and self.action.kind != 'position':
            raise CheckError(
                f'stop.mode is hold but action.kind is {self.action.kind}: hold repeats the last '
                'position command, so it needs action.kind: position; use stop.mode: zero'
            )
        if self.stop.mode == 'zero' and self.action.kind == 'position':
            raise CheckError(
                'stop.mode is zero but action.kind is position: the robot would drive to position '
                'zero instead of stopping; use stop.mode: hold'
            )
        if self.stop.mode == 'zero' and not all(
            low <= 0 <= high for low, high in zip(self.action.low, self.action.high)
        ):
            raise CheckError(
                f'stop.mode is zero but the limits low {list(self.action.low)}, high '
                f'{list(self.action.high)} exclude zero: the robot could not be stopped'
            )

        hold = self.action.hold
        if hold is not None and hold < self.period:
            raise CheckError(
                f'action.hold is {hold} but rates.control is {self.rates.control}: the driver '
                f'would stop between two commands; expected at least {self.period:g}'
            )

    @classmethod
    def load(cls, path: str | Path) -> Contract:
        """Read a contract file. Raises CheckError, a ConfigError, naming file and keys."""
        try:
            return cls.parse(read_yaml(Path(path)))
        except CheckError as error:
            raise CheckError(*error.texts, where=f'contract {path}: ') from error
        except ConfigError as error:  # no YAML
            raise CheckError(str(error), where=f'contract {path}: ') from error

    @classmethod
    def parse(cls, data: Any) -> Contract:
        """Build a contract from plain data (the parsed YAML or the manifest's copy).

        Raises CheckError, a ConfigError, with everything that is wrong.
        """
        if isinstance(data, dict) and isinstance(data.get('camera'), list):
            names = [c.get('topic') if isinstance(c, dict) else c for c in data['camera']]
            raise CheckError(f'camera lists {shown(names)}: one camera is supported, name just one')
        found = Findings()
        top = checks.section('contract', data, cls, found)
        if top is None:  # check the other sections all the same
            top = dict(data) if isinstance(data, dict) else {}
        executed = None
        if isinstance(top.get('action'), dict) and top['action'].get('executed') is not None:
            key, given = 'action.executed', top['action']['executed']
            executed = _build(key, given, Executed, found)
            top['action'] = {k: v for k, v in top['action'].items() if k != 'executed'}
        for key, kind in _SECTIONS.items():
            if top.get(key) is not None:
                top[key] = _build(key, top[key], kind, found)
        if executed is not None and top.get('action') is not None:
            top['action'] = found.note(replace, top['action'], executed=executed)
        if top.get('name') is not None:
            found.note(checks.name, 'name', top['name'])
        found.report()
        return cls(**top)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`parse` reads back."""
        data = _plain(asdict(self))
        # Left out at their defaults: the hash stays that of bundles older than these keys.
        for section, keys in (
            (data['camera'], ('scale', 'order', 'stamp')),
            (data['action'], ('max_rate', 'hold', 'fixed', 'stamp')),
            (data['action']['executed'], ('tolerance', 'stamp')),
            (data['state'], ('stamp',)),
        ):
            for key in () if section is None else keys:
                if section[key] in (None, 'header'):
                    del section[key]
        return data

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the content, whatever the layout of the file."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()

    @property
    def period(self) -> float:
        """Control period [s]."""
        return 1.0 / self.rates.control

    @property
    def pose(self) -> Channel | None:
        """The part of ``state`` that has the position of each action dimension, in their order.

        None where commands are no positions, where the robot reports them as ``action.executed``,
        or where the state lacks the position of a joint.
        """
        action, state = self.action, self.state
        if action.kind != 'position' or action.executed is not None or state is None:
            return None
        joints = named_joints(action.fields) or action.names
        found = tuple(f'position[{joint}]' for joint in joints)
        return replace(state, fields=found) if set(found) <= set(state.fields) else None

    def remarks(self) -> list[str]:
        """Return what is valid, but seldom meant."""
        action = self.action
        if action.kind == 'position' and action.max_step is None and action.max_rate is None:
            return [
                'action has no max_step and no max_rate: positions may jump from one limit to the '
                'other within a control period; set one of them'
            ]
        return []

    def check_against_bundle(self, trained: Contract) -> None:
        """Refuse a robot whose contract disagrees with the one a bundle was trained under.

        Crop, scale, colour order, the control rate, and names, units and kind of the action must
        be equal; limits may only be tighter. Raises ConfigError naming the key and both values.
        """
        for key, ours, theirs in (
            ('camera.crop', self.camera.crop, trained.camera.crop),
            ('camera.scale', self.camera.scale, trained.camera.scale),
            ('camera.order', self.camera.order, trained.camera.order),
            ('action.names', self.action.names, trained.action.names),
            ('action.kind', self.action.kind, trained.action.kind),
            ('action.units', self.action.units, trained.action.units),
            ('rates.control', self.rates.control, trained.rates.control),
        ):
            if ours != theirs:
                raise ConfigError(
                    f'{key} is {_show(ours)} in the contract but {_show(theirs)} in the bundle: '
                    'they must be equal; fix the contract or train a bundle for this robot'
                )
        for name, low, high, trained_low, trained_high in zip(
            self.action.names,
            self.action.low,
            self.action.high,
            trained.action.low,
            trained.action.high,
        ):
            if low < trained_low or high > trained_high:
                raise ConfigError(
                    f'limits of {name} are [{low}, {high}] in the contract but '
                    f'[{trained_low}, {trained_high}] in the bundle: they may only be tighter'
                )


#: Sections of the file, in the order in which problems are named.
_SECTIONS: dict[str, type] = {
    'camera': Camera,
    'action': Action,
    'state': Channel,
    'rates': Rates,
    'stop': Stop,
}


def _build(key: str, data: Any, kind: type, found: Findings) -> Any:
    """Build a section; if it is invalid, record why and return None."""
    values = checks.section(key, data, kind, found)
    return None if values is None else found.note(kind, **values)


def _limits(key: str, value: Any) -> tuple[float, ...]:
    return checks.numbers(key, value, low=-LARGEST, high=LARGEST)


def _fixed(key: str, value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise CheckError(f'{key} is {shown(value)}: expected numbers by path, such as data[2]: 1.5')
    paths = checks.paths(key, list(value))
    numbers = checks.numbers(key, list(value.values()), low=-LARGEST, high=LARGEST)
    return dict(zip(paths, numbers))


def _changes(key: str, value: Any) -> tuple[float, ...]:
    return checks.numbers(key, value, low=0.0, high=LARGEST, above=True)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _show(value: Any) -> str:
    """Show a value as in the file."""
    return 'null' if value is None else str(_plain(value))
