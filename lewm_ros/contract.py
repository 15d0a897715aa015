# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The robot contract: one YAML file that says what a robot sees, does and may do.

Recording, training, planning and surprise all read the same file. A bundle binds the part of
it that the model learnt from (crop, action dimensions, control rate); see
:meth:`Contract.check_against_bundle`.
"""

from __future__ import annotations

from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
import re
from typing import Any, TypeVar

import numpy as np
import yaml

from lewm_ros.errors import ContractError

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
#: No limit of a robot is larger; comparing with it also keeps NaN and infinity out.
LARGEST = 1e9
_FIELD = re.compile(r'[a-z_][a-z0-9_]*(\[\d{1,3}\])?(\.[a-z_][a-z0-9_]*(\[\d{1,3}\])?)*')

T = TypeVar('T')


@dataclass(frozen=True)
class Camera:
    """One camera.

    ``crop`` is (x, y, width, height) in [px] of the raw image, or None. ``scale`` is the value of
    a 16UC1 pixel (a depth in [mm], a temperature) that is seen as white, or None.
    """

    topic: str
    type: str = 'sensor_msgs/msg/Image'
    crop: tuple[int, int, int, int] | None = None
    scale: float | None = None

    def __post_init__(self) -> None:
        _topic('camera.topic', self.topic)
        _one_of('camera.type', self.type, IMAGE_TYPES)
        if self.crop is not None:
            crop = tuple(self.crop) if isinstance(self.crop, (list, tuple)) else (self.crop,)
            if (
                len(crop) != 4
                or not all(isinstance(v, int) and v >= 0 for v in crop)
                or not all(crop[2:])
            ):
                raise ContractError(
                    f'camera.crop is {list(crop)}: expected [x, y, width, height], whole pixels, '
                    'width and height above 0'
                )
            object.__setattr__(self, 'crop', crop)
        if self.scale is not None:
            scale = _number('camera.scale', self.scale, low=1.0, high=65535.0)
            object.__setattr__(self, 'scale', scale)


@dataclass(frozen=True)
class Channel:
    """Where numbers sit in a message: a topic, its type and one field path per number."""

    topic: str
    type: str
    fields: tuple[str, ...]

    key = 'state'

    def __post_init__(self) -> None:
        _topic(f'{self.key}.topic', self.topic)
        _one_of(f'{self.key}.type', self.type, STATE_TYPES)
        object.__setattr__(self, 'fields', _strings(f'{self.key}.fields', self.fields))
        for path in self.fields:
            if not _FIELD.fullmatch(path):
                raise ContractError(
                    f"{self.key}.fields has '{path}': expected a path such as data[0] or linear.x"
                )


class Executed(Channel):
    """The command as the robot reports having applied it."""

    key = 'action.executed'


@dataclass(frozen=True)
class Action(Channel):
    """The command. Arrays of this class have one entry per dimension, in contract units."""

    names: tuple[str, ...] = ()
    units: tuple[str, ...] = ()
    kind: str = 'effort'
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    max_step: tuple[float, ...] | None = None
    delay: float = 0.0
    executed: Executed | None = None

    key = 'action'

    def __post_init__(self) -> None:
        super().__post_init__()
        _one_of('action.type', self.type, ACTION_TYPES)
        _one_of('action.kind', self.kind, KINDS)
        for key in ('names', 'units'):
            object.__setattr__(self, key, _strings(f'action.{key}', getattr(self, key)))
        for key in ('low', 'high', 'max_step'):
            value = getattr(self, key)
            if value is not None:
                object.__setattr__(self, key, _numbers(f'action.{key}', value))
        object.__setattr__(self, 'delay', _number('action.delay', self.delay, low=0.0, high=1.0))
        if len(set(self.names)) != len(self.names):
            raise ContractError(f'action.names has a name twice: {list(self.names)}')
        sized = {
            'fields': self.fields,
            'names': self.names,
            'units': self.units,
            'low': self.low,
            'high': self.high,
        }
        if self.max_step is not None:
            sized['max_step'] = self.max_step
            if not all(step > 0 for step in self.max_step):
                raise ContractError(
                    f'action.max_step is {list(self.max_step)}: expected numbers above 0'
                )
        if self.executed is not None:
            sized['executed.fields'] = self.executed.fields
        for key, value in sized.items():
            if len(value) != len(self.fields):
                raise ContractError(
                    f'action.{key} has {len(value)} entries, action.fields has '
                    f'{len(self.fields)}: expected one per dimension'
                )
        for name, low, high in zip(self.names, self.low, self.high):
            if not low < high:
                raise ContractError(
                    f'action limits of {name} are low {low}, high {high}: expected low < high'
                )

    @property
    def size(self) -> int:
        """Number of action dimensions A."""
        return len(self.fields)

    @property
    def applied(self) -> Channel:
        """Where the command as applied is read: the robot's own report if it has one."""
        return self if self.executed is None else self.executed

    @property
    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Lower and upper limits, each (A,) float64, in contract units."""
        return np.array(self.low), np.array(self.high)


@dataclass(frozen=True)
class Rates:
    """Rates in [Hz]."""

    control: float

    def __post_init__(self) -> None:
        object.__setattr__(
            self, 'control', _number('rates.control', self.control, low=0.1, high=1000.0)
        )


@dataclass(frozen=True)
class Stop:
    """What to send when there is nothing valid to play, and how long to wait for a frame [s]."""

    mode: str = 'zero'
    observation_timeout: float = 0.5

    def __post_init__(self) -> None:
        _one_of('stop.mode', self.mode, STOP_MODES)
        value = _number('stop.observation_timeout', self.observation_timeout, low=0.01, high=60.0)
        object.__setattr__(self, 'observation_timeout', value)


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
            raise ContractError(
                f'stop.mode is hold but action.kind is {self.action.kind}: hold repeats the last '
                'position command, so it needs action.kind: position; use stop.mode: zero'
            )
        if self.stop.mode == 'zero' and self.action.kind == 'position':
            raise ContractError(
                'stop.mode is zero but action.kind is position: the robot would drive to position '
                'zero instead of stopping; use stop.mode: hold'
            )
        if self.stop.mode == 'zero' and not all(
            low <= 0 <= high for low, high in zip(self.action.low, self.action.high)
        ):
            raise ContractError(
                f'stop.mode is zero but the limits low {list(self.action.low)}, high '
                f'{list(self.action.high)} leave zero out: the robot could not be stopped'
            )

    @classmethod
    def load(cls, path: str | Path) -> Contract:
        """Read a contract file. Raises ContractError naming the file and the key."""
        path = Path(path)
        try:
            data = yaml.safe_load(path.read_text())
        except OSError as error:
            raise ContractError(f'contract {path}: {error.strerror or error}') from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ContractError(f'contract {path}: not YAML ({_one_line(error)})') from error
        try:
            return cls.parse(data)
        except ContractError as error:
            raise ContractError(f'contract {path}: {error}') from error

    @classmethod
    def parse(cls, data: Any) -> Contract:
        """Build a contract from plain data (the parsed YAML or the manifest's copy)."""
        if isinstance(data, dict) and isinstance(data.get('camera'), list):
            names = [c.get('topic') if isinstance(c, dict) else c for c in data['camera']]
            raise ContractError(f'camera lists {names}: one camera is supported, name just one')
        top = _mapping('contract', data, cls)
        top['camera'] = Camera(**_mapping('camera', top['camera'], Camera))
        action = _mapping('action', top['action'], Action)
        if action.get('executed') is not None:
            action['executed'] = Executed(
                **_mapping('action.executed', action['executed'], Executed)
            )
        top['action'] = Action(**action)
        top['rates'] = Rates(**_mapping('rates', top['rates'], Rates))
        if top.get('stop') is not None:
            top['stop'] = Stop(**_mapping('stop', top['stop'], Stop))
        if top.get('state') is not None:
            top['state'] = Channel(**_mapping('state', top['state'], Channel))
        if not isinstance(top['name'], str) or not top['name']:
            raise ContractError(f"name is {top['name']!r}: expected the robot's name")
        return cls(**top)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that :meth:`parse` reads back."""
        return _plain(asdict(self))

    @property
    def period(self) -> float:
        """Control period [s]."""
        return 1.0 / self.rates.control

    def check_against_bundle(self, trained: Contract) -> None:
        """Refuse a robot whose contract disagrees with the one a bundle was trained under.

        Crop, scale, action names and units and the control rate must be equal; limits may only
        be tighter. Raises ContractError naming the key and both values.
        """
        for key, ours, theirs in (
            ('camera.crop', self.camera.crop, trained.camera.crop),
            ('camera.scale', self.camera.scale, trained.camera.scale),
            ('action.names', self.action.names, trained.action.names),
            ('action.units', self.action.units, trained.action.units),
            ('rates.control', self.rates.control, trained.rates.control),
        ):
            if ours != theirs:
                raise ContractError(
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
                raise ContractError(
                    f'limits of {name} are [{low}, {high}] in the contract but '
                    f'[{trained_low}, {trained_high}] in the bundle: they may only be tighter'
                )


def _mapping(key: str, data: Any, kind: type) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise ContractError(f'{key} is {data!r}: expected a mapping')
    known = {f.name: f for f in fields(kind)}
    unknown = sorted(set(map(str, data)) - set(known))
    if unknown:
        raise ContractError(f'{key} has unknown key {unknown[0]!r}: expected {sorted(known)}')
    # `camera:` with nothing after it is null in YAML, and as good as absent.
    missing = [n for n, f in known.items() if data.get(n) is None and not _has_default(f)]
    if missing:
        raise ContractError(f'{key} lacks {missing[0]!r}')
    return {k: v for k, v in data.items() if v is not None or known[k].default is None}


def _has_default(item: Any) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def _topic(key: str, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', value):
        raise ContractError(f'{key} is {value!r}: expected a topic name such as camera/image')


def _one_of(key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ContractError(f'{key} is {value!r}: expected one of {list(allowed)}')


def _strings(key: str, value: Any) -> tuple[str, ...]:
    if (
        not isinstance(value, (list, tuple))
        or not value
        or not all(isinstance(v, str) and v for v in value)
    ):
        raise ContractError(f'{key} is {value!r}: expected a list of names, at least one')
    return tuple(value)


def _number(key: str, value: Any, low: float, high: float) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
        raise ContractError(f'{key} is {value!r}: expected a number in [{low}, {high}]')
    return float(value)


def _numbers(key: str, value: Any) -> tuple[float, ...]:
    # A NaN limit would switch a clamp off without a word: only finite numbers pass.
    if not isinstance(value, (list, tuple)) or not all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and abs(v) <= LARGEST for v in value
    ):
        raise ContractError(f'{key} is {value!r}: expected a list of finite numbers')
    return tuple(float(v) for v in value)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple) else value


def _show(value: Any) -> str:
    return str(_plain(value))


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split())
