# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Surprise thresholds with a chosen false-alarm rate."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.bags.episodes import read_episodes, recording_command
from lewm_ros.bags.hashes import bag_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle, Calibration, rewrite_manifest
from lewm_ros.engines import load_engine
from lewm_ros.errors import CalibrationError
from lewm_ros.evaluation.scoring import Forecast, forecast_episode
from lewm_ros.progress import progress
from lewm_ros.surprise.calibration import conformal_threshold, window_maxima, windows_needed
from lewm_ros.surprise.monitors import running_means
from lewm_ros.surprise.score import nominal_scale, score
from lewm_ros.time import NS_PER_S

#: Share of the episodes that the per-dimension scale comes from; the rest gives thresholds.
SCALE_SHARE = 0.2


def calibrate(
    forecasts: list[Forecast],
    alphas: list[float],
    window: float | None,
    template: Calibration,
) -> tuple[np.ndarray, tuple[Calibration, ...], float]:
    """Compute scale and thresholds of one horizon from the nominal episodes.

    The first episodes give the scale, the others the thresholds: a threshold holds for frames
    that had no part in the scale.

    Args:
        forecasts: of the episodes with usable frames, at least 2.
        alphas: chances of a false alarm in a window.
        window: [s]; None: episodes.
        template: what all entries have in common.

    Returns:
        The scale (D,), an entry for each alpha, and the median score. The threshold of the
        running mean is None where the runs of frames are too short for one.

    Raises CalibrationError where there are too few windows for an alpha.

    """
    for_scale = max(1, round(SCALE_SHARE * len(forecasts)))
    scale = nominal_scale(
        np.concatenate([f.predicted for f in forecasts[:for_scale]]),
        np.concatenate([f.observed for f in forecasts[:for_scale]]),
    )
    rest = forecasts[for_scale:]
    each = [score(f.predicted, f.observed, scale) for f in rest]
    stamps = np.concatenate([f.stamps for f in rest])
    scores = np.concatenate(each)
    means = np.concatenate([running_means(f.stamps, s) for f, s in zip(rest, each)])
    episodes = np.repeat(np.arange(len(rest)), [len(s) for s in each])
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


def calibrate_bundle(
    bundle: Bundle,
    data: Sequence[Path],
    alphas: Sequence[float],
    window: float | None,
    horizons: Sequence[int],
) -> dict[str, Any]:
    """Score nominal data; store scales and thresholds in the bundle's manifest.

    Thresholds of other horizons in the manifest stay.

    Args:
        bundle: its manifest is rewritten.
        data: bags of nominal running, recorded under the policy that will run.
        alphas: chances of a false alarm in a window.
        window: [s]; None: whole episodes.
        horizons: how far ahead frames are predicted [blocks].

    Returns:
        What was found, as plain data for JSON.

    Raises CalibrationError where there is too little data, or a number is out of range.

    """
    manifest = bundle.manifest
    alphas = list(dict.fromkeys(alphas))
    for alpha in alphas:
        windows_needed(alpha)  # refused before the data is read
    horizons = sorted(set(horizons))
    if horizons[0] < 1:
        raise CalibrationError(f'--horizon is {horizons[0]}: expected blocks, 1 or more')
    engine = load_engine(bundle, horizon=horizons[-1])
    forecasts: dict[int, list[Forecast]] = {h: [] for h in horizons}
    spans, periods = [], []
    source = read_episodes(data, bundle.contract, manifest.image_size)
    for episode in progress(source, desc='score', unit='episode'):
        found = forecast_episode(bundle, engine, episode, horizons)
        if not all(len(forecast.stamps) for forecast in found.values()):
            continue
        for horizon, forecast in found.items():
            forecasts[horizon].append(forecast)
        spans.append(float(episode.stamps[-1] - episode.stamps[0]) / NS_PER_S)
        periods.append(float(np.median(np.diff(episode.stamps))) / NS_PER_S)
    if len(spans) < 2:
        raise CalibrationError(
            f'{len(spans)} episode with usable frames in {[str(b) for b in data]}: '
            'calibration needs at least 2, one for the scale and one for thresholds'
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
        data=tuple(digest for bag in bags for digest in bag_hashes(bag)),
    )
    scales = {h: np.array(s) for h, s in manifest.surprise_scale.items()}
    entries = [c for c in manifest.calibration if c.horizon not in horizons]
    medians = {}
    for horizon in horizons:
        scales[horizon], added, medians[horizon] = calibrate(
            forecasts[horizon], alphas, window, replace(template, horizon=horizon)
        )
        entries += added
    rewrite_manifest(
        bundle.path,
        replace(
            manifest,
            surprise_scale={h: tuple(s.tolist()) for h, s in sorted(scales.items())},
            calibration=tuple(entries),
        ),
    )
    new = [c for c in entries if c.horizon in horizons]
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
