# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm evaluate --voe`: paired trials, equal up to an event, and their statistics."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import shutil

import cv2
import numpy as np
import pytest
from tqdm import tqdm

from lewm_ros import cli
from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.bags.hashes import bag_hashes
from lewm_ros.bundle import Bundle, Calibration, rewrite_manifest
from lewm_ros.engines import load_engine
from lewm_ros.errors import CalibrationError
from lewm_ros.evaluation.detection import Trial
from lewm_ros.evaluation.false_alarms import false_alarms, refuse_calibrated
from lewm_ros.evaluation.voe import Trials, summarise
from lewm_ros.planning import PlannerConfig
from lewm_ros.sim import make_task
from lewm_ros.surprise.events import Event

COLLECTED = 'lewm collect reacher --policy planner --episodes 8 --seed 3 --out data/nominal'


def calibrated(bundle: Bundle, folder: Path, data: tuple[str, ...] | None = None) -> Bundle:
    """Copy a bundle, with a threshold that random weights do not reach."""
    shutil.copytree(bundle.path, folder)
    entry = Calibration(0.01, 1e9, 1.0, 99, COLLECTED, bundle.hash, data=data)
    return rewrite_manifest(folder, replace(bundle.manifest, calibration=(entry,)))


@pytest.fixture
def protocol(tiny_bundle: Bundle):
    """Return the trials of a network with random weights."""
    task = make_task('reacher', tiny_bundle.manifest.image_size)
    calibration = Calibration(0.01, 1e9, 1.0, 99, COLLECTED, tiny_bundle.hash, drift=1e9)
    engine = load_engine(tiny_bundle)
    # With one command per tick, a random network always commands motion.
    config = PlannerConfig(candidates='tick')
    yield Trials(tiny_bundle, task, engine, config, calibration)
    task.close()


def before(trial: Trial, stamp: int) -> np.ndarray:
    """Scores before a stamp."""
    return trial.scores[trial.stamps < stamp]


def test_trials_are_equal_up_to_the_event(protocol: Trials) -> None:
    """Start, goals, commands and scores are equal up to the first frame that shows the event.

    A teleport shows in the first frame after it. The first frozen image is a new one, so a freeze
    shows later.
    """
    with tqdm(disable=True) as bar:
        normal, trials = protocol.run(['teleport', 'freeze'], (7, 0), bar)
        _, again = protocol.run(['teleport'], (7, 0), bar)
        other, _ = protocol.run(['teleport'], (7, 1), bar)
    assert len(normal.scores) > 60
    for trial in trials.values():
        assert trial.began == normal.began
        assert np.array_equal(before(trial, trial.shown), before(normal, trial.shown))
        place = np.searchsorted(trial.stamps, trial.shown)
        assert trial.scores[place] != normal.scores[place]
    assert trials['teleport'].shown == trials['teleport'].began
    assert trials['freeze'].shown > trials['freeze'].began
    assert np.array_equal(trials['teleport'].scores, again['teleport'].scores)
    assert not np.array_equal(other.scores[:60], normal.scores[:60])
    # The monitor of the node, with its own default: equal images for more than 0.3 s.
    events = trials['freeze'].events['frozen_camera']
    assert 0.3e9 < events[0].start - trials['freeze'].began < 1.0e9
    assert not normal.events['frozen_camera'] and not normal.events['surprise']


def test_goals_are_those_of_calibration_data(protocol: Trials) -> None:
    """Thresholds hold for what they were computed on: any goal of the task, and its time."""
    task, drawn = protocol._task, []
    with tqdm(disable=True) as bar, pytest.MonkeyPatch.context() as patch:
        patch.setattr(task, 'sample_goal', lambda far=None: drawn.append(far) or task.data.qpos + 1)
        protocol.run(['teleport'], (7, 0), bar)
    assert set(drawn) == {np.inf}
    assert protocol._policy._goal_seconds == task.goal_seconds


def made(score: float, alarm: bool = False) -> Trial:
    """Return a trial of one second with a score, detected or not."""
    stamps = 10**9 + 50_000_000 * np.arange(21)
    event = Event(1, 'surprise', int(stamps[2]), int(stamps[2]), score, 10.0, 0.01)
    events = {'surprise': [event] if alarm else []}
    return Trial(int(stamps[0]), int(stamps[0]), stamps, np.full(21, score), events)


def test_balanced_accuracy_is_of_abrupt_physical_events() -> None:
    """Teleports 3/4, pushes 1/4, quiet normal trials 3/4; purely visual events do not count."""
    normal = [made(1.0, n == 0) for n in range(4)]
    trials = {
        'teleport': [made(50.0, n != 0) for n in range(4)],
        'push': [made(5.0, n == 0) for n in range(4)],
        'colour': [made(20.0) for _ in range(4)],
    }
    calibration = Calibration(0.01, 10.0, 1.0, 99, COLLECTED, 'a' * 64)
    found = summarise(normal, trials, calibration, 0)
    assert found['normal']['quiet'] == 0.75
    assert found['balanced_accuracy'] == pytest.approx(0.625)
    assert found['teleport_vs_colour_auroc'] == 1.0
    del trials['teleport'], trials['push']
    found = summarise(normal, trials, calibration, 0)
    assert found['balanced_accuracy'] is None and found['teleport_vs_colour_auroc'] is None


