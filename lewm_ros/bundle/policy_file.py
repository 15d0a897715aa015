# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The goal-conditioned policies of a bundle: arrays in npz files, the rest in the manifest."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from lewm_ros.bundle.bundle import Bundle, add_file
from lewm_ros.bundle.manifest import OPTIONAL, PolicyEntry
from lewm_ros.errors import ConfigError, ModelError
from lewm_ros.planning.goal_policy import LAYERS, GoalPolicy

#: Policy of the planner → key of the manifest.
_KEYS = {'idm': 'inverse', 'imagined': 'imagined'}
_NAMES = [f'{kind}{layer}' for kind in ('weight', 'bias') for layer in range(LAYERS)]


def policy_entry(bundle: Bundle, kind: str) -> PolicyEntry:
    """Return the manifest entry of a policy; ``kind`` is that of :func:`read_policy`.

    Raises ConfigError where it has none.
    """
    key = _KEYS[kind]
    entry: PolicyEntry | None = getattr(bundle.manifest, key)
    if entry is None:
        name, _, command = OPTIONAL[key]
        raise ConfigError(
            f'bundle {bundle.path} has no {name} for the policy {kind}: run '
            f'`lewm {command} {bundle.path} --data BAG...`'
        )
    return entry


def read_policy(bundle: Bundle, kind: str) -> GoalPolicy:
    """Return the policy of a bundle that a planner's ``policy`` names, 'idm' or 'imagined'.

    Raises ConfigError if it has none, ModelError if the policy is from another model, is damaged
    or does not have the model's sizes.
    """
    entry, key, spec = policy_entry(bundle, kind), _KEYS[kind], bundle.spec
    arrays = tuple(bundle.read_arrays(key, _NAMES).values())
    sizes = 3 * spec.latent_size, entry.blocks * spec.contract.action.size
    try:
        return GoalPolicy(arrays[:LAYERS], arrays[LAYERS:], entry.blocks, *sizes)
    except ModelError as error:
        raise ModelError(f'bundle {bundle.path}: {OPTIONAL[key][0]}: {error}') from error


def write_policy(bundle: Bundle, kind: str, policy: GoalPolicy, **figures: Any) -> Bundle:
    """Add a policy to a bundle, replacing an existing one; the model stays the same.

    ``kind`` is that of :func:`read_policy`, ``figures`` are the other fields of
    :class:`lewm_ros.bundle.PolicyEntry`. Raises ModelError if the folder holds another model by
    now.
    """
    file = io.BytesIO()
    arrays: dict[str, Any] = dict(zip(_NAMES, (*policy.weights, *policy.biases)))
    np.savez(file, **arrays)
    return add_file(bundle, _KEYS[kind], file.getvalue(), blocks=policy.blocks, **figures)
