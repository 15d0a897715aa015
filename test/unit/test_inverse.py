# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The inverse model: `lewm inverse`, its place in the bundle, and plans without a search."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import shutil

import numpy as np
import pytest

from lewm_ros import cli
from lewm_ros.api import make_planner
from lewm_ros.bundle import CARD, INVERSE, Bundle
from lewm_ros.bundle.inverse_file import read_inverse
from lewm_ros.bundle.roadmap_file import read_roadmap
from lewm_ros.engines import load_engine
from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.files import find
from lewm_ros.planning import PlannerConfig
from lewm_ros.planning.inverse import InverseModel
from lewm_ros.robot.history import Context


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the arm's bundle with an inverse model from a short bag."""
    folder = tmp_path_factory.mktemp('inverse')
    shutil.copytree(find('bundle', 'reacher'), folder / 'reacher')
    bag = str(folder / 'bag')
    assert cli.main(['collect', 'reacher', '--out', bag, '--episodes', '30', '--seconds', '4']) == 0
    assert cli.main(['inverse', str(folder / 'reacher'), '--data', bag, '--steps', '80']) == 0
    return folder / 'reacher'


def test_it_tells_commands_of_episodes_that_it_has_not_seen(made: Path) -> None:
    """A part of them, from two minutes; the model, the roadmap and the card stay."""
    bundle, shipped = Bundle.load(made), Bundle.load(find('bundle', 'reacher'))
    entry = bundle.manifest.inverse
    assert entry is not None and entry.blocks == 4 and entry.frames > 1000
    assert entry.error < 0.9 * entry.spread
    assert bundle.hash == shipped.hash and read_roadmap(bundle) is not None
    assert (made / CARD).read_text() == (shipped.path / CARD).read_text()


def test_a_plan_is_its_answer_towards_the_way(made: Path) -> None:
    """Near the goal towards it, else towards a node of the roadmap; within the limits."""
    bundle = Bundle.load(made)
    engine, inverse, roadmap = load_engine(bundle), read_inverse(bundle), read_roadmap(bundle)
    assert roadmap is not None
    planner = make_planner(bundle, bundle.contract, engine, PlannerConfig(policy='idm'))
    rng = np.random.default_rng(0)
    here = roadmap.nodes[rng.integers(len(roadmap.nodes))].astype(float)
    context = Context(0, np.stack([here] * 3), np.zeros((2, 10)))
    committed = np.zeros((5, 2))
    after = planner.foresee(context, committed, planner.plan(context, committed, here))[0]
    field = roadmap.field(here)
    far = roadmap.nodes[int(np.argmax(field.times))].astype(float)
    for goal, waypoint in ((here, here), (far, None)):
        if waypoint is None:
            ahead = roadmap.field(goal)
            waypoint = ahead.ahead(after, 4 * bundle.spec.block)
            left = ahead.value(after) - ahead.value(waypoint)
            assert ahead.value(after) > 1.2 and 0.7 < left < 1.5
        plan = planner.plan(context, committed, goal)
        assert (plan.iterations, plan.rollouts) == (0, 1) and np.isfinite(plan.cost)
        wanted = bundle.spec.denormalise(inverse.commands(here, after, waypoint))
        np.testing.assert_allclose(plan.actions[:20:5], np.clip(wanted, -1, 1), atol=1e-5)
        np.testing.assert_allclose(plan.actions[20:], 0, atol=1e-9)  # then it rests


def test_a_bundle_without_one_says_how_to_get_it() -> None:
    """By the command."""
    bundle = Bundle.load(find('bundle', 'reacher'))
    config = PlannerConfig(policy='idm')
    with pytest.raises(ConfigError, match='no inverse model for the policy idm: run `lewm inverse'):
        make_planner(bundle, bundle.contract, load_engine(bundle), config)


def test_one_of_another_model_or_damaged_is_refused_by_name(made: Path, tmp_path: Path) -> None:
    """What the file holds is checked before it moves a robot."""
    path = tmp_path / 'reacher'
    shutil.copytree(made, path)
    data = json.loads((path / 'manifest.json').read_text())
    data['inverse']['model_hash'] = 64 * '0'
    (path / 'manifest.json').write_text(json.dumps(data))
    with pytest.raises(ModelError, match=f'{INVERSE} is of model 000000000000'):
        read_inverse(Bundle.load(path))
    model = read_inverse(Bundle.load(made))
    with pytest.raises(ModelError, match='not finite'):
        replace(model, biases=(model.biases[0] * np.nan, *model.biases[1:]))
    with pytest.raises(ModelError, match='expected 4 layers from 192 to 8 numbers'):
        InverseModel(model.weights[1:], model.biases[1:], 4, 192, 8)


def test_too_short_episodes_are_named(made: Path, tmp_path: Path, capsys) -> None:
    """Five blocks are needed."""
    bag = str(tmp_path / 'bag')
    assert cli.main(['collect', 'reacher', '--out', bag, '--episodes', '2', '--seconds', '1']) == 0
    assert cli.main(['inverse', str(made), '--data', bag]) == 2
    assert 'no episode has 5 blocks of 0.25 s' in capsys.readouterr().err
