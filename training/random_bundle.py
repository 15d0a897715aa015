# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A bundle with random weights, for timing that does not depend on them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from lewm_ros.bundle import FILES, WEIGHTS, Bundle, Manifest, write_bundle
from lewm_ros.files import find
from lewm_ros.model import ARCHITECTURES, LeWorldModel
from lewm_ros.robot.contract import Contract
from lewm_ros.training.export import export_files, export_weights

HORIZON = 6  #: of the rollout graph: a committed block and the published 5 [blocks]


def random_bundle(folder: Path, model: str = 'paper', graphs: bool = True) -> Bundle:
    """Write a bundle with random weights, by default of the published size.

    Args:
        folder: of the bundle.
        model: name of an architecture in ``lewm_ros.model.ARCHITECTURES``.
        graphs: export the ONNX graphs, which takes a minute; without them only the torch
            engines can run the bundle.

    Returns:
        The bundle: commands at 10 Hz, blocks of 5 × 2 actions.

    """
    contract = Contract.load(find('contract', 'reacher'))
    contract = replace(contract, rates=replace(contract.rates, control=10.0))
    size = contract.action.size
    config = ARCHITECTURES[model](size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = LeWorldModel(config)
        randomise(network)
    manifest = Manifest(
        name=f'random weights, {model}',
        architecture=config.to_dict(),
        image_size=config.image_size,
        frameskip=config.frameskip,
        history=config.history,
        horizon=HORIZON,
        latent_size=config.latent_size,
        action_mean=(0.0,) * size,
        action_std=(0.5,) * size,
        contract=contract,
        camera_period=contract.period,
    )
    if graphs:
        return write_bundle(folder, manifest, export_files(network, HORIZON))
    files = {**dict.fromkeys(FILES, b''), WEIGHTS: export_weights(network)}
    return write_bundle(folder, manifest, files)


@torch.no_grad()
def randomise(model: torch.nn.Module) -> None:
    """Add noise to parameters that are zero or one in a new model.

    They would hide errors or be optimised away: AdaLN is initialised to zero, so every block is the
    identity, and actions have no effect.
    """
    for parameter in model.parameters():
        if parameter.ndim == 1 or not parameter.any():
            parameter.add_(0.1 * torch.randn_like(parameter))
    for name, buffer in model.named_buffers():
        if name.endswith('running_mean'):
            buffer.normal_(std=0.1)
        elif name.endswith('running_var'):
            buffer.uniform_(0.5, 2.0)
