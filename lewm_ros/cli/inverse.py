# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm inverse`: the policy that needs no search."""

from __future__ import annotations

import argparse

from lewm_ros.bundle import Bundle
from lewm_ros.cli.roadmap import add_inputs
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.roadmap import encode_bags
from lewm_ros.files import find
from lewm_ros.training.inverse import STEPS, train_inverse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_inputs(parser, 'the inverse model', 'bags of movements')
    parser.add_argument(
        '--steps', type=int, default=STEPS, help=f'optimiser steps (default {STEPS})'
    )
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default 1)')


def run(args: argparse.Namespace) -> int:
    """Train the inverse model, and print its error."""
    bundle = Bundle.load(find('bundle', args.bundle))
    engine = load_engine(bundle, args.engine, args.threads)
    bundle = train_inverse(bundle, encode_bags(bundle, engine, args.data), args.data, args.steps)
    print(describe(bundle))
    return 0


def describe(bundle: Bundle) -> str:
    """Say how good the inverse model of a bundle is."""
    entry = bundle.manifest.inverse
    if entry is None:
        return 'no inverse model'
    return (
        f'inverse model: goals up to {entry.blocks} blocks ahead, from {entry.frames} frames; it '
        f'explains {1 - entry.error / entry.spread:.0%} of the commands of held-out frames'
    )
