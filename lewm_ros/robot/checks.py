# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Checks of values from files, and several findings in one error: a file is mended in one go.

Each check returns the value in the form that a dataclass keeps, or raises CheckError with the
key, the value and what would be right. Whoever reads the file puts its name in front.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from numbers import Integral, Real
import re
import sys
from typing import Any, ParamSpec, TypeVar

from lewm_ros.errors import ConfigError, shown

#: No limit of a robot is larger; comparing with it also keeps NaN and infinity out.
LARGEST = 1e9
#: Dimensions of an action or a state; arrays are made by this number.
MOST = 128
_TOLD = 50  #: problems that one message tells
_LONGEST = 200  #: name [characters]; ROS takes 247 for a topic with its namespace
_FINITE = sys.float_info.max
_TOPIC = re.compile(r'/?[A-Za-z_]\w*(/[A-Za-z_]\w*)*', re.ASCII)
#: Name of a joint that a path may have in brackets.
JOINT = re.compile(r'[A-Za-z_][A-Za-z0-9_/-]{0,199}')
_PART = r'[a-z_][a-z0-9_]*(\[[0-9]{1,3}\])?'
_FIELD = re.compile(rf'({_PART}\.)*({_PART}|[a-z_]+\[{JOINT.pattern}\])')

P = ParamSpec('P')
T = TypeVar('T')


class CheckError(ConfigError):
    """Everything that is wrong with one thing; ``texts`` has a line for each."""

    def __init__(self, *texts: str, where: str = '') -> None:
        self.texts = texts
        told, more = texts[:_TOLD], len(texts) - _TOLD
        super().__init__(where + '; '.join(told) + (f'; and {more} more' if more > 0 else ''))


class Findings:
    """Collects what checks find, to be raised together."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def note(self, check: Callable[P, T], *args: P.args, **options: P.kwargs) -> T | None:
        """Result of a check; None where it raised, which is taken note of."""
        try:
            return check(*args, **options)
        except CheckError as error:
            self.texts += error.texts
            return None

    def expect(self, holds: bool, text: str) -> None:
        """Take note of a text unless something holds."""
        if not holds:
            self.texts.append(text)

    def report(self) -> None:
        """Raise CheckError if there are any."""
        if self.texts:
            raise CheckError(*self.texts)


def section(key: str, data: Any, kind: type[T], findings: Findings) -> dict[str, Any] | None:
    """Arguments of a dataclass from a mapping; None, and noted, where one cannot be made."""
    if not isinstance(data, dict):
        findings.expect(False, f'{key} is {shown(data)}: expected a mapping')
        return None
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name in sorted(set(map(str, data)) - set(known)):
        findings.expect(False, f'{key} has unknown key {shown(name)}: expected {sorted(known)}')
    # `camera:` with nothing after it is null in YAML, and as good as absent.
    missing = [n for n, f in known.items() if data.get(n) is None and not _has_default(f)]
    for name in missing:
        findings.expect(False, f'{key} lacks {name!r}')
    if missing:
        return None
    return {
        k: v
        for k, v in data.items()
        if k in known and (v is not None or known[k].default is None)
    }  # fmt: skip


def _has_default(item: Any) -> bool:
    return item.default is not MISSING or item.default_factory is not MISSING


def topic(key: str, value: Any) -> str:
    """Name of a topic, relative or absolute, as ROS takes it."""
    if not isinstance(value, str) or len(value) > _LONGEST or not _TOPIC.fullmatch(value):
        raise CheckError(f'{key} is {_given(value)}: expected a topic name such as camera/image')
    return value


def one_of(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    """One of some words."""
    if value not in allowed:
        raise CheckError(f'{key} is {_given(value)}: expected one of {list(allowed)}')
    return value


def crop(key: str, value: Any) -> tuple[int, int, int, int]:
    """Rectangle (x, y, width, height) in [px]."""
    sides = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    if (
        len(sides) != 4
        or not all(type(v) is int and 0 <= v <= 65535 for v in sides)
        or not all(sides[2:])
    ):
        raise CheckError(
            f'{key} is {shown(list(sides))}: expected [x, y, width, height], whole pixels, '
            'width and height above 0'
        )
    return sides


def is_name(value: Any) -> bool:
    """Whether a value is a text that may be shown: nothing in it moves a terminal's cursor."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()


def text(key: str, value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise CheckError(f'{key} is {_given(value)}: expected a text')
    return value


def name(key: str, value: Any) -> str:
    """Name of one short line."""
    if not is_name(value):
        raise CheckError(f'{key} is {shown(value)}: expected a name of one short line')
    return value


def strings(key: str, value: Any) -> tuple[str, ...]:
    """One or more names."""
    if (
        not isinstance(value, (list, tuple))
        or not 1 <= len(value) <= MOST
        or not all(is_name(v) for v in value)
    ):
        raise CheckError(f'{key} is {_given(value)}: expected a list of 1 to {MOST} names')
    return tuple(value)


def paths(key: str, value: Any) -> tuple[str, ...]:
    """Paths of numbers in a message."""
    found = strings(key, value)
    bad = [path for path in found if not _FIELD.fullmatch(path)]
    if bad:
        expected = 'expected a path such as data[0], position[elbow] or linear.x'
        raise CheckError(*(f"{key} has '{path}': {expected}" for path in bad))
    return found


def whole(key: str, value: Any, low: int, high: int) -> int:
    """Whole number in [low, high]."""
    if not _is_within(value, Integral, low, high):
        raise CheckError(f'{key} is {shown(value)}: expected a whole number in [{low}, {high}]')
    return int(value)


def number(
    key: str,
    value: Any,
    low: float = -_FINITE,
    high: float = _FINITE,
    above: bool = False,
    below: bool = False,
) -> float:
    """Number from low to high, by default any finite one; above low and below high if so told."""
    fits = _is_within(value, Real, low, high)
    if not fits or (above and value == low) or (below and value == high):
        right = f'a number in {"(" if above else "["}{low}, {high}{")" if below else "]"}'
        if high == _FINITE:
            bound = 'above' if above else 'of at least'
            right = 'a finite number' if low == -_FINITE else f'a finite number {bound} {low:g}'
        raise CheckError(f'{key} is {shown(value)}: expected {right}')
    return float(value)


def numbers(key: str, value: Any, size: int | None = None, **limits: Any) -> tuple[float, ...]:
    """``size`` numbers, or any count of them; for limits see :func:`number`."""
    if not isinstance(value, (list, tuple)):
        raise CheckError(f'{key} is {shown(value)}: expected a list of numbers')
    if size is not None and len(value) != size:
        raise CheckError(f'{key} has {len(value)} entries: expected {size}')
    return tuple(number(f'{key}[{index}]', entry, **limits) for index, entry in enumerate(value))


def _given(value: Any) -> str:
    """Show what should be a text, or texts, with a hint where YAML reads a word as no text."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    read = any(isinstance(entry, bool) for entry in entries)
    hint = ' (YAML reads on, off, yes and no without quotes as True and False)' if read else ''
    return shown(value) + hint


def _is_within(value: Any, kind: type[Any], low: float, high: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
