# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reads YAML that somebody else may have written: plain data, and nothing that a file can abuse.

PyYAML's safe loader runs no code, but it keeps the last of two equal keys without a word, shares
what an alias stands for (a few lines can then describe billions of values to whoever walks
them), follows nesting until Python's stack ends, and fails on some values with errors of many
kinds. Here all of that is one :class:`lewm_ros.errors.YamlError` naming the line.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
import re
from typing import Any, TypeVar

import yaml

from lewm_ros.errors import YamlError, one_line, shown
from lewm_ros.files import read_plain

LIMIT = 1 << 20  #: largest file [bytes]
DEPTH = 32  #: deepest nesting
_NUMBER = 40  #: longest whole number [characters]; Python cannot print those above 4300
_SCALARS = ('null', 'bool', 'int', 'float', 'str')
_PREFIX = 'tag:yaml.org,2002:'

T = TypeVar('T')


def read_yaml(path: Path) -> Any:
    """Read a file of at most LIMIT bytes. Raises YamlError; its text does not name the file."""
    try:
        return parse_yaml(read_plain(path, LIMIT))
    except OSError as error:
        raise YamlError(error.strerror or str(error)) from error


def parse_yaml(data: bytes | str) -> Any:
    """Return the None, bool, int, float, str, list and dict that a text stands for.

    Keys are texts. Raises YamlError for aliases, for tags and values of other kinds, for a key
    that stands twice in a mapping, and for what is no YAML in UTF-8.
    """
    try:
        loader = _Loader(data.decode() if isinstance(data, bytes) else data)
        return loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        line = f'line {where.line + 1}: ' if where else ''
        raise YamlError(f'{line}not YAML ({one_line(error.problem)})') from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # the latter two of odd escapes
        raise YamlError(f'not YAML ({one_line(error)})') from error


class _Loader(yaml.SafeLoader):
    # Without dates: ROS's own parser takes them for text, as this one then does.
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's name)
        start: [(tag, pattern) for tag, pattern in rules if tag.removeprefix(_PREFIX) in _SCALARS]
        for start, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refusal(event, f'alias *{event.anchor}: write the value out')
        tag = getattr(event, 'tag', None)
        if tag not in (None, '!'):
            raise _refusal(event, f'tag {shown(tag)}: expected plain values without tags')
        if self.depth == DEPTH:
            raise _refusal(event, f'nested deeper than {DEPTH} levels')
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if key.tag != f'{_PREFIX}str':
                name = shown(key.value) if isinstance(key, yaml.ScalarNode) else 'of several values'
                raise _refusal(key, f'key {name} is no text: put it in quotes')
            if key.value in seen:
                raise _refusal(key, f'key {shown(key.value)} stands twice')
            seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: Any) -> int:
        if len(node.value) > _NUMBER:
            raise _refusal(node, f'number of {len(node.value)} digits')
        return self._number(super().construct_yaml_int, node)

    def construct_yaml_float(self, node: Any) -> float:
        return self._number(super().construct_yaml_float, node)

    @staticmethod
    def _number(construct: Callable[[Any], T], node: Any) -> T:
        try:
            return construct(node)
        except ValueError as error:  # what looks like a number and is none, such as 0x_
            raise _refusal(node, f'{shown(node.value)} is no number: put it in quotes') from error


_Loader.add_constructor(f'{_PREFIX}int', _Loader.construct_yaml_int)
_Loader.add_constructor(f'{_PREFIX}float', _Loader.construct_yaml_float)
# PyYAML takes 1e-05 for text; ROS's parser and JSON do not.
_Loader.add_implicit_resolver(
    f'{_PREFIX}float', re.compile(r'[-+]?\d+(\.\d*)?[eE][-+]?\d+$', re.ASCII), list('-+0123456789')
)


def _refusal(where: Any, text: str) -> YamlError:
    return YamlError(f'line {where.start_mark.line + 1}: {text}')
