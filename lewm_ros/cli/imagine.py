# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm imagine`: the policy that needs no search, learned in the model's imagination."""

from __future__ import annotations

import argparse

from lewm_ros.cli.inverse import add_training, train
from lewm_ros.training.imagined import Imagination


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_training(parser, Imagination)


def run(args: argparse.Namespace) -> int:
    """Train the policy, and print how near to goals it imagines itself."""
    entry = train(args, Imagination)
    print(
        f'imagined policy: goals up to {entry.blocks} blocks ahead, from {entry.frames} frames; '
        f'mean squared latent distance to goals of held-out frames, as the model imagines it: '
        f'{entry.error:.3f}, with the recorded commands {entry.recorded:.3f}, with the mean '
        f'command {entry.spread:.3f}'
    )
    return 0
