# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""YAML is read as plain data, as in ROS; errors name the line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import yaml

from lewm_ros.errors import ConfigError, one_line, shown
from lewm_ros.robot.yaml_reader import LIMIT, parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / 'config').rglob('*.yaml'))


@pytest.mark.parametrize('path', FILES, ids=lambda p: p.name)
def test_shipped_files_read_as_with_the_safe_loader(path: Path) -> None:
    """Shipped files parse as with yaml.safe_load."""
    assert read_yaml(path) == yaml.safe_load(path.read_text())


def test_there_are_shipped_files() -> None:
    """The test above has something to test."""
    assert len(FILES) > 8


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('1e-05', 1e-05),
        ('-2E3', -2000.0),
        ('1.5e3', 1500.0),
        ('1e999', math.inf),
        ('0x10', 16),
        ('1_000', 1000),
        ('yes', True),
        ('~', None),
        ('', None),
        ('2026-01-02', '2026-01-02'),
        ('"5"', '5'),
        ('! a', 'a'),
        ('{a: &x 1, b: [x, {}]}', {'a': 1, 'b': ['x', {}]}),
        ('{"mean": [1e-05, -0.5], "std": [1, 2]}', {'mean': [1e-05, -0.5], 'std': [1, 2]}),
    ],
)
def test_values(text: str, value: object) -> None:
    """Numbers are parsed as in ROS and JSON; a date stays a string."""
    found = parse_yaml(text)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ('data', 'says'),
    [
        (b'name: a\nrates: {}\nname: b\n', "line 3: duplicate key 'name'"),
        (b'a:\n  b: 1\n  "b": 2\n', "line 3: duplicate key 'b'"),
        (b'a: 1\n---\na: 2\n', 'line 2: not YAML'),
        (b'a: [1', 'line 1: not YAML'),
        (b'a: &x [1]\nb: *x\n', 'line 2: an alias'),
        (b'a: ' + b'[' * 5000, 'nested too deeply'),
        (b'a:\n\tb: 1', 'line 2: not YAML'),
        (b'? [a, b]\n: c\n', r'line 1: not YAML \(found unhashable key'),
        (b'a: 0x_', 'not YAML'),
        (b'name: a\0b', 'not YAML'),
        (b'name: \xff\xfe', "not YAML .*'utf-8' codec can't decode byte 0xff"),
        (b'a: !!python/object/apply:os.system ["false"]', 'line 1: not YAML .*os.system'),
    ],
)
def test_what_is_wrong_is_named_with_its_line(data: bytes, says: str) -> None:
    """Duplicate keys, malformed files, other encodings and tags that run code are refused."""
    with pytest.raises(ConfigError, match=says) as caught:
        parse_yaml(data)
    assert str(caught.value).isprintable()


def test_file_at_the_limit(tmp_path: Path) -> None:
    """A file of exactly the limit is read; one byte more is refused with both sizes."""
    path = tmp_path / 'a.yaml'
    path.write_text('a: 1 #' + ' ' * (LIMIT - 6))
    assert read_yaml(path) == {'a': 1}
    path.write_text('a: 1 #' + ' ' * (LIMIT - 5))
    with pytest.raises(ConfigError, match=f'has {LIMIT + 1} bytes: expected at most {LIMIT}'):
        read_yaml(path)
    with pytest.raises(ConfigError, match='No such file'):
        read_yaml(tmp_path / 'absent')
    with pytest.raises(ConfigError, match='Is a directory'):
        read_yaml(tmp_path)


def test_what_a_message_quotes_is_one_short_printable_line() -> None:
    """Text quoted from a file can neither fill a terminal nor move its cursor."""
    assert one_line('a\n b\t\x1b[2Jc') == 'a b ?[2Jc'
    assert shown('a\n\x1b') == r"'a\n\x1b'"
    assert len(shown('a' * 10**6)) < 300
    assert len(one_line('a' * 10**6)) < 1100
