# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Offline scores, and a calibration from the command line."""

from __future__ import annotations

from dataclasses import replace
import json
from pathlib import Path
import shutil

from command_line import lewm
import numpy as np
from point_mass import SIZE, TICKS, PointMass, point_mass_bundle
import pytest

from lewm_ros.api import require_calibration
from lewm_ros.bags.episodes import Episode, read_episodes
from lewm_ros.bags.hashes import bag_hashes
from lewm_ros.bundle import Bundle, Calibration, rewrite_manifest
from lewm_ros.errors import CalibrationError
from lewm_ros.evaluation.calibrate import calibrate, calibrate_bundle, seconds_needed
from lewm_ros.evaluation.scoring import Forecast, score_episode
from lewm_ros.time import NS_PER_S

PERIOD = NS_PER_S // 20


class Seeing(PointMass):
    """A point mass whose images encode its state."""

    def encode(self, image: np.ndarray) -> np.ndarray:
        """Return the state that is written into the image."""
        return image[0, :, 0].astype(np.float32) / 100


def drive(jump: int | None = None, frames: int = 60) -> tuple[Episode, np.ndarray]:
    """Return an episode at rest, displaced from frame ``jump`` on, and its states."""
    states = np.zeros((frames, 4))
    if jump is not None:
        states[jump:, 0] = 0.5
    images = np.zeros((frames, 1, 4, 3))
    images[:, 0, :, 0] = 100 * states
    stamps = NS_PER_S + PERIOD * np.arange(frames)
    actions = np.zeros((frames, SIZE))
    return Episode(stamps, images, stamps, actions, None), states


@pytest.fixture
def mass(tmp_path: Path, reacher_contract) -> Bundle:
    """Return the point mass's bundle with scales for one and three blocks."""
    bundle = point_mass_bundle(tmp_path, reacher_contract)
    scales = {1: (0.25,) * 4, 3: (0.5,) * 4}
    return rewrite_manifest(bundle.path, replace(bundle.manifest, surprise_scale=scales))


@pytest.mark.parametrize(('horizon', 'scale'), [(1, 0.25), (3, 0.5)])
def test_a_jump_is_surprising_for_a_horizon(mass: Bundle, horizon: int, scale: float) -> None:
    """The exact model is wrong by the jump from its first frame until the context contains it."""
    episode, _ = drive(jump=40)
    found = score_episode(mass, Seeing(mass), episode, horizon)
    first = (mass.manifest.history - 1 + horizon) * TICKS
    assert found.stamps.tolist() == episode.stamps[first:].tolist()
    inside = (found.stamps >= episode.stamps[40]) & (
        found.stamps < episode.stamps[40] + horizon * TICKS * PERIOD
    )
    expected = np.where(inside, 0.5**2 / scale / 4, 0.0)
    assert found.scores == pytest.approx(expected, abs=1e-6)
    assert found.contributions[:, 0] == pytest.approx(expected, abs=1e-6)


def test_a_horizon_without_a_scale_has_ones(mass: Bundle) -> None:
    """Without a calibration the score is the plain mean squared error."""
    episode, _ = drive(jump=40)
    assert score_episode(mass, Seeing(mass), episode, 2).scores.max() == pytest.approx(0.25 / 4)


def test_an_episode_that_is_too_short_has_no_score(mass: Bundle) -> None:
    """The result is empty, with the right shapes."""
    episode, _ = drive(frames=8)
    found = score_episode(mass, Seeing(mass), episode)
    assert found.scores.shape == (0,) and found.contributions.shape == (0, 4)


def nominal(count: int, rng: np.random.Generator, outliers: int = 0) -> list[Forecast]:
    """Return 30 s episodes with normal errors; the first has ``outliers`` teleported frames."""
    stamps = NS_PER_S + PERIOD * np.arange(600)
    forecasts = [
        Forecast(stamps, np.zeros((600, 8)), rng.normal(size=(600, 8))) for _ in range(count)
    ]
    forecasts[0].observed[100 : 100 + outliers] += 100
    return forecasts


TEMPLATE = Calibration(0.5, 1.0, None, 1, 'test', 'a' * 64)


def test_outliers_in_nominal_data_do_not_move_a_threshold() -> None:
    """Five teleported frames change scale and threshold by at most 2 %."""
    clean = calibrate(nominal(20, np.random.default_rng(0)), [0.1], 10.0, TEMPLATE, 1.0)
    spoilt = calibrate(nominal(20, np.random.default_rng(0), 5), [0.1], 10.0, TEMPLATE, 1.0)
    assert spoilt[1][0].threshold == pytest.approx(clean[1][0].threshold, rel=0.02)
    assert spoilt[0] == pytest.approx(clean[0], rel=0.02)


