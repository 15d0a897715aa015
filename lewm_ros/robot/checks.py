# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Validation of values from files: one error lists all findings, so a file is fixed in one go.

Each check returns the value in the form that a dataclass stores, or raises CheckError with the
key, the value and what is expected. The reader of the file puts the file name in front.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from numbers import Integral, Real
import re
import sys
from typing import Any, ParamSpec, TypeVar

from lewm_ros.errors import ConfigError, shown

#: Largest limit of a robot; comparing with it also rejects NaN and infinity.
LARGEST = 1e9
#: Most dimensions of an action or a state; arrays of this size are allocated.
MOST = 128
_TOLD = 50  #: problems listed in one message
_LONGEST = 200  #: name [characters]; ROS allows 247 for a topic with its namespace
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
        """Return the result of a check; if it raises CheckError, record that and return None."""
        try:
            return check(*args, **options)
        except CheckError as error:
            self.texts += error.texts
            return None

    def expect(self, holds: bool, text: str) -> None:
        """Record a text unless a condition holds."""
        if not holds:
            self.texts.append(text)

    def report(self) -> None:
        """Raise CheckError if there are any."""
        if self.texts:
            raise CheckError(*self.texts)


def section(key: str, data: Any, kind: type[T], findings: Findings) -> dict[str, Any] | None:
    """Return a dataclass's arguments from a mapping; if invalid, record why and return None."""
    if not isinstance(data, dict):
        findings.expect(False, f'{key} is {shown(data)}: expected a mapping')
        return None
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]
    for name in sorted(set(map(str, data)) - set(known)):
        findings.expect(False, f'{key} has unknown key {shown(name)}: expected {sorted(known)}')
    # In YAML, `camera:` with nothing after it is null; it counts as absent.
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
    """Valid ROS topic name, relative or absolute."""
    if not isinstance(value, str) or len(value) > _LONGEST or not _TOPIC.fullmatch(value):
        raise CheckError(f'{key} is {_given(value)}: expected a topic name such as camera/image')
    return value


def one_of(key: str, value: Any, allowed: tuple[str, ...]) -> str:
    """One of the allowed words."""
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
    """Return whether a value is short text that is safe to print on a terminal."""
    return isinstance(value, str) and 0 < len(value) <= _LONGEST and value.isprintable()


def text(key: str, value: Any) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise CheckError(f'{key} is {_given(value)}: expected a non-empty string')
    return value


def name(key: str, value: Any) -> str:
    """Name: one short, printable line."""
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
    """Number in [low, high], by default any finite one; ``above``, ``below`` exclude a limit."""
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
    """Show what should be text, with a hint where YAML reads a word as a boolean."""
    entries = value if isinstance(value, (list, tuple)) else [value]
    read = any(isinstance(entry, bool) for entry in entries)
    hint = ' (YAML reads on, off, yes and no without quotes as True and False)' if read else ''
    return shown(value) + hint


def _is_within(value: Any, kind: type[Any], low: float, high: float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool) and low <= value <= high
