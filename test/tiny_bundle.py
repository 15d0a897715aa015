# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The bundle of a very small network that the tests run.

``python test/tiny_bundle.py FOLDER`` writes it for ``pytest --tiny-bundles FOLDER`` in a Python
without torch.
"""

from __future__ import annotations

from pathlib import Path
import sys

from networks import stir, tiny_config
import torch

from lewm_ros.bundle import Bundle, Manifest, write_bundle
from lewm_ros.model import LeWorldModel
from lewm_ros.robot.contract import Contract
from lewm_ros.training.export import export_files


def write_tiny_bundle(
    folder: Path, contract: Contract, history: int = 3, window: int = 3, horizon: int = 6
) -> Bundle:
    """Write the bundle of a very small network with random weights: 32 px, D 8, k 5.

    Args:
        folder: where to write the bundle.
        contract: contract of the robot.
        history: frames of context.
        window: most frames of context that the model accepts, at least ``history``.
        horizon: longest plan [blocks].

    """
    config = tiny_config(contract.action.size, history=window)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = LeWorldModel(config)
        stir(model)
    manifest = Manifest(
        name='tiny',
        architecture=config.to_dict(),
        image_size=config.image_size,
        frameskip=config.frameskip,
        history=history,
        horizon=horizon,
        latent_size=config.latent_size,
        action_mean=(0.05, -0.1, 0.0)[: contract.action.size],
        action_std=(0.5, 0.6, 0.5)[: contract.action.size],
        contract=contract,
        camera_period=0.05,
        surprise_scale={1: (0.1,) * config.latent_size},
    )
    return write_bundle(folder, manifest, export_files(model, horizon, history))


if __name__ == '__main__':
    robots = Path(__file__).parents[1] / 'config' / 'robots'
    write_tiny_bundle(Path(sys.argv[1]) / 'tiny-3-3-6', Contract.load(robots / 'reacher.yaml'))
