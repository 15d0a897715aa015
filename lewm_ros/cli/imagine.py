# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm imagine`: a goal-conditioned policy without search, trained in the model's imagination."""

from __future__ import annotations

import argparse

from lewm_ros.cli.inverse import add_training, train
from lewm_ros.training.imagined import Imagination


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_training(parser, Imagination)


def run(args: argparse.Namespace) -> int:
    """Train the policy, and print how near to its goals the model predicts it to come."""
    entry = train(args, Imagination)
    print(
        f'imagined policy: goals up to {entry.blocks} blocks ahead, from {entry.frames} frames; '
        f'predicted mean squared latent distance to held-out goals {entry.error:.3f}, with the '
        f'recorded commands {entry.recorded:.3f}, with the mean command {entry.spread:.3f}'
    )
    return 0
