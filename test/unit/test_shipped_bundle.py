# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The shipped bundle reaches goals, and its surprise score detects teleports."""

from __future__ import annotations

import numpy as np
import pytest

from lewm_ros.api import planner_config
from lewm_ros.bags.episodes import Episode
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.evaluation.evaluate import run_goals
from lewm_ros.evaluation.scoring import score_episode
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import make_task
from lewm_ros.sim.collect import START, UniformPolicy, simulate


@pytest.fixture(scope='module')
def bundle() -> Bundle:
    """Return models/reacher."""
    return Bundle.load(find('bundle', 'reacher'))


@pytest.fixture
def task(bundle):
    """Return the simulated arm; one renderer at a time."""
    made = make_task('reacher', bundle.manifest.image_size, seed=5)
    yield made
    made.close()


def test_it_is_small_calibrated_and_says_where_it_comes_from(bundle):
    """Under 25 MB, calibrated for this model, with its commands in manifest and card."""
    assert sum(f.stat().st_size for f in bundle.path.iterdir()) < 25e6
    for alpha in (0.05, 0.01):
        calibration = bundle.calibration_for(alpha)
        assert calibration.windows >= 200 and calibration.window == 10.0
        assert '--policy planner' in calibration.policy
    assert bundle.manifest.provenance['command'].startswith('lewm train ')
    assert bundle.manifest.provenance['data'][0].startswith('lewm collect reacher ')
    card = (bundle.path / 'README.md').read_text()
    assert bundle.manifest.provenance['command'] in card
    assert bundle.manifest.provenance['data'][0] in card
    bundle.contract.check_against_bundle(Contract.load(find('contract', 'reacher')))


@pytest.mark.parametrize('name', ['onnxruntime', 'torch'])
def test_both_engines_agree_on_trained_weights(bundle, name):
    """Latents agree to 1e-4, rollouts to 1e-4 of their magnitude."""
    rng = np.random.default_rng(0)
    ours, other = load_engine(bundle, name), load_engine(bundle, 'torch')
    size = bundle.manifest.image_size
    image = rng.integers(0, 256, (size, size, 3), dtype=np.uint8)
    assert np.abs(ours.encode(image) - other.encode(image)).max() < 1e-4
    block = bundle.manifest.frameskip * 2
    context = rng.normal(size=(bundle.manifest.history, bundle.manifest.latent_size))
    past = rng.normal(size=(bundle.manifest.history - 1, block))
    plans = rng.normal(size=(32, 5, block))
    arrays = [a.astype(np.float32) for a in (context, past, plans)]
    expected = other.rollout(*arrays)
    assert np.abs(ours.rollout(*arrays) - expected).max() < 1e-4 * np.abs(expected).max()


def test_it_reaches_goals_that_random_commands_do_not(bundle, task):
    """At least 8 of 10 goals with the live preset, not in real time; random commands at most 2."""
    planner = PlannerPolicy(
        bundle,
        bundle.contract,
        load_engine(bundle),
        planner_config('live', seed=0),
        task,
    )
    uniform = UniformPolicy(bundle.contract, np.random.default_rng(0))
    reached = run_goals(task, bundle.contract, planner, 10, 4.0, 20.0, seed=3)
    at_random = run_goals(task, bundle.contract, uniform, 10, 4.0, 20.0, seed=3)
    assert reached['successes'] >= 8
    assert at_random['successes'] <= 2


def scores(bundle, task, kind):
    """Score 3 s of random motion, perturbed after 2 s; return the top scores (before, after)."""
    engine = load_engine(bundle)
    policy = UniformPolicy(bundle.contract, np.random.default_rng(1))
    task.reset()
    seen: dict[str, list] = {'image': [], 'action': [], 'state': []}
    middle = None
    for what, stamp, value in simulate(task, bundle.contract, policy, 3.0, 20.0, 0.0, START):
        seen[what].append((stamp, value))
        if what == 'action' and len(seen['image']) == 40 and middle is None:
            task.perturb(kind)
            middle = stamp
    stamps, images = zip(*seen['image'])
    action_stamps, actions = zip(*seen['action'])
    episode = Episode(
        np.array(stamps), np.stack(images), np.array(action_stamps), np.array(actions), None
    )
    scored = score_episode(bundle, engine, episode)
    found = list(zip(scored.stamps.tolist(), scored.scores.tolist()))
    before = [s for stamp, s in found if stamp <= middle]
    after = [s for stamp, s in found if middle < stamp <= middle + 200_000_000]
    return max(before), max(after)


def test_teleports_stand_out_from_everything_nominal(bundle, task):
    """Each of ten teleports exceeds the 1 % threshold and every score before the teleports."""
    threshold = bundle.calibration_for(0.01).threshold
    before, after = zip(*(scores(bundle, task, 'teleport') for _ in range(10)))
    assert min(after) > threshold
    assert min(after) > max(before)
