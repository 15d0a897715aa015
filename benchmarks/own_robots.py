# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Does a robot reach the precision that the verdict on its bundle predicts, joint by joint?

PYTHONPATH=benchmarks .venv/bin/python benchmarks/own_robots.py BUNDLE HELD_OUT_BAG \
    --task robots:Arm3 [--goals 40] [--far inf] [--seconds 8] [--seed 20272]

Prints the verdict, then for each command that moves one joint: whether its commands show in the
latents, the predicted precision, the median error at the end of all goals (the simulator waits),
and how many goals ended within twice that precision and within the task's tolerance.
"""

from __future__ import annotations

import argparse
from contextlib import closing
from typing import Any

import numpy as np
from verdict import row

from lewm_ros.api import planner_config
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.evaluate import evaluate
from lewm_ros.evaluation.intervals import wilson
from lewm_ros.evaluation.verdict import shows
from lewm_ros.files import find
from lewm_ros.sim import make_task


def main() -> None:
    """Judge, drive and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('bundle')
    parser.add_argument('bag')
    parser.add_argument('--task', required=True)
    parser.add_argument('--goals', type=int, default=40)
    parser.add_argument('--far', type=float)
    parser.add_argument('--seconds', type=float, default=8.0)
    parser.add_argument('--seed', type=int, default=20272)
    args = parser.parse_args()
    verdict = row(args.bundle, args.bag)['verdict']
    print('ready' if verdict.ready else 'not ready:', *verdict.problems, sep='\n  ')
    bundle = Bundle.load(find('bundle', args.bundle))
    made: Any = make_task(args.task, bundle.manifest.image_size, args.seed)
    with closing(made) as task:
        config = planner_config('live', args.seed)
        engine = load_engine(bundle, horizon=config.rollout_blocks(bundle.spec))
        measured = evaluate(
            bundle, task, engine, config, args.goals, args.seconds, args.seed, args.far
        )
        tolerance = task.tolerance
    n = args.goals
    for who in ('planner', 'random'):
        r = measured[who]
        low, high = wilson(r['within_at_end'], n)
        print(
            f'{who}: {r["successes"]}/{n} reached, {r["within_at_end"]} at the end '
            f'({low:.2f} to {high:.2f}), mean {r["seconds_mean"] or np.nan:.2f} s'
        )
    errors = np.array(measured['planner']['final_errors'])
    print('joint    shows  precision  error, median  within 2x precision  within tolerance')
    for number, d in enumerate(verdict.figures.actions):
        error = errors[:, min(number, errors.shape[1] - 1)]
        twice = '-' if d.precision is None else f'{(error < 2 * d.precision).sum()}/{n}'
        precision = np.nan if d.precision is None else d.precision
        print(
            f'{d.name:<8} {"yes" if shows(d) else "no":<5}  {precision:<9.3f}  '
            f'{np.median(error):<13.3f}  {twice:<19}  {(error < tolerance).sum()}/{n}'
        )


if __name__ == '__main__':
    main()
