# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Surprise thresholds with a chosen false-alarm rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.bags.episodes import recording_command
from lewm_ros.bags.hashes import data_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle, Calibration, check_writable, rewrite_manifest
from lewm_ros.engines import load_engine
from lewm_ros.errors import CalibrationError
from lewm_ros.evaluation.bags import read_marked
from lewm_ros.evaluation.scoring import Forecast, forecast_episode
from lewm_ros.robot.history import frame_period
from lewm_ros.surprise.calibration import conformal_threshold, window_maxima, windows_needed
from lewm_ros.surprise.monitors import DRIFT_SPAN, running_means
from lewm_ros.surprise.score import nominal_scale, score
from lewm_ros.time import NS_PER_S

#: Share of the data that the per-dimension scale comes from; the rest gives thresholds.
SCALE_SHARE = 0.2
log = logging.getLogger('lewm')


def seconds_needed(alpha: float, window: float, context: float = 0.0) -> float:
    """Length [s] of the shortest uninterrupted recording that gives a threshold.

    Args:
        alpha: chance of a false alarm in a window.
        window: [s].
        context: time before a frame that its prediction may depend on [s].

    Raises CalibrationError if alpha is not in (0, 1).

    """
    return (windows_needed(alpha) * window + context) / (1 - SCALE_SHARE) + context


def calibrate(
    forecasts: list[Forecast],
    alphas: list[float],
    window: float | None,
    template: Calibration,
    context: float,
) -> tuple[np.ndarray, tuple[Calibration, ...], float]:
    """Compute scale and thresholds of one horizon from the nominal episodes.

    The first episodes give the scale, the others the thresholds, because a threshold is only valid
    for frames that were not used for the scale. If whole episodes leave too few windows, as with
    one long recording, the episode at the border is split.

    Args:
        forecasts: of the episodes with usable frames, at least 1; 2 if windows are episodes.
        alphas: chances of a false alarm in a window.
        window: [s]; None: episodes.
        template: what all entries have in common.
        context: time before a frame that its prediction may depend on [s].

    Returns:
        The scale (D,), an entry for each alpha, and the median score. The threshold of the
        running mean is None where the runs of frames are too short for one.

    Raises CalibrationError where there are too few windows for an alpha.

    """
    alpha = min(alphas)
    needed = windows_needed(alpha)
    count = max(1, round(SCALE_SHARE * len(forecasts)))
    for_scale, rest = forecasts[:count], forecasts[count:]
    if window is not None and _count_windows(rest, window) < needed:
        for_scale, rest = _cut(forecasts, context)
    windows = _count_windows(rest, window)
    if windows < needed:
        spans = [float(f.stamps[-1] - f.stamps[0]) / NS_PER_S + context for f in forecasts]
        length = float(np.mean(spans)) if window is None else window
        unit = f'windows of {length:g} s' if window else 'whole episodes'
        how = 'without interruption' if window else 'in such episodes'
        minutes = math.ceil(seconds_needed(alpha, length, context) / 6) / 10
        raise CalibrationError(
            f'{windows} nominal {unit} are too few for alpha {alpha}: expected at least {needed}; '
            f'{sum(spans) / 60:.1f} min were given, {minutes:.1f} min {how} are needed; '
            'record longer, or choose a larger alpha or shorter windows'
        )
    scale = nominal_scale(
        np.concatenate([f.predicted for f in for_scale]),
        np.concatenate([f.observed for f in for_scale]),
    )
    each = [score(f.predicted, f.observed, scale) for f in rest]
    stamps, episodes = _timeline(rest)
    scores = np.concatenate(each)
    means = np.concatenate([running_means(f.stamps, s) for f, s in zip(rest, each)])
    maxima = window_maxima(stamps, scores, window, episodes)
    full = ~np.isnan(means)
    mean_maxima = window_maxima(stamps[full], means[full], window, episodes[full])
    entries = tuple(
        replace(
            template,
            alpha=alpha,
            threshold=conformal_threshold(maxima, alpha),
            drift=(
                conformal_threshold(mean_maxima, alpha)
                if len(mean_maxima) >= windows_needed(alpha)
                else None
            ),
            windows=len(maxima),
        )
        for alpha in alphas
    )
    return scale, entries, float(np.median(scores))


def _cut(forecasts: list[Forecast], context: float) -> tuple[list[Forecast], list[Forecast]]:
    """Split at :data:`SCALE_SHARE` of the frames, within an episode.

    The frames for ``context`` [s] after the cut are left out, so that no frame of the second part
    was predicted from one of the first.
    """
    left = max(1, round(SCALE_SHARE * sum(len(f.stamps) for f in forecasts)))
    for_scale, rest = [], []
    for f in forecasts:
        end = begin = min(left, len(f.stamps))
        if end:
            border = f.stamps[end - 1] + round(context * NS_PER_S)
            begin = int(np.searchsorted(f.stamps, border, side='right'))
        for_scale.append(Forecast(f.stamps[:end], f.predicted[:end], f.observed[:end]))
        rest.append(Forecast(f.stamps[begin:], f.predicted[begin:], f.observed[begin:]))
        left -= end
    return for_scale, rest


def _count_windows(forecasts: list[Forecast], window: float | None) -> int:
    if window is None or not forecasts:
        return len(forecasts)
    stamps, episodes = _timeline(forecasts)
    return len(window_maxima(stamps, np.zeros(len(stamps)), window, episodes))


