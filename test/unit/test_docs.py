# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The parameter tables in the documentation match the nodes' declarations."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
import re
from typing import Any

import pytest

from lewm_ros.bringup.compose import node_class
from lewm_ros.bringup.groups import NODES

DOCS = Path(__file__).resolve().parents[2] / 'docs'


@pytest.fixture(scope='module')
def tables() -> Any:
    """Return docs/make_tables.py."""
    spec = spec_from_file_location('make_tables', DOCS / 'make_tables.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_tables_are_up_to_date(tables: Any) -> None:
    """Every page equals the output of `make tables`, and every node has its table."""
    named: list[str] = []
    for page in tables.pages():
        text = page.read_text()
        assert tables.with_tables(text) == text, f'{page.name} is out of date: make tables'
        named += re.findall(r'<!-- parameters: (\w+) -->', text)
    assert sorted(named) == sorted([*NODES, 'every_node'])


def test_another_default_makes_another_table(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed declaration alone changes the table, so the page is out of date."""
    kind = node_class('planner_node')
    changed = [replace(p, default=3) if p.name == 'samples' else p for p in kind.PARAMETERS]
    monkeypatch.setattr(kind, 'PARAMETERS', tuple(changed))
    text = (DOCS / 'nodes.md').read_text()
    made = tables.with_tables(text)
    assert made != text
    assert '| `samples`\\* | 3 | 1 to 100000 |' in made
