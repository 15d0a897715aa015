# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A published LeWM checkpoint as a bundle."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import hashlib
import json
import logging
import math
from pathlib import Path
import sys
from typing import Any

from lewm_ros.bundle import Bundle, Manifest, name_of, refuse_other, write_bundle
from lewm_ros.errors import ConfigError, ModelError, one_line
from lewm_ros.files import find, read_limited
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.yaml_reader import LIMIT, read_yaml
from lewm_ros.training.export import export_files
from lewm_ros.training.official import (
    load_model,
    model_config,
    parse_config,
    read_tensors,
    spelling,
)
from lewm_ros.training.trainer import HORIZON

#: Control ticks in an action block, as published; config.json gives only the block length k·A.
FRAMESKIP = 5
WEIGHTS_LIMIT = 1 << 33  #: largest checkpoint that is read [bytes]
log = logging.getLogger('lewm')


def placeholder_contract(size: int) -> Contract:
    """Return a contract of no robot in particular, with A = ``size`` action dimensions."""
    return Contract.parse(
        {
            'name': 'placeholder',
            'camera': {'topic': 'camera/image'},
            'action': {
                'topic': 'action',
                'type': 'std_msgs/msg/Float64MultiArray',
                'fields': [f'data[{i}]' for i in range(size)],
                'names': [f'action_{i}' for i in range(size)],
                'units': ['unknown'] * size,
                'kind': 'velocity',
                'low': [-1.0] * size,
                'high': [1.0] * size,
            },
            'rates': {'control': 10.0},
        }
    )


def choose_contract(block: int, name: str | None) -> tuple[Contract, int]:
    """Return the contract, or a placeholder for None, and the frameskip k that fits it.

    Args:
        block: k·A, length of the checkpoint's action block.
        name: file or name of a contract.

    Raises ConfigError where the block is not a whole number of actions.

    """
    if name is None:
        if block % FRAMESKIP:
            raise ConfigError(
                f'action_encoder.input_dim is {block}, not a multiple of the published '
                f'{FRAMESKIP} ticks in a block: name the robot with --contract, whose number of '
                'actions then decides'
            )
        return placeholder_contract(block // FRAMESKIP), FRAMESKIP
    path = find('contract', name)
    contract = Contract.load(path)
    frameskip, rest = divmod(block, contract.action.size)
    if rest or not frameskip:
        raise ConfigError(
            f'contract {path} has {contract.action.size} action dimensions, action_encoder.'
            f'input_dim is {block}: expected a multiple; this checkpoint is of another robot'
        )
    return contract, frameskip


def read_action_stats(path: Path, names: tuple[str, ...]) -> tuple[list[float], list[float]]:
    """Read mean and standard deviation of the action, each (A,), in contract units.

    Raises ModelError naming the file, the key and what would be right.
    """
    try:
        found = read_yaml(path)  # JSON is YAML
    except ConfigError as error:
        raise ModelError(f'{path}: {error}') from error
    if not isinstance(found, dict):
        raise ModelError(f"{path}: holds {type(found).__name__}: expected 'mean' and 'std'")
    for key in ('mean', 'std'):
        values = found.get(key)
        if not isinstance(values, list) or len(values) != len(names):
            count = f'{len(values)} entries' if isinstance(values, list) else repr(values)
            raise ModelError(f'{path}: {key} is {count}: expected one for each of {list(names)}')
        for name, value in zip(names, values):
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            if not number or not abs(value) < math.inf or (key == 'std' and value <= 0):
                above = ' above 0' if key == 'std' else ''
                raise ModelError(
                    f'{path}: {key} of {name} is {value!r}: expected a finite number{above}'
                )
    return found['mean'], found['std']


def import_official(
    weights: Path,
    config_file: Path,
    out: Path,
    contract_name: str | None = None,
    action_stats: Path | None = None,
    history: int | None = None,
) -> Bundle:
    """Write a published checkpoint as a bundle.

    Args:
        weights: weights.pt, a state dictionary of tensors.
        config_file: the config.json that comes with it.
        out: folder of the bundle.
        contract_name: contract file or name; None: a placeholder.
        action_stats: mean and standard deviation of the actions, as of
            :func:`read_action_stats`; None: 0 and 1.
        history: frames of context to plan from; None: all that the checkpoint attends to.

    Raises LewmError naming the file and what is wrong with it.

    """
    refuse_other(out)
    weights_bytes = read_limited(weights, WEIGHTS_LIMIT)
    config_bytes = read_limited(config_file, LIMIT)
    with _naming(config_file):
        values = parse_config(_parse_json(config_bytes))
    with _naming(weights):
        tensors = read_tensors(weights_bytes)
    contract, frameskip = choose_contract(values['action_encoder.input_dim'], contract_name)
    with _naming(config_file):
        config = model_config(values, tensors, frameskip)
    history = config.history if history is None else history
    if not 1 <= history <= config.history:
        raise ModelError(
            f'--history is {history}: expected 1 to {config.history}, num_frames of the config'
        )
    mean, std = [0.0] * config.action_size, [1.0] * config.action_size
    if action_stats is not None:
        mean, std = read_action_stats(action_stats, contract.action.names)
    with _naming(weights):
        model = load_model(config, tensors)
    if contract_name is None:
        log.info(
            'note: no --contract, so a placeholder is written: actions %s within -1 and 1 on '
            'topic action at 10 Hz, %d ticks in a block, images on camera/image; a robot needs '
            'its own contract: import again with --contract',
            ', '.join(contract.action.names),
            frameskip,
        )
    if action_stats is None:
        log.info(
            'note: no --action-stats, so mean 0 and std 1 are written: the model takes actions '
            'as if contract units were standard deviations of its training data'
        )
    manifest = Manifest(
        name=name_of(out),
        architecture=config.to_dict(),
        image_size=config.image_size,
        frameskip=frameskip,
        history=history,
        horizon=HORIZON,
        latent_size=config.latent_size,
        action_mean=tuple(mean),
        action_std=tuple(std),
        contract=contract,
        camera_period=contract.period,  # the published data have a frame for every action
        provenance={
            'command': ' '.join(['lewm', *sys.argv[1:]]),
            'weights': weights.name,
            'weights_sha256': hashlib.sha256(weights_bytes).hexdigest(),
            'config': config_file.name,
            'config_sha256': hashlib.sha256(config_bytes).hexdigest(),
            'spelling': f'transformers {spelling(tensors)}',
            'tensors': len(tensors),
            'parameters': sum(p.numel() for p in model.parameters()),
            'contract': contract_name or 'placeholder',
            'action_stats': action_stats.name if action_stats else 'none',
        },
    )
    log.info('exporting the graphs')
    return write_bundle(out, manifest, export_files(model, HORIZON, history))


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Prefix errors with the file's name."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f'{path}: {error}') from error


def _parse_json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise ModelError(f'is not JSON ({one_line(error)})') from error
