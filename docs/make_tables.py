# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Write the tables of parameters in the documentation from what the nodes declare.

A table stands between ``<!-- parameters: planner_node -->`` and ``<!-- end -->``; `every_node` is
what all nodes have. Run by `make tables`; a test compares the files with what this makes.
"""

from __future__ import annotations

from pathlib import Path
import re

from lewm_ros.bringup.compose import node_class
from lewm_ros.nodes.parameters import COMMON, Parameter

DOCS = Path(__file__).resolve().parent
_TABLE = re.compile(r'(<!-- parameters: (\w+) -->\n).*?(<!-- end -->)', re.DOTALL)
_HEAD = ('| parameter | default | range | meaning |', '|---|---|---|---|')


def with_tables(text: str) -> str:
    """Return a page with its tables made anew."""
    return _TABLE.sub(lambda found: f'{found[1]}\n{table(found[2])}\n\n{found[3]}', text)


def table(name: str) -> str:
    """Return the table of a node."""
    parameters = COMMON if name == 'every_node' else node_class(name).PARAMETERS
    return '\n'.join([*_HEAD, *map(row, parameters)])


def row(parameter: Parameter) -> str:
    """Return the row of a parameter; a star marks those that can be set while the node runs."""
    star = r'\*' if parameter.dynamic else ''
    words, values = ', '.join(f'`{choice}`' for choice in parameter.choices), ''
    if parameter.low is not None and parameter.high is not None:
        values = f'{number(parameter.low)} to {number(parameter.high)}'
    cells = (f'`{parameter.name}`{star}', default(parameter), words or values)
    return '| ' + ' | '.join([*cells, parameter.description.replace('|', r'\|')]) + ' |'


def default(parameter: Parameter) -> str:
    """Return a default as one writes it in YAML; empty for an empty text or list."""
    value = parameter.default
    if isinstance(value, str | tuple):
        return f'`{value}`' if value else ''
    return str(value).lower()


def number(value: float) -> str:
    """Return a number without an exponent."""
    return str(int(value)) if value == int(value) else f'{value:g}'


def pages() -> list[Path]:
    """Return the pages that have tables of parameters."""
    return [page for page in sorted(DOCS.glob('*.md')) if _TABLE.search(page.read_text())]


if __name__ == '__main__':
    for page in pages():
        page.write_text(with_tables(page.read_text()))
