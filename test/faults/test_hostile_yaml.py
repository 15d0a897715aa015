# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""YAML made to do harm is refused by whatever reads it, with one error naming file and key."""

from __future__ import annotations

from collections.abc import Callable
import os
from pathlib import Path
from typing import Any

from hostile_child import refusals
import pytest

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ('contract', 'lewm check', 'lewm up --contract')
PARAMETERS = ('parameters', 'preset', 'lewm up --params-file')
STATISTICS = ('statistics',)
GOOD = {
    'contract': ROOT / 'config' / 'robots' / 'reacher.yaml',
    'parameters': ROOT / 'config' / 'presets' / 'live.yaml',
    'preset': ROOT / 'config' / 'presets' / 'live.yaml',
}
ERRORS = {
    'contract': ('ContractError', 'Problems'),
    'parameters': ('BringupError',),
    'preset': ('BringupError',),
    'statistics': ('ModelError',),
}


def big(path: Path) -> None:
    """Write 100 MB of lines that are YAML."""
    with path.open('wb') as file:
        file.write(b'a: 1\n')
        file.truncate(100 << 20)


def laughs() -> bytes:
    """Return a few lines that stand for 10^10 values."""
    lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]']
    lines += [f'a{n}: &a{n} [{", ".join([f"*a{n - 1}"] * 10)}]' for n in range(1, 10)]
    return '\n'.join(lines).encode()


#: Content, or what makes the file: refused as YAML, whatever it is read as.
ANYWHERE: dict[str, tuple[bytes | Callable[[Path], Any], str]] = {
    'python call': (
        b'name: !!python/object/apply:os.system ["touch marker"]',
        "line 1: tag 'tag:yaml.org,2002:python/object/apply:os.system'",
    ),
    'python name': (b'!!python/name:os.system', "line 1: tag 'tag:yaml.org,2002:python/name"),
    'tag by another name': (
        b'%TAG ! tag:yaml.org,2002:python/\n---\na: !name:os.system x\n',
        "line 3: tag 'tag:yaml.org,2002:python/name:os.system'",
    ),
    'aliases': (laughs(), 'line 2: alias *a0: write the value out'),
    'alias of itself': (b'a: &a [*a]', 'line 1: alias *a'),
    'deep lists': (b'[' * 200_000, 'line 1: nested deeper than 32 levels'),
    'deep mappings': (b'{a: ' * 50_000, 'line 1: nested deeper than 32 levels'),
    'deep dashes': (b'- ' * 100_000, 'line 1: nested deeper than 32 levels'),
    'NUL': (b'name: a\0b', 'unacceptable character #x0000'),
    'not UTF-8': (b'name: \xff\xfe', "'utf-8' codec can't decode byte 0xff"),
    'key twice': (b'name: a\nrates: {}\nname: b\n', "line 3: key 'name' stands twice"),
    'key twice below': (b'a:\n  b: 1\n  "b": 2\n', "line 3: key 'b' stands twice"),
    'key that is a list': (b'? [a, b]\n: c\n', 'line 1: key of several values is no text'),
    'key that is a number': (b'5: a\n', "line 1: key '5' is no text: put it in quotes"),
    'number of 10^5 digits': (b'a: ' + b'9' * 100_000, 'line 1: number of 100000 digits'),
    'hexadecimal': (b'a: 0x' + b'f' * 100_000, 'line 1: number of 100002 digits'),
    'no number': (b'a: 0x_', "line 1: '0x_' is no number"),
    'odd escape': (b'a: "\\UFFFFFFFF"', 'not YAML'),
    'two documents': (b'a: 1\n---\na: 2\n', 'line 2: not YAML'),
    'unfinished': (b'a: [1', 'line 1: not YAML'),
    '100 MB': (big, 'has 104857600 bytes: expected at most 1048576'),
    'pipe': (os.mkfifo, 'is no plain file'),
    'device': (lambda path: path.symlink_to('/dev/zero'), 'is no plain file'),
    'folder': (Path.mkdir, 'is no plain file'),
}


def edited(kind: str, old: str, new: str) -> bytes:
    """Return a good file with one place changed."""
    text = GOOD[kind].read_text()
    assert old in text
    return text.replace(old, new, 1).encode()


