# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""One of several processes that train a very small network, as torchrun starts them.

Argument: a folder with the bag `a` and its cache. Process n writes `found_n.pt` there.
"""

from __future__ import annotations

from pathlib import Path
import sys
from typing import Any

from networks import stir, tiny_config
import torch

from lewm_ros.files import find
from lewm_ros.model import ARCHITECTURES
from lewm_ros.robot.contract import Contract
from lewm_ros.training import trainer as training
from lewm_ros.training.config import PLDMWeights, TrainConfig
from lewm_ros.training.distributed import begin, end, rank
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import load_windows

#: Steps with each objective.
STEPS = {'lewm': 20, 'pldm': 10}
RANDOM = {'dropout': 0.5, 'jitter': 1.0}  #: with dropout and colour jitter
EPS = 1e-3  #: of Adam
STOP = 4  #: step at which runs are stopped


def make_trainer(
    folder: Path, objective: str, dropout: float = 0.0, jitter: float = 0.0
) -> Trainer:
    """Return a float32 trainer of a very small network on a very small bag."""
    changes = {'encoder_width': 8, 'predictor_depth': 1, 'frameskip': 2, 'dropout': dropout}
    ARCHITECTURES['small'] = lambda action_size: tiny_config(action_size, **changes)
    training.has_bfloat16 = lambda device: False
    training.LOG_EVERY = 1
    config = TrainConfig(
        batch=16,
        steps=STEPS[objective],
        lr=5e-4,
        num_projections=32,
        held_out=0.3,
        colour_jitter=jitter,
        objective=objective,
        pldm=PLDMWeights(covariance_in_time=0.1, inverse_dynamics=1),
    )
    contract = Contract.load(find('contract', 'reacher'))
    windows = load_windows([folder / 'a'], contract, 32, 3, 2, folder / 'cache')
    trainer = Trainer(windows, contract, 'small', config, 'cpu', seed=0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        stir(trainer.model)
    # Adam divides by the size of the gradient. Where the gradient is zero up to rounding, as for a
    # bias before a BatchNorm, the steps would come from rounding errors alone.
    trainer.optimiser.param_groups[0]['eps'] = EPS
    return trainer


def state(trainer: Trainer) -> dict[str, torch.Tensor]:
    """Return a copy of the learned parameters and of BatchNorm's statistics."""
    parts = {'model': trainer.model, 'objective': trainer.objective}
    return {
        f'{name}.{key}': value.clone()
        for name, part in parts.items()
        for key, value in part.state_dict().items()
    }


def results(folder: Path, objective: str) -> dict[str, Any]:
    """Train to the end; return metrics, state and validation metrics."""
    trainer = make_trainer(folder, objective)
    rows = [{**row, 'seconds': 0} for row in trainer.run(trainer.config.steps)]
    return {'rows': rows, 'state': state(trainer), 'validation': trainer.validate()}


def main() -> None:
    """Train with each objective; then with randomness, in one go and resumed; then stop a run."""
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    begin('cpu', 16)
    found: dict[str, Any] = {name: results(folder, name) for name in STEPS}
    whole = make_trainer(folder, 'lewm', **RANDOM)
    list(whole.run(STOP))
    whole.save(folder / 'checkpoint.pt')
    list(whole.run(2 * STOP))
    resumed = make_trainer(folder, 'lewm', **RANDOM)
    torch.manual_seed(99)  # any other random state
    resumed.load(folder / 'checkpoint.pt')
    list(resumed.run(2 * STOP))
    found['whole'], found['resumed'] = state(whole), state(resumed)
    stopped = make_trainer(folder, 'lewm')
    for row in stopped.run(2 * STOP):
        stopped.stopping = rank() == 1 and row['step'] == STOP
    found['stopped'] = stopped.step
    torch.save(found, folder / f'found_{rank()}.pt')
    end()


if __name__ == '__main__':
    main()
