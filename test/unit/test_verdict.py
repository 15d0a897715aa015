# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm evaluate BUNDLE --data BAG`: the metrics and the verdict."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np
from point_mass import SIZE, TICKS, PointMass
import pytest

from lewm_ros import cli
from lewm_ros.bags.episodes import Episode, read_episodes
from lewm_ros.bags.hashes import bag_hashes
from lewm_ros.bundle import ROADMAP, Bundle, rewrite_manifest
from lewm_ros.evaluation import bags
from lewm_ros.evaluation.bags import FULL_CONTEXT, HELD_OUT_WINDOWS, Encoded, encode_bags
from lewm_ros.evaluation.held_out import Dimension, HeldOutWindows
from lewm_ros.evaluation.planability import Field, Planability, Recordings, _trained, examine
from lewm_ros.evaluation.verdict import describe, judge
from lewm_ros.files import find
from lewm_ros.planning import PlannerConfig
from lewm_ros.time import NS_PER_S

GOOD = Planability(
    episodes=2,
    frames=1000,
    windows=900,
    lost={'the episode ends': 100},
    refused={},
    block=0.25,
    random_pair=11.0,
    by_lag=[1.0, 2.0],
    camera_period=0.05,
    trained_period=0.05,
    reach=4.0,
    step=0.3,
    saturated=0.0,
    order=0.9,
    order_least=0.8,
    prediction=[0.02, 0.04],
    copying=[0.5, 0.9],
    trained=0.02,
    floor=0.5,
    actions=[Dimension(f'j{i}', 5.0, 30.0, 0.02, 0.02, 0.03, '', 'rad', 0.3) for i in (1, 2)],
    states=[],
    roadmap=True,
    covered=0.95,
    connected=0.9,
    delay=0.0,
    encode_ms=1.0,
    budget_ms=175.0,
    plan_ms=50.0,
)
BLIND = Dimension('j3', 0.9, 2.0, 0.5, 0.5, 0.7, '', 'rad', 0.3)
STILL = Dimension('j3', 5, 30, None, None, None, '', 'rad', 0)
#: Visible, but not distinguishable from joint 2.
ALIKE = Dimension('j3', 1.8, 6.0, 0.275, 0.8, 0.97, 'j2', 'rad', 0.3)


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bag of the moving arm that no model has seen."""
    path = tmp_path_factory.mktemp('bags') / 'fresh'
    arguments = ['--episodes', '6', '--seconds', '5', '--seed', '77']
    assert cli.main(['collect', 'reacher', '--out', str(path), *arguments]) == 0
    return path


def arm(kind: str, bundle: Bundle) -> Bundle:
    """Return the bundle of the point mass with another kind of command and limits of 1."""
    contract = bundle.contract
    stop = replace(contract.stop, mode='hold' if kind == 'position' else 'zero')
    action = replace(contract.action, kind=kind, low=(-1.0, -1.0), high=(1.0, 1.0))
    contract = replace(contract, action=action, stop=stop)
    return Bundle(bundle.path, replace(bundle.manifest, contract=contract))


def drive(bundle: Bundle, number: int, heavy: float = 1.0, noise: float = 0.02) -> Encoded:
    """Return 6 s of the point mass under random commands; forces on y are scaled by ``heavy``."""
    rng = np.random.default_rng(number)
    ticks = np.arange(120)
    commands = np.repeat(rng.uniform(-1, 1, (24, 2)), 5, axis=0)
    state, latents = np.zeros(4), []
    for command in commands:
        latents.append(state + noise * rng.normal(size=4))
        state[2:] += 0.15 * command * [1.0, heavy]
        state[:2] += 0.05 * state[2:]
    stamps = ticks * (NS_PER_S // 20)
    images = np.zeros((120, 2, 2, 3), dtype=np.uint8)
    episode = Episode(stamps, images, stamps, commands, np.array(latents))
    return Encoded(episode, np.array(latents, dtype=np.float32), held_out=True)


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'actions': [*GOOD.actions, BLIND]}, 'j3 does not show in the latents'),
        ({'actions': [*GOOD.actions, ALIKE]}, 'j3 does not show in the latents apart from j2'),
        ({'actions': [*GOOD.actions, replace(ALIKE, like='')]}, '97% of the variation of its'),
        ({'actions': [BLIND, BLIND]}, 'no command shows in the latents'),
        ({'actions': [*GOOD.actions, STILL]}, 'command j3 hardly varies'),
        ({'prediction': [0.4], 'trained': None}, 'hardly better than copying'),
        ({'prediction': [0.3]}, 'these frames are out of distribution'),
        ({'covered': 0.4}, 'only 40% of the frames are on the roadmap'),
        ({'connected': 0.2}, 'connects only 20% of the pairs'),
        ({'order': 0.3, 'roadmap': False}, 'add a roadmap with `lewm roadmap'),
        ({'delay': 0.3}, 'commands act 0.30 s later than the contract says'),
        ({'delay': -0.3}, 'commands act 0.30 s earlier'),
    ],
)
def test_each_problem_is_named_with_its_remedy(changes: dict[str, Any], says: str) -> None:
    """Each defect gives exactly one problem."""
    verdict = judge(replace(GOOD, **changes))
    assert not verdict.ready and len(verdict.problems) == 1
    assert says in verdict.problems[0]
    assert describe(verdict).endswith(f'not ready:\n  - {verdict.problems[0]}')


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'order': 0.3}, 'saturates after 4.0 blocks (1.00 s): plan with the roadmap'),
        ({'saturated': 0.3}, 'saturates after 4.0 blocks (1.00 s): plan with the roadmap'),
        ({'roadmap': False}, 'goals farther than 1.0 s are out of reach'),
        ({'lost': {'a frame is missing': 300}}, '30% of the frames start no window'),
        ({'states': [Field('position[2]', 0.6, 1.0, 0.5)]}, 'state position[2] is hardly encoded'),
        ({'trained_period': 0.02}, 'frames at 20.0 Hz, the model was trained at 50.0 Hz'),
        ({'refused': {'damaged': 3}}, 'left out: 3 x damaged'),
        ({'plan_ms': 240.0}, 'a plan takes 240 ms of the 175 ms'),
        ({'encode_ms': 60.0}, 'encoding takes 60 ms, frames come every 50 ms'),
    ],
)
def test_what_only_costs_is_a_warning(changes: dict[str, Any], says: str) -> None:
    """A warning leaves the bundle ready."""
    verdict = judge(replace(GOOD, **changes))
    assert verdict.ready and len(verdict.warnings) == 1
    assert says in verdict.warnings[0]
    assert describe(judge(GOOD)).endswith('\nready') and not judge(GOOD).warnings


def dimensions(bundle: Bundle, engine: PointMass, heavy: float) -> list[Dimension]:
    """Describe both commands from three episodes."""
    episodes = [drive(bundle, n, heavy) for n in range(3)]
    windows = HeldOutWindows(
        bundle, [(e.episode, e.latents) for e in episodes], np.random.default_rng(0)
    )
    predicted = windows.predict(engine)
    return windows.dimensions(predicted, windows.visibility(engine), windows.floor(predicted))


def test_a_command_that_moves_nothing_is_found(bundle: Bundle, engine: PointMass) -> None:
    """The model predicts an effect on y that the recordings do not show, so y's ratio is low."""
    bundle = arm('velocity', bundle)

    x, y = dimensions(bundle, engine, 1.0)
    assert min(x.effect, y.effect) > 5 and min(x.ratio, y.ratio) > 30
    assert x.deviation == pytest.approx(1 / 12**0.5, rel=0.2)
    assert x.unit == f'{bundle.contract.action.units[0]}·s'
    assert y.precision == pytest.approx(x.precision, rel=0.3)
    assert (x.like, y.like) == ('', '')
    x, y = dimensions(bundle, engine, 0.0)
    assert y.ratio < 2 < x.ratio


