# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Invalid YAML is refused by every reader with one error that names file and key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lewm_ros import cli
from lewm_ros.api import planner_config
from lewm_ros.bringup.groups import Bringup
from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.robot.contract import Contract
from lewm_ros.training.import_official import read_action_stats

ROOT = Path(__file__).resolve().parents[2]
CONTRACT = ('contract', 'lewm check', 'lewm up --contract')
PARAMETERS = ('parameters', 'preset', 'lewm up --params-file')
STATISTICS = ('statistics',)
GOOD = ROOT / 'config' / 'robots' / 'reacher.yaml'
COMMANDS = {
    'lewm check': ('check', '{}'),
    'lewm up --contract': ('up', 'plan', '--contract', '{}'),
    'lewm up --params-file': ('up', 'plan', '--params-file', '{}'),
}
READERS: dict[str, tuple[Callable[[Path], Any], type[Exception]]] = {
    'contract': (Contract.load, ConfigError),
    'preset': (lambda path: planner_config(str(path), 0), ConfigError),
    'parameters': (lambda path: Bringup.of('plan', params_file=str(path)), ConfigError),
    'statistics': (lambda path: read_action_stats(path, ('x', 'y')), ModelError),
}


def big(path: Path) -> None:
    """Write a file of 100 MiB that begins as valid YAML."""
    with path.open('wb') as file:
        file.write(b'a: 1\n')
        file.truncate(100 << 20)


#: Content, or a function that makes the file; refused by every reader.
ANYWHERE: dict[str, tuple[bytes | Callable[[Path], Any], str]] = {
    'python call': (b'name: !!python/object/apply:os.system ["false"]', 'line 1: not YAML'),
    'not UTF-8': (b'name: \xff\xfe', "'utf-8' codec can't decode byte 0xff"),
    'key twice': (b'name: a\nrates: {}\nname: b\n', "line 3: duplicate key 'name'"),
    'two documents': (b'a: 1\n---\na: 2\n', 'line 2: not YAML'),
    'unfinished': (b'a: [1', 'line 1: not YAML'),
    '100 MB': (big, 'has 104857600 bytes: expected at most 1048576'),
    'folder': (Path.mkdir, 'Is a directory'),
}


def edited(old: str, new: str) -> bytes:
    """Return a good contract with one place changed."""
    text = GOOD.read_text()
    assert old in text
    return text.replace(old, new, 1).encode()


CONTRACTS = {
    'contract that is a list': (b'- a\n', "contract is ['a']: expected a mapping"),
    'contract that is empty': (b'', 'contract is None: expected a mapping'),
    'section that is a list': (
        edited('rates: {control: 20.0}', 'rates: [20.0]'),
        'rates is [20.0]: expected a mapping',
    ),
    'limit of 1e999': (edited('low: [-1.0', 'low: [-1e999'), 'action.low[0] is -inf'),
    'limit of .nan': (edited('low: [-1.0', 'low: [.nan'), 'action.low[0] is nan'),
    'limit of .inf': (edited('high: [1.0', 'high: [.inf'), 'action.high[0] is inf'),
    'limit that is long': (
        edited('high: [1.0', 'high: [' + '9' * 39),
        'action.high[0] is 9999',
    ),
    'rate of .nan': (edited('control: 20.0', 'control: .nan'), 'rates.control is nan'),
    'unknown key': (
        edited('rates:', '_target_: os.system\nrates:'),
        "contract has unknown key '_target_'",
    ),
    **{
        f'topic {topic}': (
            edited('topic: camera/image', f'topic: {topic}'),
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
            'a' * 300,
        )
    },
    'stop mode off': (
        edited('mode: zero', 'mode: off'),
        'stop.mode is False (YAML reads on, off, yes and no without quotes as True and False)',
    ),
    'dimension named on': (
        edited('names: [', 'names: [on, '),
        "is [True, 'shoulder', 'elbow'] (YAML reads on, off,",
    ),
    'name with escape codes': (
        edited('name: reacher', 'name: "\\e]0;owned\\a"'),
        r"name is '\x1b]0;owned\x07'",
    ),
    'crop that is huge': (
        edited('crop: null', 'crop: [0, 0, 1000000000, 1]'),
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
        'std is nan: expected a number from 0.01 to 10',
    ),
    'samples that are text': (
        b'/**/planner_node: {ros__parameters: {horizon: many}}',
        "horizon is 'many': expected a whole number",
    ),
    'another node': (b'other: {ros__parameters: {}}', 'no parameters of planner_node'),
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


@pytest.mark.parametrize('name', CASES)
def test_yaml_is_refused(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every entry point gives one short error that names the file."""
    content, ways, says = CASES[name]
    path = tmp_path / 'given.yaml'
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        content(path)
    for way in ways:
        if way in COMMANDS:
            assert cli.main([word.replace('{}', str(path)) for word in COMMANDS[way]]) == 2, way
            printed = capsys.readouterr()
            message = (printed.out + printed.err).strip()
        else:
            read, error = READERS[way]
            with pytest.raises(error) as caught:
                read(path)
            message = str(caught.value)
        assert says in message, way
        assert 'given.yaml' in message, way
        if way != 'lewm check':  # it lists all problems, a line each
            assert len(message) < 10_000 and message.isprintable(), way
