# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Which sections of a ROS parameter file apply to a node."""

from __future__ import annotations

import pytest

from lewm_ros.robot.params_file import is_shared, matches, namesakes


@pytest.mark.parametrize(
    ('section', 'node', 'fits'),
    [
        ('planner_node', '/planner_node', True),
        ('planner_node', '/lewm/planner_node', False),  # a bare name is in the root namespace
        ('lewm/planner_node', '/lewm/planner_node', True),
        ('/**/planner_node', '/planner_node', True),
        ('/**/planner_node', '/a/b/planner_node', True),
        ('/*/planner_node', '/a/planner_node', True),
        ('/*/planner_node', '/a/b/planner_node', False),  # exactly one name
        ('/*/planner_node', '/planner_node', False),
        ('/lewm/planner_node', '/lewm/planner_node', True),
        ('/lewm/planner_node', '/other/planner_node', False),
        ('/**', '/a/b/planner_node', True),
        ('/lewm/*', '/lewm/planner_node', True),
        ('/lewm/planner_nod.', '/lewm/planner_node', False),  # a dot is literal
    ],
)
def test_sections_are_matched_as_ros_does(section: str, node: str, fits: bool) -> None:
    """``*`` matches one name; ``**`` matches any number of names, including none."""
    assert matches(section, node) == fits


def test_a_section_for_any_node_is_shared() -> None:
    """A section whose node name is a wildcard may hold parameters of other nodes."""
    assert is_shared('/**') and is_shared('/lewm/*')
    assert not is_shared('/**/planner_node')


@pytest.mark.parametrize(
    ('sections', 'found'),
    [
        (['/arm/planner_node', '/arm/controller_node'], ['/arm/planner_node']),
        (['/arm/planner_node', '/lewm/planner_node'], []),
        (['/arm/planner_node', '/**'], []),
        (['/arm/controller_node'], []),
    ],
)
def test_sections_in_another_namespace_are_found(sections: list[str], found: list[str]) -> None:
    """They are reported only where no section is for the node."""
    assert namesakes(sections, '/lewm/planner_node') == found
