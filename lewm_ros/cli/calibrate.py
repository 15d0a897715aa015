# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm calibrate`: compute surprise thresholds from nominal bags."""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

from lewm_ros.cli.bags import add_bags, add_contract, bundle_for_bags
from lewm_ros.evaluation.calibrate import calibrate_bundle, seconds_needed
from lewm_ros.surprise.config import SurpriseConfig

ALPHAS = [0.05, 0.01]
WINDOW = 10.0  #: [s]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    needed = ', '.join(
        f'{math.ceil(seconds_needed(alpha, WINDOW) / 60)} min for {alpha}' for alpha in ALPHAS
    )
    parser.add_argument('bundle', help='bundle folder or name; its manifest is rewritten')
    add_bags(parser, 'bags of nominal running, recorded under the policy that will run')
    add_contract(parser)
    parser.add_argument(
        '--alpha',
        type=float,
        nargs='+',
        default=ALPHAS,
        help=f'chance of a false alarm in a window (default {" ".join(map(str, ALPHAS))}); with '
        f'windows of {WINDOW:g} s, one uninterrupted recording must last at least {needed}',
    )
    parser.add_argument(
        '--window',
        type=_window,
        default=WINDOW,
        metavar='SECONDS',
        help=f"[s], or 'episode' for whole episodes (default {WINDOW:g})",
    )
    parser.add_argument(
        '--horizon',
        type=int,
        nargs='+',
        default=[SurpriseConfig.horizon],
        help='how far ahead frames are predicted [blocks] '
        f'(default {SurpriseConfig.horizon}); thresholds of other '
        'horizons in the manifest stay, those of these are replaced',
    )
    parser.add_argument('--json', action='store_true', help='metrics as JSON on standard output')


def _window(text: str) -> float | None:
    return None if text == 'episode' else float(text)


_window.__name__ = 'duration'  # what argparse calls it


def run(args: argparse.Namespace) -> int:
    """Calibrate, and print the thresholds."""
    bundle = bundle_for_bags(args)
    metrics = calibrate_bundle(bundle, args.data, args.alpha, args.window, args.horizon)
    print(json.dumps(metrics) if args.json else _text(metrics, args.window))
    return 0


def _text(metrics: dict[str, Any], window: float | None) -> str:
    seconds = metrics['window_seconds']
    unit = f'one episode (~{seconds:.0f} s)' if window is None else f'{seconds:g} s'
    lines = []
    for row in metrics['horizons']:
        lines.append(
            f'horizon {row["horizon"]}: {row["windows"]} nominal windows of {unit}, median score '
            f'{row["score_median"]:.2f}'
        )
        for alpha, threshold in row['thresholds'].items():
            drift = row['drift'][alpha]
            mean = 'insufficient data' if drift is None else f'{drift:.2f}'
            lines.append(
                f'  alpha {alpha}: threshold {threshold:.2f}, at most '
                f'{row["false_alarms_per_hour"][alpha]:.1f} false alarms per hour; drift '
                f'threshold: {mean}'
            )
    return '\n'.join(lines)
