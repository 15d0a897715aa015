# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""JSON as its standard has it: Python's own reader takes more, and keeps the last of two keys."""

from __future__ import annotations

from collections import Counter
import json
import math
from typing import Any

from lewm_ros.errors import one_line, shown

DEPTH = 32  #: deepest nesting
_TOO_DEEP = f'nested deeper than {DEPTH} levels'


def parse_json(data: bytes) -> Any:
    """Return what a JSON text in UTF-8 stands for.

    Raises ValueError, also for a key that stands twice in an object, for NaN and infinities
    (1e999 is one) and for nesting deeper than DEPTH.
    """
    try:
        found = json.loads(data.decode(), object_pairs_hook=_object)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check(found, '', DEPTH)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f'key {shown(twice)} stands twice')
    return found


def _check(value: Any, key: str, left: int) -> None:
    if not left:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, dict):
        for name, part in value.items():
            _check(part, f'{key}.{name}' if key else name, left - 1)
    elif isinstance(value, list):
        for index, part in enumerate(value):
            _check(part, f'{key}[{index}]', left - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f'{one_line(key)} is {value}: expected a finite number')
