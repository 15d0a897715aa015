# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm decoder`: train a decoder that shows what the model expects."""

from __future__ import annotations

import argparse

from lewm_ros.bundle import DECODER, Bundle
from lewm_ros.cli.bags import bundle_for_bags
from lewm_ros.cli.roadmap import add_count, add_inputs
from lewm_ros.engines import load_engine
from lewm_ros.training.decoder import STEPS, train_decoder
from lewm_ros.training.device import choose_device


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_inputs(parser, 'the decoder', 'bags')
    add_count(parser, '--steps', STEPS, 'optimiser steps')
    add_device(parser)
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default 1)')


def add_device(parser: argparse.ArgumentParser) -> None:
    """Declare where to train."""
    parser.add_argument(
        '--device',
        choices=('auto', 'cpu', 'cuda'),
        default='auto',
        help='default auto: cuda where there is one',
    )


def run(args: argparse.Namespace) -> int:
    """Train the decoder, and print its error."""
    bundle = bundle_for_bags(args)
    engine = load_engine(bundle, args.engine, args.threads)
    device = choose_device(args.device)
    print(describe(train_decoder(bundle, engine, args.data, args.steps, device, args.threads)))
    return 0


def describe(bundle: Bundle) -> str:
    """Describe the accuracy of a bundle's decoder."""
    entry = bundle.manifest.decoder
    if entry is None:
        return 'no decoder'
    size = (bundle.path / DECODER).stat().st_size
    return (
        f'decoder: images of {entry.size} px from {entry.frames} frames, {size / 1e6:.1f} MB; '
        f'RMS error on held-out frames {entry.error:.1f} of 255 (of the mean image '
        f'{entry.spread:.1f})'
    )
