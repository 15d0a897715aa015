# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Settings, each declared once as a field of a frozen dataclass: default, text, range, choices.

ROS parameters, the checks of presets, command-line help and the tables of the documentation all
come from these fields. A default is also an attribute of the class: ``GoalConfig.goal_dwell``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field, fields
from typing import Any, TypeVar

from lewm_ros.errors import ConfigError, shown

_KINDS = {bool: 'true or false', int: 'a whole number', float: 'a number', str: 'a text'}

T = TypeVar('T')


def setting(
    default: bool | int | float | str,
    text: str,
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    dynamic: bool = False,
) -> Any:
    """Declare a field of the type of ``default``.

    Args:
        default: of the field.
        text: one or two sentences, with the unit in brackets.
        low: smallest value; every number has a range.
        high: largest value.
        choices: allowed texts; empty: any text.
        dynamic: whether it can change at run time.

    """
    about = {'text': text, 'low': low, 'high': high, 'choices': choices, 'dynamic': dynamic}
    return field(default=default, metadata=about)


def check_settings(config: Any) -> None:
    """Check type, range and choice of each field. Raises ConfigError naming what is right."""
    for item in fields(config):
        value, kind, about = getattr(config, item.name), type(item.default), item.metadata
        right = _KINDS[kind]
        fits = type(value) is kind or (kind is float and type(value) is int)
        if about['choices']:
            right = f'one of {list(about["choices"])}'
            fits = fits and value in about['choices']
        elif about['low'] is not None:
            right += f' from {about["low"]:g} to {about["high"]:g}'
            fits = fits and about['low'] <= value <= about['high']
        if not fits:
            raise ConfigError(f'{item.name} is {shown(value)}: expected {right}')


def from_values(config: type[T], values: Mapping[str, Any]) -> T:
    """Make a dataclass from the values named like its fields; others keep their defaults."""
    names = (item.name for item in fields(config))  # type: ignore[arg-type]
    return config(**{name: values[name] for name in names if name in values})


def help_of(config: Any, name: str) -> str:
    """Return the help of a command-line option for a field: its text and default."""
    item = next(item for item in fields(config) if item.name == name)
    text, default = item.metadata['text'].rstrip('.'), item.default
    shown_default = f'{default:g}' if isinstance(default, float) else default
    return f'{text[0].lower()}{text[1:]} (default {shown_default})'