CONTRACTS = {
    'contract that is a list': (b'- a\n', "contract is ['a']: expected a mapping"),
    'contract that is empty': (b'', 'contract is None: expected a mapping'),
    'section that is a list': (
        edited('contract', 'rates: {control: 20.0}', 'rates: [20.0]'),
        'rates is [20.0]: expected a mapping',
    ),
    'limit of 1e999': (edited('contract', 'low: [-1.0', 'low: [-1e999'), 'action.low is [-inf'),
    'limit of .nan': (edited('contract', 'low: [-1.0', 'low: [.nan'), 'action.low is [nan'),
    'limit of .inf': (edited('contract', 'high: [1.0', 'high: [.inf'), 'action.high is [inf'),
    'limit that is long': (
        edited('contract', 'high: [1.0', 'high: [' + '9' * 39),
        'action.high is [9999',
    ),
    'rate of .nan': (edited('contract', 'control: 20.0', 'control: .nan'), 'rates.control is nan'),
    'unknown key': (
        edited('contract', 'rates:', '_target_: os.system\nrates:'),
        "contract has unknown key '_target_'",
    ),
    **{
        f'topic {topic}': (
            edited('contract', 'topic: camera/image', f'topic: {topic}'),
            'camera.topic is ',
        )
        for topic in (
            '"a b"',
            '"a\\nb"',
            '"a;rm"',
            '"\\e[2J"',
            '/',
            'a//b',
            '../a',
            '"камера"',
            '[a]',
            'a' * 100_000,
        )
    },
    'name with escape codes': (
        edited('contract', 'name: reacher', 'name: "\\e]0;owned\\a"'),
        r"name is '\x1b]0;owned\x07'",
    ),
    'many dimensions': (
        edited('contract', 'names: [shoulder, elbow]', 'names: [' + 'a, ' * 100_000 + ']'),
        'action.names is [',
    ),
    'many unknown keys': (
        ''.join(f'k{n}: 1\n' for n in range(50_000)).encode(),
        "has unknown key 'k10040'",
    ),
    'crop that is huge': (
        edited('contract', 'crop: null', 'crop: [0, 0, 1000000000, 1]'),
        'camera.crop is [0, 0, 1000000000, 1]',
    ),
}
PARAMETER_FILES = {
    'list of parameters': (b'- a\n', 'expected node names with ros__parameters'),
    'nodes without parameters': (b'/**/planner_node: [1]\n', 'lacks ros__parameters'),
}
SETTINGS = {
    'samples of .nan': (
        b'/**/planner_node: {ros__parameters: {std: .nan}}',
        'std is nan: expected a finite number above 0',
    ),
    'samples that are text': (
        b'/**/planner_node: {ros__parameters: {horizon: many}}',
        'no parameters of planner_node',
    ),
    'another node': (b'other: {ros__parameters: {}}', "'/**/planner_node'"),
}

CASES = {
    **{
        f'{name} as {kind}': (content, ways, says)
        for name, (content, says) in ANYWHERE.items()
        for kind, ways in (
            ('contract', CONTRACT),
            ('parameters', PARAMETERS),
            ('statistics', STATISTICS),
        )
    },
    **{name: (content, CONTRACT, says) for name, (content, says) in CONTRACTS.items()},
    **{name: (content, PARAMETERS[::2], says) for name, (content, says) in PARAMETER_FILES.items()},
    **{name: (content, ('preset',), says) for name, (content, says) in SETTINGS.items()},
}


@pytest.fixture(scope='module')
def outcome(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what came of every case, from one child that opened them all."""
    root = tmp_path_factory.mktemp('hostile')
    cases = [('good', way, str(path)) for way, path in GOOD.items()]
    for number, (name, (content, ways, _)) in enumerate(CASES.items()):
        path = root / f'{number}.yaml'
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            content(path)
        cases += [(name, way, str(path)) for way in ways]
    found = refusals(cases, root)
    found['marker'] = (root / 'marker').exists()
    return found


@pytest.mark.parametrize('name', CASES)
def test_yaml_is_refused(outcome: dict[str, Any], name: str) -> None:
    """By every way in: one short error that names the file; nothing ran, nothing was written."""
    _, ways, says = CASES[name]
    for way in ways:
        kind, message, did = outcome[f'{name}: {way}']
        assert kind in ERRORS.get(way, ('2',)), (way, message[:500])
        assert says in message, way
        assert '.yaml' in message or '/dev/zero' in message, way
        assert not did, way
        if way != 'lewm check':  # it lists all problems, a line each
            assert len(message) < 10_000, way
            assert len(message.strip().splitlines()) == 1, way
            assert message.strip().isprintable(), way


def test_no_code_ran(outcome: dict[str, Any]) -> None:
    """What the tags would run did not."""
    assert not outcome['marker']


def test_good_files_are_read_under_the_same_watch(outcome: dict[str, Any]) -> None:
    """The bounds of the child do not refuse."""
    for way in GOOD:
        kind, message, did = outcome[f'good: {way}']
        assert (kind, did) == ('loaded', []), (way, message)
