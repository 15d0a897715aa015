# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm inverse`: a goal-conditioned policy without search, trained on recorded commands."""

from __future__ import annotations

import argparse

from lewm_ros.bundle import PolicyEntry
from lewm_ros.bundle.manifest import MAX_BLOCKS
from lewm_ros.bundle.policy_file import policy_entry
from lewm_ros.cli.bags import bundle_for_bags
from lewm_ros.cli.roadmap import add_count, add_inputs
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.bags import encode_bags
from lewm_ros.training.goal_policy import BLOCKS, Learner, train_policy
from lewm_ros.training.inverse import InverseModel


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_training(parser, InverseModel)
    text = 'goals up to this many blocks ahead; more helps where the recordings are demonstrations'
    add_count(parser, '--blocks', BLOCKS, text, MAX_BLOCKS)


def add_training(parser: argparse.ArgumentParser, learner: type[Learner]) -> None:
    """Declare the command line of a command that trains a policy."""
    add_inputs(parser, f'the {learner.name}', 'bags of movements')
    add_count(parser, '--steps', learner.steps, 'optimiser steps')
    parser.add_argument('--threads', type=int, default=1, help='CPU threads (default 1)')


def run(args: argparse.Namespace) -> int:
    """Train the inverse model, and print its error."""
    entry = train(args, InverseModel, args.blocks)
    print(
        f'inverse model: goals up to {entry.blocks} blocks ahead, from {entry.frames} frames; it '
        f'explains {1 - entry.error / entry.spread:.0%} of the commands of held-out frames'
    )
    return 0


def train(args: argparse.Namespace, learner: type[Learner], blocks: int = BLOCKS) -> PolicyEntry:
    """Encode the bags, train a policy on them, and return its entry in the bundle."""
    bundle = bundle_for_bags(args)
    encoded = encode_bags(bundle, load_engine(bundle, args.engine, args.threads), args.data)
    bundle = train_policy(learner, bundle, encoded, args.data, args.steps, blocks, args.threads)
    return policy_entry(bundle, learner.kind)
