# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reads ROS parameter files as ROS does, but reports what ROS silently ignores."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
import re
from typing import Any

from lewm_ros.errors import ConfigError, shown
from lewm_ros.robot.yaml_reader import read_yaml


def read_params_file(path: Path) -> dict[str, dict[str, Any]]:
    """Return the parameters by node name or wildcard.

    Raises ConfigError if it is not a parameter file; the message does not name the file.
    """
    data = read_yaml(path)
    if not isinstance(data, dict) or not data:
        raise ConfigError('expected node names with ros__parameters')
    found = {}
    for node, body in data.items():
        if not isinstance(body, dict) or not isinstance(body.get('ros__parameters'), dict):
            raise ConfigError(f'{shown(node)} lacks ros__parameters')
        found[str(node)] = {str(key): value for key, value in body['ros__parameters'].items()}
    return found


def matches(section: str, node: str) -> bool:
    """Whether a section is for a node of this full name, such as /lewm/planner_node."""
    any_names = '(/[^/]+)*'
    names = (
        any_names if part == '**' else '/' + re.escape(part).replace(r'\*', '[^/]*')
        for part in section.strip('/').split('/')
    )
    return re.fullmatch(''.join(names), node) is not None


def is_qos_override(name: str) -> bool:
    """Whether a parameter is one of those that nodes declare for their topics' QoS."""
    return name.split('.')[0] == 'qos_overrides'


def for_node(
    sections: Mapping[str, dict[str, Any]],
    node: str,
    takes: Callable[[str], bool],
    names: Iterable[str],
) -> dict[str, Any]:
    """Return the parameters of a node; later sections take precedence, as in ROS.

    Args:
        sections: of :func:`read_params_file`.
        node: full name.
        takes: whether the node has a parameter of this name.
        names: of its parameters, for messages.

    Raises ConfigError for the name of a node without its namespace, which ROS ignores, and for
    parameters that the node does not have, unless the section may serve several nodes.
    """
    found: dict[str, Any] = {}
    for section, given in sections.items():
        if not matches(section, node):
            if section == node.rpartition('/')[2]:
                raise ConfigError(
                    f'{section} has no namespace and does not match {node}: write /**/{section}'
                )
            continue
        unknown = sorted(key for key in given if not takes(key))
        if unknown and not is_shared(section):
            raise ConfigError(f'{section} has {unknown}: expected some of {sorted(names)}')
        found |= {key: value for key, value in given.items() if key not in unknown}
    return found


def is_shared(section: str) -> bool:
    """Return whether a section has a node-name wildcard, so that it may serve several nodes."""
    return '*' in section.rsplit('/', 1)[-1]


def namesakes(sections: Iterable[str], node: str) -> list[str]:
    """Return the sections for nodes of this name in other namespaces, if none matches the node."""
    sections = list(sections)
    if any(matches(section, node) for section in sections):
        return []
    base = node.rpartition('/')[2]
    return [section for section in sections if section.rpartition('/')[2] == base]
