# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm tune`: the SIGReg weight for some bags, by short trainings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import redirect_stdout
import csv
from dataclasses import replace
import json
import math
import os
from pathlib import Path
import shlex
import sys
from typing import Any

from lewm_ros.cli.bags import add_bags
from lewm_ros.evaluation.report import prepare_report
from lewm_ros.files import atomic_write, find
from lewm_ros.robot.contract import Contract
from lewm_ros.training.config import CONFIGS
from lewm_ros.training.tune import Trial, choose, run_folder, tune

#: Steps of a short training, share of the model's.
SHORT = 0.1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Find the weight of SIGReg in the loss, the only one that LeWM has, by at most 4 short '
        'trainings, compared by the share of held-out images that their predictions explain.'
    )
    add_bags(parser, 'one bag or more')
    parser.add_argument('--contract', required=True, help='contract file or name')
    parser.add_argument(
        '--model', choices=sorted(CONFIGS), default='small', help='architecture (default small)'
    )
    parser.add_argument(
        '--steps', type=int, help="of each training (default: a tenth of the model's)"
    )
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('runs/tune'),
        help='folder of tune.csv, tune.png and the training runs; unfinished runs are resumed '
        '(default runs/tune)',
    )
    threads = len(os.sched_getaffinity(0))
    parser.add_argument(
        '--threads', type=int, default=threads, help=f'CPU threads (default {threads})'
    )
    parser.add_argument(
        '--seed', type=int, default=0, help='of weights, batches and projections (default 0)'
    )
    parser.add_argument('--json', action='store_true', help='metrics as JSON on standard output')


def run(args: argparse.Namespace) -> int:
    """Train with a few weights; print and draw how they compare, and how to train in full."""
    config = CONFIGS[args.model]
    steps = max(1, round(SHORT * config.steps)) if args.steps is None else args.steps
    config = replace(config, steps=steps)
    contract = Contract.load(find('contract', args.contract))
    prepare_report(args.out)
    with redirect_stdout(sys.stderr):  # what the trainings say
        trials = tune(args.data, contract, args.model, config, args.out, args.threads, args.seed)
    best = choose(trials, config.sigreg_weight)
    rows = [_row(args.out, trial) for trial in sorted(trials, key=lambda t: t.sigreg_weight)]
    with atomic_write(args.out / 'tune.csv') as partial, partial.open('w', newline='') as file:
        table = csv.DictWriter(file, list(rows[0]), lineterminator='\n')
        table.writeheader()
        table.writerows(rows)
    with atomic_write(args.out / 'tune.png') as partial:
        _draw(partial, trials, best)
    command = shlex.join(
        [
            *('lewm', 'train', '--data', *map(str, args.data), '--contract', args.contract),
            *('--model', args.model, '--sigreg-weight', f'{best.sigreg_weight:g}'),
            *('--seed', str(args.seed), '--out', f'models/{contract.name}'),
        ]
    )
    if args.json:
        found = {'sigreg_weight': best.sigreg_weight, 'command': command, 'trials': rows}
        print(json.dumps(found))
        return 0
    print('SIGReg weight  image explained  predicted / copied  effective rank')
    for row in rows:
        mark = '*' if row['sigreg_weight'] == best.sigreg_weight else ''
        text = f'{row["sigreg_weight"]:>12g}{mark:1}  '
        if row['explained'] is None:
            print(text + 'training failed')
            continue
        print(
            f'{text}{row["explained"]:>7.3f} ± {row["error"]:.3f}  '
            f'{row["predicted_over_copied"]:>18.2f}  {row["effective_rank"]:>14.1f}'
        )
    print(f'* of those within noise of the best, nearest to {config.sigreg_weight:g}')
    print(f'wrote {args.out / "tune.csv"}, {args.out / "tune.png"}')
    print(f'train in full:\n  {command}')
    return 0


def _row(folder: Path, trial: Trial) -> dict[str, Any]:
    """Figures of a trial; none but the weight where training failed."""
    row: dict[str, Any] = dict.fromkeys(
        ('sigreg_weight', 'explained', 'error', 'predicted_over_copied', 'effective_rank')
    )
    row['sigreg_weight'] = trial.sigreg_weight
    if math.isfinite(trial.explained):
        last = run_folder(folder, trial.sigreg_weight).last()
        row['explained'], row['error'] = trial.explained, trial.error
        row['predicted_over_copied'] = last['validation_prediction'] / last['validation_copy_last']
        row['effective_rank'] = last['validation_effective_rank']
    return row


def _draw(target: Path, trials: Sequence[Trial], best: Trial) -> None:
    """Draw the share explained over the weight as a PNG."""
    from matplotlib.figure import Figure

    there = sorted(
        (trial for trial in trials if math.isfinite(trial.explained)), key=lambda t: t.sigreg_weight
    )
    weights = [trial.sigreg_weight for trial in there]
    figure = Figure(figsize=(6, 3.6), layout='constrained')
    axes = figure.subplots()
    axes.errorbar(
        weights, [t.explained for t in there], [t.error for t in there], fmt='C0o-', capsize=3
    )
    axes.plot(best.sigreg_weight, best.explained, 'C1o', markersize=10, label='chosen')
    axes.set(
        xscale='log',
        xlabel='SIGReg weight',
        ylabel='share of the image explained',
        title='held-out episodes',
    )
    axes.set_xticks(weights, [f'{weight:g}' for weight in weights])
    axes.set_xticks([], minor=True)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    figure.savefig(target, dpi=120, format='png')
