# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Figures of `lewm evaluate --data` of many bundles as one table, to choose thresholds by.

.venv/bin/python benchmarks/verdict.py PAIRS.txt [--json FILE]

A line of PAIRS.txt is a bundle, a bag that it was not trained on, and, where known, `good` or
`bad` and the share of the goals that it reaches: ``models/arm data/arm-9 good 0.95``. Printed are
a row for each pair; the number of pairs for which the verdict is wrong; and for each figure its
rank correlation with success (Spearman) and how well it separates good from bad bundles (area
under the ROC curve).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
import time
from typing import Any

import numpy as np

from lewm_ros.api import planner_config
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.held_out import AHEAD
from lewm_ros.evaluation.planability import Planability, Recordings, examine, spearman
from lewm_ros.evaluation.verdict import Verdict, judge
from lewm_ros.files import find

#: Success from which a bundle counts as good where nothing else is said.
GOOD = 0.9


def main() -> None:
    """Judge every pair and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('pairs', type=Path, help='lines of BUNDLE BAG [good|bad|-] [SUCCESS]')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures')
    args = parser.parse_args()
    rows = []
    for line in args.pairs.read_text().splitlines():
        words = line.split('#')[0].split()
        if words:
            rows.append(row(*words))
    show(rows)
    if args.json:
        args.json.write_text(json.dumps([r | {'verdict': r['verdict'].to_dict()} for r in rows]))


def row(bundle: str, bag: str, label: str = '-', success: str = '-') -> dict[str, Any]:
    """Judge one bundle by one bag."""
    began = time.perf_counter()
    reached = None if success == '-' else float(success)
    if label == '-' and reached is not None:
        label = 'good' if reached >= GOOD else 'bad'
    loaded = Bundle.load(find('bundle', bundle))
    config = planner_config('live', 0)
    ahead = max(AHEAD, config.rollout_blocks(loaded.spec))
    engine = load_engine(loaded, horizon=min(ahead, loaded.spec.horizon))
    recordings = Recordings.of_bags(loaded, engine, [Path(bag)])
    verdict = judge(examine(loaded, engine, recordings, config))
    return {
        'bundle': '/'.join(loaded.path.parts[-2:]),
        'bag': Path(bag).name,
        'label': label,
        'success': reached,
        'verdict': verdict,
        'numbers': numbers(verdict.figures),
        'seconds': time.perf_counter() - began,
    }


def numbers(f: Planability) -> dict[str, float]:
    """Return the figures that thresholds are set on; NaN where one is unknown."""
    known = {
        'step': f.step,
        'saturated': f.saturated,
        'reach': f.reach,
        'order': f.order,
        'order least': f.order_least,
        'error/copy': f.prediction[0] / f.copying[0],
        'last': f.prediction[-1] / f.copying[-1],
        'error/train': f.prediction[0] / f.trained if f.trained else None,
        'effect': min(d.effect for d in f.actions),
        'ratio': min(d.ratio for d in f.actions),
        'share': max((d.share for d in f.actions if d.share is not None), default=None),
        'floor': f.floor,
        'covered': f.covered,
        'connected': f.connected,
        'delay': f.delay,
    }
    return {name: np.nan if value is None else value for name, value in known.items()}


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows, errors of the verdict, and what each figure tells of success."""
    titles = ['bundle', 'bag', 'label', 'success', 'verdict', *rows[0]['numbers'], 's']
    table = [titles]
    for r in rows:
        reached = '-' if r['success'] is None else f'{r["success"]:.2f}'
        words = [r['bundle'], r['bag'], r['label'], reached, said(r['verdict'])]
        figures = [f'{value:.3g}' for value in r['numbers'].values()]
        table.append([*words, *figures, f'{r["seconds"]:.0f}'])
    print_table(table)
    print()
    for r in rows:
        for d in r['verdict'].figures.actions:
            precise = '' if d.precision is None else f', precision {d.precision:.2g} {d.unit}'
            precise += '' if d.alone is None else f' (alone {d.alone:.2g}), share {d.share:.2f}'
            print(f'{r["bundle"]} {d.name}: effect {d.effect:.2f}, ratio {d.ratio:.1f}{precise}')
        for problem in r['verdict'].problems:
            print(f'{r["bundle"]} on {r["bag"]}: {problem}')
    labelled = [r for r in rows if r['label'] in ('good', 'bad')]
    if labelled:
        wrong = [r for r in labelled if (r['label'] == 'good') != r['verdict'].ready]
        print(f'\nwrong: {len(wrong)} of {len(labelled)}', *(r['bundle'] for r in wrong))
    table = [['figure', 'Spearman with success', 'n', 'AUC good against bad']]
    for name in rows[0]['numbers']:
        values = [(r['numbers'][name], r) for r in rows if np.isfinite(r['numbers'][name])]
        ranked = [(v, r['success']) for v, r in values if r['success'] is not None]
        rank = '-'
        if len(ranked) > 2:
            rank = f'{spearman(*np.transpose(ranked)):.2f}'
        good, bad = ([v for v, r in values if r['label'] == x] for x in ('good', 'bad'))
        area = '-'
        if good and bad:
            above = np.subtract.outer(good, bad)
            area = f'{np.mean((above > 0) + 0.5 * (above == 0)):.2f}'
        table.append([name, rank, str(len(ranked)), area])
    print()
    print_table(table)


def said(verdict: Verdict) -> str:
    """Short form of a verdict."""
    return 'ready' if verdict.ready else f'not ({len(verdict.problems)})'


def print_table(table: list[list[str]]) -> None:
    """Print cells in columns."""
    widths = [max(map(len, column)) for column in zip(*table)]
    for cells in table:
        print('  '.join(cell.ljust(width) for cell, width in zip(cells, widths)).rstrip())


if __name__ == '__main__':
    main()
