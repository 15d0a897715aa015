# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""JSON as its standard has it: Python's own reader takes more, and keeps the last of two keys."""

from __future__ import annotations

from collections import Counter
import json
import math
from typing import Any

from lewm_ros.errors import shown

DEPTH = 32  #: deepest nesting
_TOO_DEEP = f'nested deeper than {DEPTH} levels'


def parse_json(data: bytes) -> Any:
    """Return what a JSON text in UTF-8 stands for.

    Raises ValueError, also for a key that stands twice in an object, for NaN and infinities
    (1e999 is one) and for nesting deeper than DEPTH.
    """
    try:
        found = json.loads(
            data.decode(),
            object_pairs_hook=_object,
            parse_constant=_refuse,
            parse_float=_finite,
        )
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    _check_depth(found, DEPTH)
    return found


def _check_depth(value: Any, left: int) -> None:
    if not left:
        raise ValueError(_TOO_DEEP)
    if isinstance(value, (dict, list)):
        for part in value.values() if isinstance(value, dict) else value:
            _check_depth(part, left - 1)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f'key {shown(twice)} stands twice')
    return found


def _finite(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else _refuse(text)


def _refuse(text: str) -> Any:
    raise ValueError(f'{shown(text)} is no finite number')
