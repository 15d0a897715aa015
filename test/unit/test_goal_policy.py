# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm inverse` and `lewm imagine`: policies in the bundle, and plans without a search."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import json
from pathlib import Path
import shutil

import numpy as np
import pytest
import torch

from lewm_ros import cli
from lewm_ros.api import make_planner
from lewm_ros.bags.episodes import Episode
from lewm_ros.bundle import CARD, IMAGINED, INVERSE, Bundle
from lewm_ros.bundle.policy_file import read_policy
from lewm_ros.bundle.roadmap_file import read_roadmap
from lewm_ros.engines import load_engine
from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.evaluation.bags import Encoded
from lewm_ros.files import find
from lewm_ros.planning import PlannerConfig, RecedingHorizonPlanner
from lewm_ros.planning.goal_policy import GoalPolicy
from lewm_ros.robot.history import Context, History
from lewm_ros.robot.spec import ModelSpec
from lewm_ros.time import NS_PER_S
from lewm_ros.training import imagined
from lewm_ros.training.descent import descend
from lewm_ros.training.goal_policy import find_windows, fit


@pytest.fixture(scope='module')
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the arm's bundle with both policies from a short bag."""
    folder = tmp_path_factory.mktemp('policies')
    shutil.copytree(find('bundle', 'reacher'), folder / 'reacher')
    bag = str(folder / 'bag')
    assert cli.main(['collect', 'reacher', '--out', bag, '--episodes', '30', '--seconds', '4']) == 0
    for command, steps in (('inverse', '80'), ('imagine', '2')):
        assert cli.main([command, str(folder / 'reacher'), '--data', bag, '--steps', steps]) == 0
    return folder / 'reacher'


def test_it_tells_commands_of_episodes_that_it_has_not_seen(made: Path) -> None:
    """The inverse model partly predicts held-out commands; model, roadmap and card stay."""
    bundle, shipped = Bundle.load(made), Bundle.load(find('bundle', 'reacher'))
    entry = bundle.manifest.inverse
    assert entry is not None and entry.blocks == 4 and entry.frames > 1000
    assert entry.error < 0.9 * entry.spread
    assert bundle.hash == shipped.hash and read_roadmap(bundle) is not None
    assert (made / CARD).read_text() == (shipped.path / CARD).read_text()


def test_an_imagined_policy_lies_beside_it(made: Path) -> None:
    """An imagined policy has its own metrics: recorded commands lead near the goals."""
    entry = Bundle.load(made).manifest.imagined
    assert entry is not None and entry.blocks == 4 and entry.frames > 1000
    assert 0 < entry.recorded < 0.3 * entry.spread and entry.error > 0


def rolled_out(bundle: Bundle, episodes: int, length: int = 20) -> Iterator[Encoded]:
    """Episodes of random commands that follow the model's predictions, one frame per block."""
    spec, engine, rng = bundle.spec, load_engine(bundle), np.random.default_rng(0)
    block = round(spec.block * NS_PER_S)
    for _ in range(episodes):
        ticks = np.repeat(rng.uniform(-1, 1, (length, 1, 2)), spec.frameskip, axis=1)
        blocks = spec.normalise_block(ticks.reshape(length, -1)).astype(np.float32)
        z = rng.standard_normal((length, spec.latent_size)).astype(np.float32)
        for at in range(2, length - 1):
            past, next_block = blocks[at - 2 : at], blocks[None, at : at + 1]
            z[at + 1] = engine.rollout(z[at - 2 : at + 1], past, next_block)[0, 0]
        frames = block * np.arange(length)
        sent = block // spec.frameskip * np.arange(length * spec.frameskip)
        yield Encoded(Episode(frames, np.empty(0), sent, ticks.reshape(-1, 2), None), z, True)


def test_imagination_leads_to_goals_that_it_has_not_seen(tiny_bundle: Bundle) -> None:
    """If the world is the model, recorded commands reach held-out goals; training comes near."""
    spec = replace(tiny_bundle.spec, camera_period=tiny_bundle.block)
    windows = find_windows(spec, rolled_out(tiny_bundle, 40), past=2, ahead=4)
    imagination = imagined.Imagination(tiny_bundle, windows)
    network = fit(windows, 100, 64, imagination.loss, 'imagined policy')
    errors = imagination.errors(network, windows.starts[windows.held_out])
    assert errors['recorded'] < 1e-8
    assert errors['error'] < 0.8 * errors['spread']


def test_a_bundle_of_before_is_read_as_it_was(made: Path, tmp_path: Path) -> None:
    """A bundle from before imagined policies loads with the same hash and inverse model."""
    path = tmp_path / 'reacher'
    shutil.copytree(made, path)
    data = json.loads((path / 'manifest.json').read_text())
    del data['inverse']['recorded'], data['imagined']
    (path / 'imagined.npz').unlink()
    (path / 'manifest.json').write_text(json.dumps(data))
    bundle, now = Bundle.load(path), Bundle.load(made)
    assert bundle.manifest.inverse == now.manifest.inverse and bundle.hash == now.hash
    kept, policy = read_policy(bundle, 'idm'), read_policy(now, 'idm')
    for array, other in zip(kept.weights + kept.biases, policy.weights + policy.biases):
        np.testing.assert_array_equal(array, other)