def test_false_alarms_of_score_and_drift_keep_to_alpha() -> None:
    """New nominal episodes cross each threshold at about the rate alpha."""
    from lewm_ros.surprise.monitors import running_means
    from lewm_ros.surprise.score import score

    rng = np.random.default_rng(1)
    scale, (entry,), _ = calibrate(nominal(40, rng), [0.2], None, TEMPLATE, 1.0)
    assert entry.windows == 32
    above, drifting = [], []
    for forecast in nominal(300, rng):
        scores = score(forecast.predicted, forecast.observed, scale)
        above.append(scores.max() > entry.threshold)
        means = running_means(forecast.stamps, scores)
        drifting.append(np.nanmax(means) > entry.drift)
    # One calibration's rate varies around 0.2 by 0.07 (beta distribution), the estimate by 0.02.
    assert 0.02 < np.mean(above) < 0.45
    assert 0.02 < np.mean(drifting) < 0.45


def test_runs_too_short_for_a_running_mean_give_no_drift_threshold() -> None:
    """The drift threshold is None then; the threshold of the score is set."""
    short = [
        Forecast(f.stamps[:150], f.predicted[:150], f.observed[:150])
        for f in nominal(20, np.random.default_rng(0))
    ]
    _, (entry,), _ = calibrate(short, [0.1], None, TEMPLATE, 1.0)
    assert entry.drift is None and entry.threshold > 1


def test_too_few_windows_are_refused_with_the_number() -> None:
    """The error names the available and the required windows, also for whole episodes."""
    four = nominal(4, np.random.default_rng(0))
    says = '9 nominal windows.*at least 99; 2.1 min were given, 20.7 min without interruption'
    with pytest.raises(CalibrationError, match=says):
        calibrate(four, [0.5, 0.01], 10.0, TEMPLATE, 1.0)
    says = '3 nominal whole episodes.*at least 9; 2.1 min were given, 5.9 min in such episodes'
    with pytest.raises(CalibrationError, match=says):
        calibrate(four, [0.1], None, TEMPLATE, 1.0)


def long_run(frames: int) -> Forecast:
    """Return one episode with normal errors."""
    stamps = NS_PER_S + PERIOD * np.arange(frames)
    errors = np.random.default_rng(0).normal(size=(frames, 8))
    return Forecast(stamps, np.zeros((frames, 8)), errors)


def test_one_recording_as_long_as_is_said_suffices() -> None:
    """A recording of the length that seconds_needed() gives suffices; one second less does not."""
    context = 1.0
    frames = round((seconds_needed(0.01, 10.0, context) - context) / PERIOD * NS_PER_S)
    _, entries, _ = calibrate([long_run(frames)], [0.05, 0.01], 10.0, TEMPLATE, context)
    assert [entry.windows for entry in entries] == [99, 99]
    with pytest.raises(CalibrationError, match='98 nominal windows'):
        calibrate([long_run(frames - 20)], [0.05, 0.01], 10.0, TEMPLATE, context)
    _, (entry,), _ = calibrate([long_run(21 * 60 * 20)], [0.01], 10.0, TEMPLATE, context)
    assert entry.drift is not None


def test_scale_and_thresholds_of_one_recording_share_no_frame() -> None:
    """Outliers in the context after the first fifth affect neither, later ones the thresholds."""
    plain, cut = calibrate([long_run(4000)], [0.1], 10.0, TEMPLATE, 1.0)[:2]
    for first, end, in_scale, in_threshold in ((0, 800, 1, 0), (800, 820, 0, 0), (820, 840, 0, 1)):
        run = long_run(4000)
        run.observed[first:end] *= 10
        scale, (entry,), _ = calibrate([run], [0.1], 10.0, TEMPLATE, 1.0)
        assert (scale > 2 * plain).any() == bool(in_scale)
        if not in_scale:
            assert (entry.threshold > cut[0].threshold) == bool(in_threshold), (first, end)


def test_whole_episodes_are_cut_only_where_they_leave_too_few_windows() -> None:
    """Two episodes of 100 s: the second has 10 windows; 13 need a part of the first."""
    two = [long_run(2000), long_run(2000)]
    _, (entry,), _ = calibrate(two, [0.1], 10.0, TEMPLATE, 1.0)
    assert entry.windows == 10
    _, (entry,), _ = calibrate(two, [0.075], 10.0, TEMPLATE, 1.0)
    assert entry.windows == 15


@pytest.fixture(scope='module')
def bag(tmp_path_factory) -> Path:
    """Return 8 episodes of 3 s."""
    path = tmp_path_factory.mktemp('bags') / 'bag'
    options = ('--episodes', 8, '--seconds', 3, '--image-size', 32)
    assert lewm('collect', 'reacher', '--out', path, *options)[0] == 0
    return path


