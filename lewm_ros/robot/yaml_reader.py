# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reads YAML as plain data, as ROS's own parser does: no dates, and 1e-05 is a number.

PyYAML's safe loader runs no code, but keeps the last of two equal keys without a warning. Here
that is an error, and every error is a :class:`lewm_ros.errors.ConfigError` naming the line.
"""

from __future__ import annotations

from pathlib import Path
import re
from typing import Any

import yaml

from lewm_ros.errors import ConfigError, one_line, shown
from lewm_ros.files import read_limited

LIMIT = 1 << 20  #: largest file [bytes]
_PREFIX = 'tag:yaml.org,2002:'


def read_yaml(path: Path) -> Any:
    """Read a file of at most LIMIT bytes. Raises ConfigError; its text does not name the file."""
    try:
        return parse_yaml(read_limited(path, LIMIT))
    except OSError as error:
        raise ConfigError(error.strerror or str(error)) from error


def parse_yaml(data: bytes | str) -> Any:
    """Parse YAML into None, bool, int, float, str, list and dict.

    Raises ConfigError for a duplicate key, an alias, and data that is not YAML in UTF-8.
    """
    try:
        return _Loader(data.decode() if isinstance(data, bytes) else data).get_single_data()
    except yaml.MarkedYAMLError as error:
        where = error.problem_mark or error.context_mark
        line = f'line {where.line + 1}: ' if where else ''
        raise ConfigError(f'{line}not YAML ({one_line(error.problem)})') from error
    except RecursionError as error:
        raise ConfigError('not YAML that can be read (nested too deeply)') from error
    except (yaml.YAMLError, ValueError) as error:  # the latter of text that is not UTF-8
        raise ConfigError(f'not YAML ({one_line(error)})') from error


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's name)
        start: [(tag, pattern) for tag, pattern in rules if tag != f'{_PREFIX}timestamp']
        for start, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            line = self.peek_event().start_mark.line + 1
            raise ConfigError(f'line {line}: an alias: write the value instead')
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise ConfigError(f'line {line}: duplicate key {shown(key.value)}')
                seen.add(key.value)
        return super().construct_mapping(node, deep)


# PyYAML takes 1e-05 for text; ROS's parser and JSON do not.
_Loader.add_implicit_resolver(
    f'{_PREFIX}float', re.compile(r'[-+]?\d+(\.\d*)?[eE][-+]?\d+$', re.ASCII), list('-+0123456789')
)
