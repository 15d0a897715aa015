# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm inverse`: the policy that needs no search, learned from what bags show."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from lewm_ros.bundle import Bundle
from lewm_ros.cli.roadmap import add_inputs
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.roadmap import encode_bags
from lewm_ros.files import find
from lewm_ros.training.inverse import STEPS, train_inverse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_training(parser, 'the inverse model', STEPS)


def add_training(parser: argparse.ArgumentParser, what: str, steps: int) -> None:
    """Declare the command line of a command that trains a policy."""
    add_inputs(parser, what, 'bags of movements')
    parser.add_argument(
        '--steps', type=int, default=steps, help=f'optimiser steps (default {steps})'
    )
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default 1)')


def run(args: argparse.Namespace) -> int:
    """Train the inverse model, and print its error."""
    print(describe(train(args, train_inverse)))
    return 0


def train(args: argparse.Namespace, training: Callable[..., Bundle]) -> Bundle:
    """Encode the bags and train a policy on them."""
    bundle = Bundle.load(find('bundle', args.bundle))
    encoded = encode_bags(bundle, load_engine(bundle, args.engine, args.threads), args.data)
    return training(bundle, encoded, args.data, args.steps, args.threads)


def describe(bundle: Bundle) -> str:
    """Say how good the inverse model of a bundle is."""
    entry = bundle.manifest.inverse
    if entry is None:
        return 'no inverse model'
    return (
        f'inverse model: goals up to {entry.blocks} blocks ahead, from {entry.frames} frames; it '
        f'explains {1 - entry.error / entry.spread:.0%} of the commands of held-out frames'
    )
