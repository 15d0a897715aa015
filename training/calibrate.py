# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm calibrate BUNDLE`: surprise thresholds with a chosen false-alarm rate."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
import json
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lewm_ros.bundle import Bundle, Calibration, rewrite_manifest
from lewm_ros.engines import Engine, load_engine
from lewm_ros.errors import CalibrationError
from lewm_ros.history import History
from lewm_ros.share import find
from lewm_ros.surprise import conformal_threshold, score, window_maxima
from lewm_ros.surprise.score import predict
from lewm_training.bags import Episode, read_episodes, recording_command

#: Share of the episodes that the per-dimension scale comes from; the rest gives thresholds.
SCALE_SHARE = 0.2


def residuals(
    bundle: Bundle, engine: Engine, episode: Episode
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """Predict every frame of an episode from one block back, as the surprise node does.

    Yields stamp [ns], predicted (D,) and observed (D,); frames without a whole window are left
    out.
    """
    manifest = bundle.manifest
    history = History(
        manifest.history,
        manifest.frameskip,
        bundle.block,
        manifest.camera_period,
        bundle.contract.action.size,
        ahead=bundle.block,
    )
    done = 0
    for stamp, image in zip(episode.stamps.tolist(), episode.images):
        while done < len(episode.actions) and episode.action_stamps[done] <= stamp:
            history.append_action(int(episode.action_stamps[done]), episode.actions[done])
            done += 1
        latent = engine.encode(image)
        history.append_latent(stamp, latent)
        transition = history.transition(stamp)
        if transition is not None:
            yield stamp, predict(bundle, engine, *transition), latent


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
        type=float,
        nargs='+',
        default=[0.05, 0.01],
        help='chance of a false alarm in a window (default 0.05 0.01)',
    )
    parser.add_argument('--window', type=float, default=10.0, help='[s] (default 10)')
    parser.add_argument('--json', action='store_true', help='figures as JSON on standard output')


def run(args: argparse.Namespace) -> int:
    """Score nominal data and store scale and thresholds in the manifest."""
    bundle = Bundle.load(find('bundle', args.bundle))
    manifest = bundle.manifest
    engine = load_engine(bundle, horizon=1)
    stamps, predicted, observed, episodes = [], [], [], []
    source = read_episodes(args.data, bundle.contract, manifest.image_size)
    for number, episode in enumerate(tqdm(source, desc='score', unit='episode')):
        for stamp, forecast, latent in residuals(bundle, engine, episode):
            stamps.append(stamp)
            predicted.append(forecast)
            observed.append(latent)
            episodes.append(number)
    count = len(set(episodes))
    if count < 2:
        raise CalibrationError(
            f'{count} episode with usable frames in {[str(b) for b in args.data]}: calibration '
            'needs at least 2, one for the scale and one for thresholds'
        )
    source_of, p, z = np.array(episodes), np.array(predicted), np.array(observed)
    first = np.unique(source_of)[: max(1, round(SCALE_SHARE * count))]
    for_scale = np.isin(source_of, first)
    scale = np.square(p[for_scale] - z[for_scale]).mean(axis=0)
    scores = score(p[~for_scale], z[~for_scale], scale)
    maxima = window_maxima(np.array(stamps)[~for_scale], scores, args.window, source_of[~for_scale])
    policy = '; '.join(recording_command(bag) for bag in args.data)
    calibration = tuple(
        Calibration(
            alpha, conformal_threshold(maxima, alpha), args.window, len(maxima), policy, bundle.hash
        )
        for alpha in args.alpha
    )
    rewrite_manifest(
        bundle.path,
        replace(manifest, surprise_scale=tuple(scale.tolist()), calibration=calibration),
    )
    figures = {
        'windows': len(maxima),
        'score_median': float(np.median(scores)),
        'thresholds': {str(c.alpha): c.threshold for c in calibration},
        'false_alarms_per_hour': {str(c.alpha): c.alpha * 3600 / c.window for c in calibration},
    }
    if args.json:
        print(json.dumps(figures))
        return 0
    print(
        f'{len(maxima)} nominal windows of {args.window:g} s, median score '
        f'{figures["score_median"]:.2f}'
    )
    for c in calibration:
        print(
            f'alpha {c.alpha:g}: threshold {c.threshold:.2f}, at most '
            f'{c.alpha * 3600 / c.window:.1f} false alarms an hour'
        )
    return 0