def _timeline(forecasts: list[Forecast]) -> tuple[np.ndarray, np.ndarray]:
    """Stamp [ns] and episode of every frame, (n,) each."""
    episodes = np.repeat(np.arange(len(forecasts)), [len(f.stamps) for f in forecasts])
    return np.concatenate([f.stamps for f in forecasts]), episodes


def calibrate_bundle(
    bundle: Bundle,
    data: Sequence[Path],
    alphas: Sequence[float],
    window: float | None,
    horizons: Sequence[int],
) -> dict[str, Any]:
    """Score nominal data; store scales and thresholds in the bundle's manifest.

    Thresholds of other horizons in the manifest stay. Those of these horizons are replaced, also
    for other alphas, since they are of another scale.

    Args:
        bundle: its manifest is rewritten.
        data: bags of nominal operation, recorded with the policy that will run.
        alphas: chances of a false alarm in a window.
        window: [s]; None: whole episodes.
        horizons: how far ahead frames are predicted [blocks].

    Returns:
        What was found, as plain data for JSON.

    Raises CalibrationError where there is too little data, or a number is out of range, ModelError
    where the bundle cannot be written.

    """
    alphas = list(dict.fromkeys(alphas))
    if not alphas:
        raise CalibrationError('no alpha is given: expected at least one')
    shortest = bundle.manifest.camera_period
    if window is not None and not shortest <= window < math.inf:
        raise CalibrationError(
            f'--window is {window}: expected at least a camera period ({shortest:g} s), or episode'
        )
    for alpha in alphas:
        windows_needed(alpha)  # raises before the data is read
    horizons = sorted(set(horizons))
    if horizons[0] < 1:
        raise CalibrationError(f'--horizon is {horizons[0]}: expected blocks, 1 or more')
    check_writable(bundle.path)
    engine = load_engine(bundle, horizon=horizons[-1])
    forecasts: dict[int, list[Forecast]] = {h: [] for h in horizons}
    spans, periods = [], []
    trained_on = 0
    for episode, fresh in read_marked(bundle, data):
        trained_on += not fresh
        found = forecast_episode(bundle, engine, episode, horizons)
        if not all(len(forecast.stamps) for forecast in found.values()):
            continue
        for horizon, forecast in found.items():
            forecasts[horizon].append(forecast)
        spans.append(float(episode.stamps[-1] - episode.stamps[0]) / NS_PER_S)
        periods.append(frame_period(episode.stamps) / NS_PER_S)
    fewest = 2 if window is None else 1
    if len(spans) < fewest:
        raise CalibrationError(
            f'{len(spans)} episodes with usable frames in {[str(b) for b in data]}: '
            f'calibration needs at least {fewest}'
        )
    if trained_on:
        log.warning(
            '%d episodes were used to train this bundle: their errors are smaller than those of '
            'new recordings, which will raise more false alarms than alpha; record others',
            trained_on,
        )
    bags = find_bags(data)
    template = Calibration(
        alpha=alphas[0],
        threshold=1.0,
        window=window,
        windows=1,
        policy='; '.join(recording_command(bag) for bag in bags),
        model_hash=bundle.hash,
        contract=bundle.contract.name,
        rate=1 / float(np.median(periods)),
        data=data_hashes(bags),
    )
    scales: dict[int, tuple[float, ...]] = {}
    new: list[Calibration] = []
    medians = {}
    for horizon in horizons:
        # What History keeps, including the jitter and the block before the context.
        context = (bundle.spec.history + 1 + horizon) * bundle.block
        scale, added, medians[horizon] = calibrate(
            forecasts[horizon], alphas, window, replace(template, horizon=horizon), context
        )
        scales[horizon] = tuple(scale.tolist())
        new += added
    now = Bundle.load(bundle.path).manifest  # others may have calibrated other horizons meanwhile
    for old in now.calibration:
        if old.horizon in horizons and old.alpha not in alphas:
            log.warning(
                'the threshold for alpha %g at horizon %d is gone: it was of another scale; '
                'calibrate for all that you use at once (--alpha %s)',
                old.alpha,
                old.horizon,
                ' '.join(f'{a:g}' for a in (*alphas, old.alpha)),
            )
    for entry in new:
        if entry.drift is None:
            log.warning(
                'drift is not watched at alpha %g, horizon %d: the mean of %g s begins %g s into '
                'an uninterrupted recording, so it has fewer windows; record longer',
                entry.alpha,
                entry.horizon,
                DRIFT_SPAN,
                DRIFT_SPAN,
            )
    rewrite_manifest(
        bundle.path,
        replace(
            bundle.manifest,
            surprise_scale=dict(sorted((now.surprise_scale | scales).items())),
            calibration=(*(c for c in now.calibration if c.horizon not in horizons), *new),
        ),
    )
    return _metrics(new, medians, float(np.mean(spans)) if window is None else window)


def _metrics(
    entries: list[Calibration], medians: dict[int, float], seconds: float
) -> dict[str, Any]:
    """Return what was found; ``seconds`` is the (mean) length of a window."""
    metrics: dict[str, Any] = {
        'window_seconds': seconds,
        'rate_hz': entries[0].rate,
        'horizons': [],
    }
    for horizon, median in medians.items():
        rows = [c for c in entries if c.horizon == horizon]
        metrics['horizons'].append(
            {
                'horizon': horizon,
                'windows': rows[0].windows,
                'score_median': median,
                'thresholds': {str(c.alpha): c.threshold for c in rows},
                'drift': {str(c.alpha): c.drift for c in rows},
                'false_alarms_per_hour': {str(c.alpha): c.alpha * 3600 / seconds for c in rows},
            }
        )
    return metrics