@pytest.mark.timeout(600)
def test_the_shipped_bundle_tells_teleports_from_colours(
    tmp_path: Path, hasty: Path, capsys
) -> None:
    """Three trials each: all teleports are detected within 3 frames; AUROC over colours ≥ 0.8."""
    image = tmp_path / 'voe.png'
    command = ['evaluate', 'reacher', '--voe', '--trials', '3', '--kinds', 'teleport', 'colour']
    assert cli.main([*command, '--preset', str(hasty), '--json', '--figure', str(image)]) == 0
    expected = cv2.imread(str(image.with_stem('voe_expected')))
    assert expected.shape == (2 * 172, 640, 3)  # a row for each kind
    figures = json.loads(capsys.readouterr().out)
    assert list(figures['kinds']) == ['teleport', 'colour']
    for kind in figures['kinds'].values():
        assert {'auroc', 'detected', 'delay_frames_median', 'n'} <= set(kind)
    teleport = figures['kinds']['teleport']
    assert (teleport['auroc'], teleport['detected'], teleport['n']) == (1.0, 1.0, 3)
    assert teleport['delay_frames_median'] <= 3
    assert figures['teleport_vs_colour_auroc'] >= 0.8
    assert figures['balanced_accuracy'] >= 0.8
    assert figures['false_alarms'] == {}
    assert image.read_bytes().startswith(b'\x89PNG')


def test_false_alarms_of_a_bag(tiny_bundle: Bundle, tmp_path: Path, capsys, caplog) -> None:
    """No window exceeds an unreachable threshold; every window exceeds one near zero."""
    bag = tmp_path / 'nominal'
    collect = ['collect', 'reacher', '--image-size', '32', '--episodes', '2', '--seconds', '4']
    assert cli.main([*collect, '--seed', '5', '--out', str(bag)]) == 0
    bundle = calibrated(tiny_bundle, tmp_path / 'tiny')
    low = replace(bundle.manifest.calibration[0], alpha=0.05, threshold=1e-9, window=0.5)
    entries = (*bundle.manifest.calibration, low)
    rewrite_manifest(bundle.path, replace(bundle.manifest, calibration=entries))
    command = ['evaluate', str(bundle.path), '--voe', '--trials', '1', '--kinds', 'teleport']
    assert cli.main([*command, '--data', str(bag), '--json']) == 0
    found = json.loads(capsys.readouterr().out)['false_alarms']
    assert found['0.01'] == {
        'rate': 0.0,
        'low': 0.0,
        'high': pytest.approx(3.84 / 9.84, abs=0.01),  # Wilson, 0 of 6
        'windows': 6,
        'chance': pytest.approx(1.0),
        'per_hour': 0.0,
    }
    assert (found['0.05']['rate'], found['0.05']['windows']) == (1.0, 12)
    assert found['0.05']['per_hour'] == 7200
    assert found['0.05']['chance'] < 1e-6

    # Episodes that the model was trained on do not count.
    used = {'sha256': bag_hashes(bag), 'held_out_episodes': [1]}
    manifest = Bundle.load(bundle.path).manifest
    rewrite_manifest(bundle.path, replace(manifest, provenance={'bags': [used]}))
    capsys.readouterr()
    assert cli.main([*command, '--data', str(bag)]) == 0
    said = capsys.readouterr()
    assert 'alpha 0.05: in 1.0000 of 6 nominal windows' in said.out
    assert 'more than alpha promises' in said.out and 'as alpha promises' in said.out
    assert '1 episodes were used to train this bundle: left out' in caplog.text


def test_bags_of_the_calibration_are_refused(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """Content decides: a renamed copy is refused, another recording of the same name is not."""
    first, other = tmp_path / 'run1', tmp_path / 'another_day' / 'run1'
    other.parent.mkdir()
    for folder in (first, other):
        with BagWriter(folder, 'lewm record --contract reacher'):
            pass
    with next(other.glob('*.mcap')).open('ab') as file:
        file.write(b'other frames')
    bundle = calibrated(tiny_bundle, tmp_path / 'a', tuple(bag_hashes(first)))
    copied = tmp_path / 'copy'
    shutil.copytree(first, copied)
    with pytest.raises(CalibrationError, match='copy was used to calibrate'):
        false_alarms(bundle, load_engine(bundle), [copied], 1)
    refuse_calibrated(bundle, [other])


def test_a_calibration_without_hashes_is_said(tiny_bundle: Bundle, tmp_path: Path, caplog) -> None:
    """Older bundles have no hashes; a warning says that nothing is checked."""
    with BagWriter(tmp_path / 'bag', 'lewm record --contract reacher'):
        pass
    refuse_calibrated(calibrated(tiny_bundle, tmp_path / 'a'), [tmp_path / 'bag'])
    assert 'is not checked' in caplog.text


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (['--voe'], 'run `lewm calibrate'),
        (['--voe', '--trials', '0'], '--trials is 0'),
        (['--voe', '--figure', '/dev/null/voe.png'], 'report folder /dev/null: cannot be written'),
        (['--voe', '--goals', '3'], '--goals only has a meaning without --voe'),
        (['--trials', '3'], '--trials only has a meaning with --voe'),
        (['--data', 'bag', '--goals', '3'], '--goals only has a meaning without --data'),
        (['--data', 'bag', '--task', 'reacher'], '--task only has a meaning without --data'),
        (['--figure', 'f.png'], '--figure only has a meaning with --voe or --data'),
        (['--task', 'push'], 'task push is of another robot: action.names'),
    ],
)
def test_what_cannot_be_evaluated_is_one_line(
    tiny_bundle: Bundle, capsys, options: list[str], says: str
) -> None:
    """A bundle without thresholds and options of another mode are refused."""
    assert cli.main(['evaluate', str(tiny_bundle.path), *options]) == 2
    error = capsys.readouterr().err.strip()
    assert says in error and len(error.splitlines()) == 1