class Coupled(PointMass):
    """Both commands push along x; what the second does to y hardly shows."""

    def rollout(
        self, context: np.ndarray, past: np.ndarray, actions: np.ndarray, exact: bool = True
    ) -> np.ndarray:
        """Roll out the point mass with mixed commands."""
        spec = self.bundle.spec
        forces = spec.denormalise_block(actions).reshape(*actions.shape[:2], TICKS, SIZE)
        mixed = forces @ [[1.0, 0.0], [1.0, 0.01]]
        blocks = spec.normalise_block(mixed.reshape(actions.shape))
        return super().rollout(context, past, blocks, exact)


def test_commands_that_show_only_together_are_found(bundle: Bundle, engine: PointMass) -> None:
    """Each command alone moves the image, but which one it was cannot be told from the image."""
    bundle = arm('velocity', bundle)
    apart = dimensions(bundle, engine, 1.0)
    together = dimensions(bundle, Coupled(bundle), 1.0)
    for before, after, other in zip(apart, together, reversed(together)):
        assert before.alone == pytest.approx(before.precision, rel=0.2)
        assert before.share < 0.2
        assert after.like == other.name
        assert after.alone < 0.5 * after.precision
        assert 0.5 < after.share < 1


def test_positions_are_swapped_as_movements(bundle: Bundle, engine: PointMass) -> None:
    """A swap applies another window's movement to the last command, within the limits."""
    bundle = arm('position', bundle)
    episodes = [drive(bundle, n) for n in range(2)]
    windows = HeldOutWindows(
        bundle, [(e.episode, e.latents) for e in episodes], np.random.default_rng(0)
    )
    windows.predict(engine)
    plans = np.stack([bundle.spec.denormalise_block(c).reshape(3, -1, 2) for c in engine.calls])
    own, swapped = plans[:, 0], plans[:, 1]
    np.testing.assert_allclose(own, windows.plans, atol=1e-6)
    np.testing.assert_allclose(swapped[:, :, 1], own[:, :, 1])
    assert np.abs(swapped).max() <= 1 + 1e-6
    other = np.roll(np.arange(len(own)), 1)
    moved = windows.plans[other] - windows.last[other]
    inside = (np.abs(windows.last + moved) < 1)[..., 0]
    np.testing.assert_allclose(
        (swapped - windows.last)[..., 0][inside], moved[..., 0][inside], atol=1e-6
    )


