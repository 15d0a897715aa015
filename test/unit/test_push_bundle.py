# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The shipped bundle of the push task: its provenance, and that it pushes."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
import json

import numpy as np
import pytest

from lewm_ros import cli
from lewm_ros.bundle import FILES, Bundle, write_bundle
from lewm_ros.engines import load_engine
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.imaging import prepare
from lewm_ros.sim import Push, make_task


@pytest.fixture(scope='module')
def bundle() -> Bundle:
    """Return models/push."""
    return Bundle.load(find('bundle', 'push'))


def test_it_is_small_calibrated_and_says_where_it_comes_from(bundle):
    """Under 25 MB, calibrated, with its commands in the card and the task's contract."""
    assert sum(f.stat().st_size for f in bundle.path.iterdir()) < 25e6
    for alpha, horizon in product((0.05, 0.01), (1, 3)):
        calibration = bundle.calibration_for(alpha, horizon)
        assert calibration.windows >= 1000 and calibration.window == 10.0
        assert '--policy planner' in calibration.policy
    card = (bundle.path / 'README.md').read_text()
    assert bundle.manifest.provenance['command'] in card
    assert bundle.manifest.provenance['data'][0] in card
    bundle.contract.check_against_bundle(Contract.load(find('contract', Push.contract)))
    assert bundle.contract.name == Push.name


def test_it_reaches_goals_that_random_commands_do_not(capsys):
    """With the task's preset at least 5 of 6 goals are reached, by random commands at most 1."""
    arguments = ['evaluate', 'push', '--goals', '6', '--seconds', '5', '--seed', '3', '--json']
    assert cli.main(arguments) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['planner']['successes'] >= 5
    assert figures['random']['successes'] <= 1
    assert figures['planner']['unit'] == 'm'
    assert figures['planner']['final_error_median'] < Push.tolerance


def test_a_puck_that_is_elsewhere_surprises_and_new_colours_hardly(hasty, capsys):
    """Every teleport is detected and scores above nearly all colour changes (AUROC ≥ 0.9)."""
    arguments = ('evaluate', 'push', '--voe', '--trials', '4', '--kinds', 'teleport', 'colour')
    assert cli.main([*arguments, '--seed', '5', '--preset', str(hasty), '--json']) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures['kinds']['teleport']['detected'] == 1.0
    assert figures['teleport_vs_colour_auroc'] >= 0.9


def test_latents_tell_how_far_the_puck_is_from_its_goal(bundle):
    """The squared latent distance, which CEM minimises, grows with every 2 cm short of the goal."""
    task = make_task('push', bundle.manifest.image_size)
    engine = load_engine(bundle)

    def latent(pose):
        task.data.qpos[:] = pose
        task._mujoco.mj_forward(task.model, task.data)
        return engine.encode(prepare(task.render(), bundle.manifest.image_size, None))

    rng = np.random.default_rng(0)
    costs = np.zeros(4)
    for _ in range(8):
        goal = Push.goal_near(Push.random_pose(rng) * 0.7, rng)
        back = (goal[:2] - goal[2:]) / Push.CONTACT
        short = [latent(goal + 0.02 * n * np.tile(back, 2)) for n in range(5)]
        costs += [np.square(z - short[0]).sum() for z in short[1:]]
    task.close()
    assert (np.diff(costs) > 0.5 * costs[0]).all()


def test_a_contract_that_is_named_like_no_task_needs_the_task(tiny_bundle, tmp_path, capsys):
    """The error names the contract and the known tasks, status 2; with --task it works."""
    manifest = replace(
        tiny_bundle.manifest, contract=replace(tiny_bundle.contract, name='forklift')
    )
    other = write_bundle(
        tmp_path / 'other', manifest, {f: tiny_bundle.path / f for f in FILES}
    ).path
    assert cli.main(['evaluate', str(other), '--goals', '1', '--seconds', '1']) == 2
    said = capsys.readouterr().err
    assert 'contract forklift of bundle' in said and 'reacher, push, two_room' in said
    words = ['evaluate', str(other), '--task', 'reacher', '--goals', '1', '--seconds', '1']
    assert cli.main(words) == 0
    assert 'final error' in capsys.readouterr().out
