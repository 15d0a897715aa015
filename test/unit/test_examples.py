# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Every example runs, and does what it says."""

from __future__ import annotations

from pathlib import Path
import re
import runpy
from typing import Any

import cv2
import pytest

from lewm_ros import cli
from lewm_ros.sim import make_task

EXAMPLES = Path(__file__).parents[2] / 'examples'


def example(name: str) -> dict[str, Any]:
    """Load an example as a module."""
    return runpy.run_path(str(EXAMPLES / f'{name}.py'))


def test_every_example_has_a_test() -> None:
    """Every example has a test."""
    source = Path(__file__).read_text()
    for path in EXAMPLES.glob('*.py'):
        assert f"example('{path.stem}')" in source


def test_the_arm_reaches_its_goal(capsys: pytest.CaptureFixture[str]) -> None:
    """The arm reaches its goal within the task's tolerance in six seconds."""
    assert example('drive_arm')['main'](['--seconds', '6', '--seed', '3']) == 0
    nearest = re.search(r'nearest: (\S+) rad', capsys.readouterr().out)
    assert nearest is not None and float(nearest[1]) < 0.1


def test_a_bag_is_scored(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both episodes of a bag are scored; a missing bag is an error with its name."""
    bag = tmp_path / 'bag'
    collect = ['collect', 'reacher', '--episodes', '2', '--seconds', '2', '--seed', '7']
    assert cli.main([*collect, '--out', str(bag)]) == 0
    main = example('score_bag')['main']
    assert main([str(bag)]) == 0
    shown = capsys.readouterr().out
    # A score needs three frames of context and the frame one block after them.
    assert re.findall(r'episode (\d): 40 frames, (\d+) scored', shown) == [('1', '25'), ('2', '25')]
    with pytest.raises(SystemExit, match='2'):
        main([str(tmp_path / 'none')])
    assert 'none' in capsys.readouterr().err


def test_a_plan_from_one_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plan has five free blocks of five commands for two joints, within the limits."""
    task = make_task('reacher', 64, seed=1)
    for name, image in (
        ('start', task.render()),
        ('goal', task.set_goal(task.sample_goal())),
    ):
        cv2.imwrite(str(tmp_path / f'{name}.png'), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    task.close()
    files = [str(tmp_path / 'start.png'), str(tmp_path / 'goal.png')]
    assert example('plan_from_image')['main'](files) == 0
    shown = capsys.readouterr().out
    numbers = [float(n) for n in re.findall(r'-?\d+\.\d*', shown.partition('tick:')[2])]
    assert len(numbers) == 50 and max(map(abs, numbers)) <= 1.0
    assert any(abs(n) > 0.1 for n in numbers)


def test_a_task_of_ones_own(capsys: pytest.CaptureFixture[str]) -> None:
    """The example's own task is rendered and moves."""
    assert example('write_task')['main']([]) == 0
    moved = re.search(
        r'100 frames; the pen moved over \[(\S+)\s+(\S+)\] m', capsys.readouterr().out
    )
    assert moved is not None and min(float(m) for m in moved.groups()) > 0.02
