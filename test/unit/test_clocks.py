# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Bags whose images are stamped by a different clock than their commands."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path

import pytest
from recordings import FRAME, command, frame, noise, write
import yaml

from lewm_ros.bags.clocks import clocks_differ
from lewm_ros.bags.episodes import ReadReport, read_episodes
from lewm_ros.cli import main
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S
from lewm_ros.training.windows import load_windows


def recorded(path: Path, offset: Callable[[int], float]) -> Path:
    """100 frames at 20 Hz whose stamps are ``offset(index)`` [s] ahead of their log times."""
    messages = []
    for index in range(100):
        logged = 60 * NS_PER_S + index * FRAME
        stamp = logged + round(offset(index) * NS_PER_S)
        messages += [
            command(logged - 1, index / 100, 0.0),
            frame(stamp, noise(index, 16), logged=logged),
        ]
    return write(path, messages)


@pytest.mark.parametrize(
    ('offset', 'says'),
    [
        (lambda n: 3.0, 'clocks differ by 3.00 s: images are stamped 3.00 s ahead of their log'),
        (
            lambda n: -3.0,
            'images are stamped 3.00 s behind their log times, commands use their log times; '
            'frames would',
        ),
        (
            lambda n: n / 40,
            '0.30 s ahead of their log times at the start, 2.17 s ahead of them at the end',
        ),
        (lambda n: 365 * 86400.0, 'clocks differ by 31536000.00 s'),
        (lambda n: 60.0 + 86400.0, '(simulated time, or time since boot?); frames would'),
    ],
)
def test_a_clock_that_differs_is_named_with_its_figure(
    tmp_path, capsys, caplog, reacher_contract: Contract, offset, says
):
    """A clock difference is reported with its size by check, inspect and training; so is drift."""
    bag = recorded(tmp_path / 'bag', offset)
    report = ReadReport()
    (episode,) = read_episodes([bag], reacher_contract, 16, report)
    assert says in report.clocks[0]
    assert caplog.text.count(says) == 1
    assert report.clocks[0].endswith('record again, or set camera.stamp: log in the contract')
    for _ in range(2):  # the second time, from the cache
        caplog.clear()
        load_windows([bag], reacher_contract, 16, 3, 5, tmp_path / 'cache')
        assert caplog.text.count(says) == 1
    caplog.clear()
    assert main(['inspect', str(bag), '--contract', 'reacher', '--json']) == 0
    (problem,) = [
        t for t in json.loads(capsys.readouterr().out)['bags'][0]['problems'] if 'clock' in t
    ]
    assert says in problem
    assert 'clock' not in caplog.text
    status = main(['check', 'reacher', '--data', str(bag)])
    said = capsys.readouterr().out
    assert status == 2
    assert says in said
    camera = replace(reacher_contract.camera, stamp='log')
    log = replace(reacher_contract, camera=camera, state=None)
    file = tmp_path / 'log.yaml'
    file.write_text(yaml.safe_dump(log.to_dict()))
    assert main(['check', str(file), '--data', str(bag)]) == 0
    assert main(['inspect', str(bag), '--contract', str(file), '--json']) == 0
    found = json.loads(capsys.readouterr().out.splitlines()[-1])['bags'][0]
    assert found['problems'] == []
    assert {topic['clock'] for topic in found['topics']} == {'log'}
    (by_log,) = read_episodes([bag], log, 16, report)
    assert len(report.clocks) == 1
    assert by_log.stamps.tolist() == [60 * NS_PER_S + n * FRAME for n in range(100)]
    assert (by_log.images == episode.images).all()


def test_where_no_window_is_left_the_clocks_are_named(tmp_path, capsys, reacher_contract: Contract):
    """If clocks differ so much that no window is left, the error itself says so."""
    bag = recorded(tmp_path / 'bag', lambda n: -59.0)
    with pytest.raises(BagError, match=r'commands in between; clocks differ by 59.00 s'):
        load_windows([bag], reacher_contract, 16, 3, 5, tmp_path / 'cache')
    assert main(['inspect', str(bag), '--contract', 'reacher', '--json']) == 2
    assert '; clocks differ by 59.00 s' in capsys.readouterr().err


def test_delays_of_messages_are_no_other_clock(tmp_path, caplog, reacher_contract: Contract):
    """Message latency is not taken for another clock, nor is simulated time on all topics."""
    report = ReadReport()
    bag = recorded(tmp_path / 'bag', lambda n: -0.2 - 0.1 * (n % 3))
    assert list(read_episodes([bag], reacher_contract, 16, report))
    assert report.clocks == [] and not caplog.text
    simulated = [-1_000 * NS_PER_S] * 50
    assert clocks_differ(simulated, simulated) is None
    assert clocks_differ(simulated, []) is not None
    assert clocks_differ([], []) is None
    text = clocks_differ([4 * NS_PER_S], [-3 * NS_PER_S], 'action.executed')
    assert 'set camera.stamp: log and action.executed.stamp: log in' in str(text)
    text = clocks_differ([], [3 * NS_PER_S])
    assert 'or set action.stamp: log in' in str(text)