def test_calibrate_from_the_command_line(
    bag: Path, tiny_bundle: Bundle, tmp_path: Path, caplog
) -> None:
    """The manifest keeps the calibrations of all horizons."""
    path = tmp_path / 'tiny'
    shutil.copytree(tiny_bundle.path, path)
    common = ('calibrate', path, '--data', bag, '--json')
    status, out, _ = lewm(*common, '--alpha', 0.5, 0.25, '--window', 1, '--horizon', 1, 3)
    assert status == 0
    figures = json.loads(out)
    assert [h['horizon'] for h in figures['horizons']] == [1, 3]
    assert figures['horizons'][0]['false_alarms_per_hour']['0.25'] == pytest.approx(900)
    first = Bundle.load(path)
    entry = first.calibration_for(0.25, horizon=3)
    assert (entry.window, entry.contract, entry.model_hash) == (1.0, 'reacher', tiny_bundle.hash)
    assert entry.rate == pytest.approx(20.0)
    assert entry.windows >= 3
    assert entry.data == tuple(bag_hashes(bag))
    assert len(first.manifest.surprise_scale) == 2

    assert lewm(*common, '--alpha', 0.5, 0.25, '--window', 'episode')[0] == 0
    second = Bundle.load(path)
    assert second.calibration_for(0.25).window is None
    assert second.calibration_for(0.25).windows == 6
    assert second.calibration_for(0.25, horizon=3) == entry  # is kept
    said = caplog.text
    assert 'is gone' not in said and 'drift is not watched at alpha 0.5, horizon 1' in said

    assert lewm(*common, '--alpha', 0.4, '--window', 'episode')[0] == 0
    assert Bundle.load(path).calibration_for(0.25) is None
    assert 'the threshold for alpha 0.25 at horizon 1 is gone' in caplog.text
    assert '(--alpha 0.4 0.25)' in caplog.text and 'horizon 3 is gone' not in caplog.text
    with pytest.raises(CalibrationError, match=r'--data BAG\.\.\. --alpha 0\.4 0\.25 --horizon 1'):
        require_calibration(Bundle.load(path), 0.25, 1)
    assert lewm(*common, '--alpha', 0.5, 0.25, '--window', 'episode')[0] == 0
    second = Bundle.load(path)

    # Also those written by another command after this one loaded the bundle.
    calibrate_bundle(first, [bag], [0.5], 1.0, [2])
    assert Bundle.load(path).calibration_for(0.25) == second.calibration_for(0.25)
    assert sorted(Bundle.load(path).manifest.surprise_scale) == [1, 2, 3]


def test_calibrating_on_training_episodes_is_reported(
    bag: Path, tiny_bundle: Bundle, tmp_path: Path, caplog
) -> None:
    """Their errors are smaller than those of new recordings."""
    path = tmp_path / 'tiny'
    shutil.copytree(tiny_bundle.path, path)
    used = {'sha256': bag_hashes(bag), 'held_out_episodes': [0]}
    rewrite_manifest(path, replace(tiny_bundle.manifest, provenance={'bags': [used]}))
    command = ('calibrate', path, '--data', bag, '--alpha', '0.5', '--window', 1)
    assert lewm(*command)[0] == 0
    count = len(list(read_episodes([bag], tiny_bundle.contract, 32)))
    assert f'{count - 1} episodes were used to train this bundle' in caplog.text


def test_one_long_recording_is_enough(tiny_bundle: Bundle, tmp_path: Path) -> None:
    """20 uninterrupted seconds suffice; whole episodes need two; too little data is refused."""
    bag, path = tmp_path / 'bag', tmp_path / 'tiny'
    shutil.copytree(tiny_bundle.path, path)
    options = ('--episodes', 1, '--seconds', 20, '--image-size', 32)
    assert lewm('collect', 'reacher', '--out', bag, *options)[0] == 0
    common = ('calibrate', path, '--data', bag)
    assert lewm(*common, '--alpha', 0.1, '--window', 1, '--horizon', 1, 3)[0] == 0
    bundle = Bundle.load(path)
    # 16 of the 20 s, less the context before the first score and the one after the cut.
    assert 12 <= bundle.calibration_for(0.1, horizon=3).windows <= 15
    before = (path / 'manifest.json').read_bytes()
    status, _, error = lewm(*common)
    assert status == 2 and 'at least 99; 0.3 min were given, 20.' in error.splitlines()[-1]
    status, _, error = lewm(*common, '--window', 'episode')
    assert status == 2 and 'needs at least 2' in error.splitlines()[-1]
    assert (path / 'manifest.json').read_bytes() == before


def test_help_says_how_much_to_record() -> None:
    """The minutes hold 19 and 99 windows of 10 s, plus a fifth of the recording for the scale."""
    status, out, _ = lewm('calibrate', '--help')
    assert status == 0
    assert 'at least 4 min for 0.05, 21 min for 0.01' in ' '.join(out.split())


@pytest.mark.parametrize(
    ('option', 'value', 'says'),
    [
        ('--alpha', '2', 'alpha is 2.0'),
        ('--alpha', 'few', "invalid float value: 'few'"),
        ('--window', 'long', "invalid duration value: 'long'"),
        ('--horizon', '0', '--horizon is 0'),
        ('--horizon', '99', 'horizon is 99 blocks'),
    ],
)
def test_bad_options_are_one_line(
    bag: Path, tiny_bundle: Bundle, option: str, value: str, says: str
) -> None:
    """The last line of the error names the option or its value; status 2."""
    status, _, error = lewm('calibrate', tiny_bundle.path, '--data', bag, option, value)
    assert status == 2 and says in error.splitlines()[-1]
