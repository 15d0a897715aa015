# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm calibrate BUNDLE`: surprise thresholds with a chosen false-alarm rate."""

from __future__ import annotations

import argparse
from dataclasses import replace
import json
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.bags.episodes import read_episodes, recording_command
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle, Calibration, rewrite_manifest
from lewm_ros.engines import load_engine
from lewm_ros.errors import CalibrationError
from lewm_ros.evaluation.scoring import Forecast, forecast_episode
from lewm_ros.files import find
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


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('bundle', help='bundle folder or name; its manifest is rewritten')
    parser.add_argument(
        '--data',
        nargs='+',
        type=Path,
        required=True,
        help='bags of nominal running, recorded under the policy that will run',
    )
    parser.add_argument(
        '--alpha',
        type=_numbers,
        nargs='+',
        default=[[0.05, 0.01]],
        help='chance of a false alarm in a window (default 0.05,0.01)',
    )
    parser.add_argument(
        '--window',
        type=_window,
        default=10.0,
        metavar='SECONDS',
        help="[s], or 'episode' for whole episodes (default 10)",
    )
    parser.add_argument(
        '--horizon',
        type=int,
        nargs='+',
        default=[1],
        help='how far ahead frames are predicted [blocks] (default 1); thresholds of other '
        'horizons in the manifest stay',
    )
    parser.add_argument('--json', action='store_true', help='figures as JSON on standard output')


def _numbers(text: str) -> list[float]:
    return [float(part) for part in text.split(',') if part]


def _window(text: str) -> float | None:
    return None if text == 'episode' else float(text)


_numbers.__name__, _window.__name__ = 'number', 'duration'  # what argparse calls them


def run(args: argparse.Namespace) -> int:
    """Score nominal data and store scales and thresholds in the manifest."""
    bundle = Bundle.load(find('bundle', args.bundle))
    manifest = bundle.manifest
    alphas = list(dict.fromkeys(alpha for group in args.alpha for alpha in group))
    for alpha in alphas:
        windows_needed(alpha)  # refused before the data is read
    horizons = sorted(set(args.horizon))
    if horizons[0] < 1:
        raise CalibrationError(f'--horizon is {horizons[0]}: expected blocks, 1 or more')
    engine = load_engine(bundle, horizon=horizons[-1])
    forecasts: dict[int, list[Forecast]] = {h: [] for h in horizons}
    spans, periods = [], []
    source = read_episodes(args.data, bundle.contract, manifest.image_size)
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
            f'{len(spans)} episode with usable frames in {[str(b) for b in args.data]}: '
            'calibration needs at least 2, one for the scale and one for thresholds'
        )
    template = Calibration(
        alpha=alphas[0],
        threshold=1.0,
        window=args.window,
        windows=1,
        policy='; '.join(recording_command(bag) for bag in find_bags(args.data)),
        model_hash=bundle.hash,
        contract=bundle.contract.name,
        rate=1 / float(np.median(periods)),
    )
    scales = {h: np.array(s) for h, s in manifest.surprise_scale.items()}
    entries = [c for c in manifest.calibration if c.horizon not in horizons]
    medians = {}
    for horizon in horizons:
        scales[horizon], added, medians[horizon] = calibrate(
            forecasts[horizon], alphas, args.window, replace(template, horizon=horizon)
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
    seconds = float(np.mean(spans)) if args.window is None else args.window
    _report(new, medians, seconds, args.json)
    return 0


def _report(
    entries: list[Calibration], medians: dict[int, float], seconds: float, as_json: bool
) -> None:
    """Print what was found; ``seconds`` is the (mean) length of a window."""
    figures: dict[str, Any] = {
        'window_seconds': seconds,
        'rate_hz': entries[0].rate,
        'horizons': [],
    }
    for horizon, median in medians.items():
        rows = [c for c in entries if c.horizon == horizon]
        figures['horizons'].append(
            {
                'horizon': horizon,
                'windows': rows[0].windows,
                'score_median': median,
                'thresholds': {str(c.alpha): c.threshold for c in rows},
                'drift': {str(c.alpha): c.drift for c in rows},
                'false_alarms_per_hour': {str(c.alpha): c.alpha * 3600 / seconds for c in rows},
            }
        )
    if as_json:
        print(json.dumps(figures))
        return
    unit = f'{seconds:g} s' if entries[0].window is not None else f'one episode (~{seconds:.0f} s)'
    for row in figures['horizons']:
        print(
            f'horizon {row["horizon"]}: {row["windows"]} nominal windows of {unit}, median score '
            f'{row["score_median"]:.2f}'
        )
        for alpha, threshold in row['thresholds'].items():
            drift = row['drift'][alpha]
            mean = 'too little data for one' if drift is None else f'{drift:.2f}'
            print(
                f'  alpha {alpha}: threshold {threshold:.2f}, at most '
                f'{row["false_alarms_per_hour"][alpha]:.1f} false alarms an hour; threshold of '
                f'the running mean: {mean}'
            )
