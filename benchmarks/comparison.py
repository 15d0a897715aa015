# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""LeWM's planning at the published size: `python benchmarks/comparison.py [BUNDLE] [--json]`.

Like `lewm benchmark`, but it also times plans of 300 x 10 and 300 x 30, checks the results against
the reference, and reports the share of peak FLOP/s that each engine reaches and the load of other
processes meanwhile. A cost call of DINO-WM's shape is timed for comparison.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
import os
from pathlib import Path
import tempfile
from typing import Any

from dino_wm import DinoWMCall
from flops import encode_flops, fast_flops, reference_flops
from machine import ForeignLoad, peak_gflops
import numpy as np
from workloads import ELITES, WORKS, judge, prepare

from lewm_ros.bundle import Bundle
from lewm_ros.cli.benchmark import processor
from lewm_ros.evaluation.benchmark import (
    COST_CALL,
    SAMPLES,
    STEPS,
    Problem,
    load_engines,
    summarise,
    time_interleaved,
)
from lewm_ros.files import find
from lewm_ros.model import ModelConfig
from lewm_ros.training.random_bundle import random_bundle

SECONDS = 30.0  #: for each work; at least three rounds are run
BUSY = 0.2  #: foreign load that is worth a warning [cores]


def measure(
    bundle: Bundle, names: list[str] | None, works: list[str], args: argparse.Namespace
) -> dict[str, Any]:
    """Time the works on each engine, and compare results with the reference's."""
    config, context = ModelConfig.parse(bundle.manifest.architecture), bundle.manifest.history
    load = ForeignLoad()
    engines = load_engines(bundle, names, args.threads, args.provider)
    reference = engines[0]
    dino = DinoWMCall(context, reference.engine.provider)
    inner = config.predictor_mlp, config.predictor_heads * config.predictor_head_size
    peak = peak_gflops(config.predictor_width, inner, args.threads, reference.engine.provider)
    problem = Problem.of(bundle, reference.engine)
    latent, costs = reference.engine.encode(problem.image), reference.costs(problem)
    verdicts = {e: judge(e, problem, latent, costs) for e in engines}
    rows: list[dict[str, Any]] = []
    for work in works:
        # Frames are encoded in f32 whatever an engine's precision.
        tested = [e for e in engines if work != 'encode' or e.engine.precision == 'f32']
        calls = [prepare(e, work, problem) for e in tested]
        if work == COST_CALL:
            dino()
            calls.append(dino)
        times = time_interleaved(calls, args.rounds, SECONDS, work)
        for one, taken in zip(tested, times):
            found = asdict(summarise(work, one.engine, taken, times[0]))
            flops = None
            if work == 'encode':
                flops = encode_flops(config)
            elif work == COST_CALL:
                count = reference_flops if one is reference else fast_flops
                flops = count(config, context, SAMPLES, STEPS)
            if flops is not None:
                found['gflops'] = 1e-6 * flops / found['ms_p50']
                if (best := peak[one.engine.precision]) is not None:
                    found['of_peak'] = found['gflops'] / best
            verdict = verdicts[one]
            found['exact'] = verdict.same_latent if work == 'encode' else verdict.same_costs
            if work == COST_CALL:
                found['cost_difference'] = verdict.cost_difference
                found['elites_kept'] = verdict.elites_kept
            rows.append(found)
        if work == COST_CALL:
            rows.append(compare(dino, times, rows))
    return {
        'rows': rows,
        'peak_gflops': peak,
        'foreign_load': load.cores(),
        'machine': processor(),
        'cores': len(os.sched_getaffinity(0)),
        'threads': args.threads,
        'bundle': bundle.manifest.name,
    }


def compare(dino: Any, times: np.ndarray, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Scale DINO-WM's times, the last of ``times``, to 300 samples; compare with LeWM's."""
    found = asdict(summarise('dino_wm', dino, times[-1] * SAMPLES / dino.samples, times[0]))
    fastest = min(r['ms_p50'] for r in rows if r['work'] == COST_CALL)
    return found | {
        'scaled_from': dino.scaled_from,
        'slower_than_reference': 1 / found['ratio_to_reference'],
        'slower_than_fastest': found['ms_p50'] / fastest,
    }


def table(report: dict[str, Any]) -> str:
    """Return the report as aligned text."""
    lines = ['{bundle} on {machine}, {cores} cores: {threads} thread(s)'.format(**report)]
    lines += [f'peak in {p}: {g:.0f} GFLOP/s' for p, g in report['peak_gflops'].items() if g]
    if (load := report['foreign_load']) is not None:
        warning = ': times are longer than on a quiet machine' if load > BUSY else ''
        lines.append(f'others kept {load:.2f} cores busy{warning}')
    head = ('work', 'engine', 'prec.', 'p50 [ms]', 'p95 [ms]', 'ratio', 'of peak', 'exact')
    cells = [[*head, 'elites']]
    for found in report['rows']:
        texts = [found['work'], found['engine'], found['precision']]
        texts += [f'{found[key]:.2f}' for key in ('ms_p50', 'ms_p95')]
        texts.append(f'{found["ratio_to_reference"]:.3g}')
        texts.append(f'{found["of_peak"]:.0%}' if 'of_peak' in found else '')
        texts.append({True: 'yes', False: 'no', None: ''}[found.get('exact')])
        texts.append(f'{found["elites_kept"]}/{ELITES}' if 'elites_kept' in found else '')
        cells.append(texts)
    widths = [max(map(len, column)) for column in zip(*cells)]
    for texts in cells:
        padded = [text.rjust(width) for text, width in zip(texts[3:], widths[3:])]
        names = [text.ljust(width) for text, width in zip(texts[:3], widths)]
        lines.append('  '.join(names + padded).rstrip())
    lines += [
        f"DINO-WM's shape: {found['slower_than_reference']:.0f} times slower than the reference, "
        f'{found["slower_than_fastest"]:.0f} than the fastest; from {found["scaled_from"]}'
        for found in report['rows']
        if 'scaled_from' in found
    ]
    return '\n'.join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('bundle', nargs='?', help='default: random weights, published size')
    threads = max(len(os.sched_getaffinity(0)) - 1, 1)
    parser.add_argument('--threads', type=int, default=threads, help=f'default {threads}')
    parser.add_argument('--rounds', type=int, default=30, help='most for each work (default 30)')
    parser.add_argument('--engines', nargs='+', help='default: all that are installed')
    parser.add_argument('--works', nargs='+', choices=WORKS, default=WORKS, help='default: all')
    parser.add_argument('--provider', choices=('cpu', 'cuda'), default='')
    parser.add_argument('--json', action='store_true', help='print JSON')
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.bundle:
            bundle = Bundle.load(find('bundle', args.bundle))
        else:
            bundle = random_bundle(Path(folder) / 'paper')
        report = measure(bundle, args.engines, args.works, args)
    print(json.dumps(report) if args.json else table(report))


if __name__ == '__main__':
    main()
