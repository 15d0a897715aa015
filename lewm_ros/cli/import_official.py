# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm import-official`: a published LeWM checkpoint as a bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from lewm_ros.training.import_official import import_official


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('weights', type=Path, help='weights.pt: a state dictionary of tensors')
    parser.add_argument('config', type=Path, help='the config.json that comes with it')
    parser.add_argument('--out', type=Path, required=True, help='bundle folder to write')
    parser.add_argument(
        '--contract',
        help='contract file or name of the robot; without it a placeholder is written (actions '
        'action_0 and so on within -1 and 1 on topic action at 10 Hz, 5 ticks in a block, images '
        'on camera/image), enough to measure a model but not to run a robot',
    )
    parser.add_argument(
        '--action-stats',
        type=Path,
        help="YAML or JSON with 'mean' and 'std' of the actions in the training data, one number "
        'for each dimension in contract units (default: 0 and 1)',
    )
    parser.add_argument(
        '--history',
        type=int,
        help='frames of context to plan from, 1 to num_frames of the config (default: num_frames; '
        'the published evaluation plans from 1)',
    )


def run(args: argparse.Namespace) -> int:
    """Import, and print what was made."""
    bundle = import_official(
        args.weights, args.config, args.out, args.contract, args.action_stats, args.history
    )
    manifest, made = bundle.manifest, bundle.manifest.provenance
    print(
        f'wrote {bundle.path}\n'
        f'{made["parameters"]:,} parameters in {made["tensors"]} tensors, named as in '
        f'{made["spelling"]}\n'
        f'plans from {manifest.history} of at most {manifest.window} frames, up to '
        f'{manifest.horizon} blocks of {manifest.frameskip} ticks\n'
        f'hash {bundle.hash}'
    )
    return 0