def test_the_shipped_bundle_is_ready(bag: Path, tmp_path: Path, capsys) -> None:
    """Metrics are JSON and a figure; positions show in the latents, velocities do not."""
    figure = tmp_path / 'new' / 'verdict.png'
    command = ['evaluate', 'reacher', '--data', str(bag), '--figure', str(figure)]
    assert cli.main([*command, '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert found['ready'] and not found['problems']
    assert found['order'] > 0.8 and found['reach'] > 3 and found['saturated'] < 0.01
    assert found['windows'] + sum(found['lost'].values()) == found['frames'] == 600
    assert [d['name'] for d in found['actions']] == ['shoulder', 'elbow']
    assert [s['name'] for s in found['states']] == ['position[0]', 'position[1]']
    assert all(s['error'] < s['chance'] / 2 for s in found['states'])
    assert found['delay'] == pytest.approx(0, abs=0.03)
    assert 0 < found['encode_ms'] < found['plan_ms']
    assert figure.read_bytes().startswith(b'\x89PNG')
    assert cli.main(command[:4]) == 0
    assert capsys.readouterr().out.endswith('\nready\n')


def test_less_light_than_in_training_is_found(bag: Path, monkeypatch, capsys) -> None:
    """At 80% of the light, predictions are worse by far more than on other new recordings."""

    def dimmed(*args: Any) -> Iterator[Episode]:
        for episode in read_episodes(*args):
            yield replace(episode, images=(0.8 * episode.images).astype(np.uint8))

    monkeypatch.setattr(bags, 'read_episodes', dimmed)
    assert cli.main(['evaluate', 'reacher', '--data', str(bag)]) == 0
    assert 'these frames are out of distribution' in capsys.readouterr().out


def test_an_untrained_network_is_not(bag: Path, tiny_bundle: Bundle, capsys) -> None:
    """The verdict is not ready; the status is 0, as the bag could be judged."""
    assert cli.main(['evaluate', str(tiny_bundle.path), '--data', str(bag)]) == 0
    said = capsys.readouterr().out
    assert 'not ready:\n  - ' in said and 'no command shows in the latents' in said


def test_a_history_of_one_frame_is_judged_too(bag: Path, make_tiny_bundle, capsys) -> None:
    """Such a context has no past commands."""
    path = make_tiny_bundle(history=1, window=1).path
    assert cli.main(['evaluate', str(path), '--data', str(bag), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['plan_ms'] > 0


def test_a_contract_delay_that_is_too_long_is_found(bag: Path) -> None:
    """The recorded commands have no stamps, so the reader delays them."""
    bundle = Bundle.load(find('bundle', 'reacher'))
    contract = replace(bundle.contract, action=replace(bundle.contract.action, delay=0.3))
    late = Bundle(bundle.path, replace(bundle.manifest, contract=contract))
    engine = PointMass(late)
    engine.encode = lambda image: np.zeros(4, dtype=np.float32)
    recordings = Recordings(late)
    for encoded in encode_bags(late, engine, [bag]):
        recordings.add(encoded)
    assert recordings.delay() == pytest.approx(-0.3, abs=0.03)


def test_only_held_out_episodes_of_a_training_bag_count(
    bag: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only episodes that the manifest lists count; if it lists none, the bag is refused."""
    path = tmp_path / 'reacher'
    shutil.copytree(find('bundle', 'reacher'), path)
    bundle = Bundle.load(path)
    used = {'sha256': bag_hashes(bag), 'held_out': 2, 'held_out_episodes': [1, 4]}
    rewrite_manifest(path, replace(bundle.manifest, provenance={'bags': [used]}))
    assert cli.main(['evaluate', str(path), '--data', str(bag), '--json']) == 0
    assert json.loads(capsys.readouterr().out)['episodes'] == 2
    del used['held_out_episodes']
    rewrite_manifest(path, replace(bundle.manifest, provenance={'bags': [used]}))
    assert cli.main(['evaluate', str(path), '--data', str(bag)]) == 2
    assert 'that the model was not trained on' in capsys.readouterr().err


def test_training_is_compared_with_a_full_context(tiny_bundle: Bundle) -> None:
    """Errors after a context of one frame, which planning never has, are not in the figure."""
    bags = [
        {'validation_prediction': 9.0, FULL_CONTEXT: 0.2, HELD_OUT_WINDOWS: 30},
        {'validation_prediction': 9.0, FULL_CONTEXT: 0.4, HELD_OUT_WINDOWS: 10},
        {HELD_OUT_WINDOWS: 0},
        {'validation_prediction': 9.0, 'held_out': 3},  # of an earlier version
        {HELD_OUT_WINDOWS: 0},
    ]
    manifest = replace(tiny_bundle.manifest, provenance={'bags': bags[:3]})
    assert _trained(Bundle(tiny_bundle.path, manifest)) == pytest.approx(0.25)
    manifest = replace(tiny_bundle.manifest, provenance={'bags': bags[2:4]})
    assert _trained(Bundle(tiny_bundle.path, manifest)) == pytest.approx(9.0)
    manifest = replace(tiny_bundle.manifest, provenance={'bags': bags[4:]})
    assert _trained(Bundle(tiny_bundle.path, manifest)) is None


def test_without_a_roadmap_one_of_the_recordings_is_tried(
    bundle: Bundle, engine: PointMass
) -> None:
    """A temporary roadmap is built from the recordings to measure coverage."""
    assert not (bundle.path / ROADMAP).exists()
    bundle = arm('effort', bundle)
    recordings = Recordings(bundle)
    for number in range(4):
        recordings.add(drive(bundle, number))
    engine.encode = lambda image: np.zeros(4, dtype=np.float32)
    found = examine(bundle, engine, recordings, PlannerConfig(iterations=1, cold_iterations=1))
    assert not found.roadmap and found.covered is not None
    assert found.actions[0].precision is None  # forces have no precision
    assert [s.name for s in found.states] == ['position[0]', 'position[1]']


def test_whole_turns_of_an_angle_do_not_count(bundle: Bundle, engine: PointMass) -> None:
    """A state that counts whole turns, which no image shows, is as well encoded as without them."""
    bundle = arm('effort', bundle)
    engine.encode = lambda image: np.zeros(4, dtype=np.float32)
    found = []
    for turns in (0, 1):
        recordings = Recordings(bundle)
        for number in range(4):
            encoded = drive(bundle, number)
            states = encoded.episode.states * [0.2, 1, 1, 1]  # x: less than half a turn
            states[:, 0] += 2 * np.pi * turns * number
            episode = replace(encoded.episode, states=states)
            recordings.add(encoded._replace(episode=episode))
        config = PlannerConfig(iterations=1, cold_iterations=1)
        found.append(examine(bundle, engine, recordings, config).states)
    straight, turned = found
    assert straight[0].error < 0.5 * straight[0].chance
    assert turned[0].error == pytest.approx(straight[0].error)
    assert turned[0].precision == pytest.approx(straight[0].precision)
    assert turned[1] == straight[1]


def test_a_state_that_is_mostly_the_same_is_left_out(bundle: Bundle, engine: PointMass) -> None:
    """Of two frames at random most have the same value: the latents need not encode it."""
    bundle = arm('effort', bundle)
    engine.encode = lambda image: np.zeros(4, dtype=np.float32)
    recordings = Recordings(bundle)
    for number in range(4):
        encoded = drive(bundle, number)
        states = encoded.episode.states.copy()
        states[len(states) // 8 :, 0] = 0.0
        recordings.add(encoded._replace(episode=replace(encoded.episode, states=states)))
    found = examine(bundle, engine, recordings, PlannerConfig(iterations=1, cold_iterations=1))
    assert [s.name for s in found.states] == ['position[1]']