def test_imagination_is_what_a_robot_predicts() -> None:
    """Imagination equals a robot's prediction: same history, past blocks and normalisation."""
    bundle = Bundle.load(find('bundle', 'reacher'))
    spec, engine, rng = bundle.spec, load_engine(bundle), np.random.default_rng(0)
    stamps = np.arange(60) * 50_000_000
    latents = rng.standard_normal((60, spec.latent_size)).astype(np.float32)
    history = History.of_model(spec, bundle.contract.action)
    sent, actions = np.arange(65) * 33_000_000 - 20_000_000, rng.uniform(-1, 1, (65, 2))
    episode = Episode(stamps, np.empty(0), sent, actions, None)
    windows = find_windows(spec, [Encoded(episode, latents, True)], spec.history - 1, ahead=4)
    assert (windows.starts == np.arange(10, 40)).all() and windows.step == 5
    slow = replace(episode, stamps=np.arange(60) * 100_000_000)  # a camera of half the rate
    cut = replace(episode, stamps=np.arange(2) * 400_000_000)
    mixed = [Encoded(e, latents[: len(e.stamps)], True) for e in (slow, episode, slow, cut)]
    again = find_windows(spec, mixed, spec.history - 1, ahead=4)
    assert again.step == 5 and (again.starts == windows.starts).all()
    row = 39
    for stamp, action in zip(sent, actions):
        history.append_action(int(stamp), action)
    for stamp, latent in zip(stamps[: row + 1], latents):
        history.append_latent(int(stamp), latent)
    context = history.context(int(stamps[row]))
    assert context is not None
    commands = rng.uniform(-1, 1, (1, 4, 2))
    given = torch.from_numpy(spec.normalise(commands)).float()
    latents_after = imagined.Imagination(bundle, windows).rollout(np.array([row]), given)[0]
    past = spec.normalise_block(context.past).astype(np.float32)
    plan = spec.normalise_block(np.tile(commands, spec.frameskip)).astype(np.float32)
    foreseen = engine.rollout(context.latents, past, plan)[0]
    np.testing.assert_allclose(latents_after, foreseen, atol=1e-4)


@pytest.mark.parametrize('kind', ['idm', 'imagined'])
def test_a_plan_is_its_answer_towards_the_way(made: Path, kind: str) -> None:
    """A plan is the policy's answer towards the goal, or a roadmap node if the goal is far.

    It stays within the limits.
    """
    bundle = Bundle.load(made)
    engine, policy, roadmap = load_engine(bundle), read_policy(bundle, kind), read_roadmap(bundle)
    assert roadmap is not None
    planner = make_planner(bundle, bundle.contract, engine, PlannerConfig(policy=kind))
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
        wanted = bundle.spec.denormalise(policy.commands(here, after, waypoint))
        np.testing.assert_allclose(plan.actions[:20:5], np.clip(wanted, -1, 1), atol=1e-5)
        np.testing.assert_allclose(plan.actions[20:], 0, atol=1e-9)  # then the robot rests


@pytest.mark.parametrize('blocks', [4, 6])
def test_one_frame_of_context_is_enough_for_a_policy(make_tiny_bundle, blocks: int) -> None:
    """The latent before the plan is that of the newest frame, in any window."""
    commands = []
    for window in (1, 3):
        bundle = make_tiny_bundle(history=1, window=window)
        spec, rng = bundle.spec, np.random.default_rng(0)
        sizes = np.array([3 * spec.latent_size, 16, 16, 16, blocks * 2])
        shapes = list(zip(sizes[:-1], sizes[1:]))
        weights = tuple(rng.normal(size=s).astype(np.float32) / 4 for s in shapes)
        biases = tuple(np.zeros(s[1], np.float32) for s in shapes)
        policy = GoalPolicy(weights, biases, blocks, 3 * spec.latent_size, 2 * blocks)
        planner = RecedingHorizonPlanner(
            spec,
            bundle.contract,
            load_engine(bundle),
            PlannerConfig(policy='idm'),
            policy=policy,
        )
        z = rng.normal(size=(2, spec.latent_size))
        context = Context(0, z[:1].astype(np.float32), np.zeros((0, 10)))
        committed = np.full((5, 2), 0.3)
        plan = planner.plan(context, committed, z[1])
        after = planner.foresee(context, committed, plan)[0]
        wanted = spec.denormalise(policy.commands(context.latents[0], after, z[1]))
        played = min(blocks, 5)  # a plan of horizon 6 has 5 blocks of its own
        found = plan.actions[: 5 * played : 5]
        np.testing.assert_allclose(found, np.clip(wanted[:played], -1, 1), atol=1e-5)
        commands.append(plan.actions)
    assert np.abs(commands[0]).max() > 0


@pytest.mark.parametrize(
    ('kind', 'remedy'),
    [
        ('idm', 'no inverse.npz for the policy idm: run `lewm inverse '),
        ('imagined', 'no imagined.npz for the policy imagined: run `lewm imagine '),
    ],
)
def test_a_bundle_without_one_says_how_to_get_it(kind: str, remedy: str) -> None:
    """A bundle without the policy is rejected with the command that makes it."""
    bundle = Bundle.load(find('bundle', 'reacher'))
    config = PlannerConfig(policy=kind)
    with pytest.raises(ConfigError, match=remedy):
        make_planner(bundle, bundle.contract, load_engine(bundle), config)


def test_one_of_another_model_or_damaged_is_refused_by_name(made: Path, tmp_path: Path) -> None:
    """A policy of another model, or a damaged one, is rejected before it moves a robot."""
    path = tmp_path / 'reacher'
    shutil.copytree(made, path)
    data = json.loads((path / 'manifest.json').read_text())
    data['inverse']['model_hash'] = data['imagined']['model_hash'] = 64 * '0'
    (path / 'manifest.json').write_text(json.dumps(data))
    with pytest.raises(ModelError, match=f'{INVERSE} is of model 000000000000'):
        read_policy(Bundle.load(path), 'idm')
    with pytest.raises(ModelError, match=f'{IMAGINED} .* run `lewm imagine '):
        read_policy(Bundle.load(path), 'imagined')
    model = read_policy(Bundle.load(made), 'imagined')
    with pytest.raises(ModelError, match='not finite'):
        replace(model, biases=(model.biases[0] * np.nan, *model.biases[1:]))
    with pytest.raises(ModelError, match='expected 4 layers from 192 to 8 numbers'):
        GoalPolicy(model.weights[1:], model.biases[1:], 4, 192, 8)


def test_too_short_episodes_are_named(made: Path, tmp_path: Path, capsys) -> None:
    """Episodes that are too short are rejected: goals are blocks ahead, `imagine` reads history."""
    bag = str(tmp_path / 'bag')
    assert cli.main(['collect', 'reacher', '--out', bag, '--episodes', '2', '--seconds', '1']) == 0
    cases = ((['inverse'], 5), (['inverse', '--blocks', '6'], 7), (['imagine'], 6))
    for (command, *options), blocks in cases:
        assert cli.main([command, str(made), '--data', bag, *options]) == 2
        assert f'fewer than two spans of {blocks} blocks of 0.25 s' in capsys.readouterr().err


def test_windows_leave_out_blocks_with_missing_frames(tiny_bundle: Bundle) -> None:
    """Frames are paired by their stamps: a pause or a lost frame makes no longer block."""
    spec = tiny_bundle.spec
    step = round(spec.block / spec.camera_period)
    period = round(spec.camera_period * NS_PER_S)
    ticks = np.arange(12 * step)
    commands = np.random.default_rng(0).uniform(-1, 1, (20 * step, 2))

    def starts(stamps: np.ndarray, spec: ModelSpec = spec) -> np.ndarray:
        sent = np.arange(len(commands)) * period
        images = np.zeros((len(stamps), 2, 2, 3), np.uint8)
        latents = np.zeros((len(stamps), spec.latent_size), np.float32)
        episode = Episode(stamps, images, sent, commands, None)
        return find_windows(spec, [Encoded(episode, latents, False)], past=0, ahead=4).starts

    whole = starts(ticks * period)
    assert whole.tolist() == list(range(step, 8 * step))
    paused = ticks * period + np.where(ticks >= 9 * step, 3 * period, 0)
    assert starts(paused).tolist() == list(range(step, 5 * step))
    slow = ticks * round(NS_PER_S / 30)  # 7.5 frames in a block of 0.25 s
    other = replace(spec, camera_period=1 / 30)
    assert starts(slow, other).tolist() == list(range(8, len(ticks) - 4 * 8))
    lost = np.delete(ticks, 9 * step) * period  # every frame is a period late from there on
    assert starts(lost).tolist() == list(range(step, 5 * step))


@pytest.mark.parametrize('steps', [1, 2, 9, 10, 11])
def test_a_few_steps_are_enough_to_descend(steps: int) -> None:
    """Training descends for any number of steps; at 10, OneCycleLR would divide by zero."""
    network = torch.nn.Linear(1, 1)
    before = network.bias.item()
    descend(network, lambda: network.bias.square().sum(), steps, 0.1, 'test', str)
    assert network.bias.item() != before


@pytest.mark.parametrize(
    ('command', 'option', 'given', 'problem'),
    [
        ('decoder', '--steps', '0', 'expected at least 1'),
        ('inverse', '--steps', '0', 'expected at least 1'),
        ('imagine', '--steps', '0', 'expected at least 1'),
        ('inverse', '--blocks', '0', 'expected 1 to 64'),
        ('inverse', '--blocks', '65', 'expected 1 to 64'),
    ],
)
def test_counts_out_of_range_are_refused_before_the_bags_are_read(
    command: str, option: str, given: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps and blocks out of range are rejected by option name before the bags are read."""
    with pytest.raises(SystemExit, match='2'):
        cli.main([command, 'reacher', '--data', 'nowhere', option, given])
    assert f'{option}: {given}: {problem}' in capsys.readouterr().err
