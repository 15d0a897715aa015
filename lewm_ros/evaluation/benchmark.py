# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm benchmark`: what a frame, a cost call and a plan take here, per engine and precision."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
import json
import os
from pathlib import Path
import sys
import tempfile
import time
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from lewm_ros.bundle import Bundle
from lewm_ros.engines import ENGINES, Engine
from lewm_ros.errors import EngineError
from lewm_ros.evaluation.benchmark_table import Report, Row, table
from lewm_ros.evaluation.flops import encode_flops, fast_flops, reference_flops
from lewm_ros.evaluation.machine import ForeignLoad, peak_gflops, processor
from lewm_ros.evaluation.workloads import (
    COST_CALL,
    ELITES,
    SAMPLES,
    STEPS,
    Contender,
    DinoWMCall,
    Problem,
    random_bundle,
)
from lewm_ros.files import find
from lewm_ros.model import ModelConfig

#: work: fewest rounds, and after how long no more are begun [s]
WORKS = {
    'encode': (10, 5.0),
    COST_CALL: (5, 30.0),
    'plan_live': (5, 20.0),
    'plan_300x10': (2, 40.0),
    'plan_300x30': (1, 40.0),
}
REFERENCE = 'reference'
TOLERANCE = 1e-4  #: largest relative difference to the reference that counts as exact


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    threads = max((os.cpu_count() or 1) - 1, 1)
    parser.add_argument(
        'bundle', nargs='?', help='bundle folder or name (default: random weights, published size)'
    )
    parser.add_argument(
        '--threads', type=int, default=threads, help=f'of every engine (default {threads})'
    )
    parser.add_argument(
        '--rounds', type=int, default=30, help='most for each work (default 30; long ones get less)'
    )
    parser.add_argument(
        '--engines',
        help=f'some of {", ".join(ENGINES)}, with commas between (default: all that are '
        'installed); the reference always runs',
    )
    parser.add_argument('--works', help=f'some of {", ".join(WORKS)} (default: all)')
    parser.add_argument(
        '--provider',
        choices=('cpu', 'cuda'),
        default='',
        help='what computes (default: CUDA in the engines that find it, else the processor)',
    )
    parser.add_argument(
        '--against', choices=('dino-wm',), help="time a cost call of DINO-WM's shape beside it"
    )
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Measure and print a table or JSON."""
    engines = _chosen('--engines', args.engines, ENGINES)
    works = _chosen('--works', args.works, tuple(WORKS))
    if args.threads < 1 or args.rounds < 1:
        raise EngineError(
            f'--threads is {args.threads}, --rounds {args.rounds}: expected at least 1'
        )
    with tempfile.TemporaryDirectory() as folder:
        if args.bundle:
            bundle = Bundle.load(find('bundle', args.bundle))
        else:
            _tell('making a bundle of the published size, about half a minute')
            bundle = random_bundle(Path(folder) / 'paper')
        contenders = _contenders(bundle, engines, args)
        if args.against and COST_CALL not in works:
            works.insert(0, COST_CALL)
        report = _measure(bundle, contenders, works, args)
    print(json.dumps(asdict(report)) if args.json else table(report))
    return 0


def _chosen(option: str, given: str | None, known: Sequence[str]) -> list[str]:
    """Names of a comma-separated option in their usual order; all where it was not given."""
    names = known if given is None else given.split(',')
    for name in names:
        if name not in known:
            raise EngineError(f'{option} has {name!r}: expected some of {", ".join(known)}')
    return [name for name in known if name in names]


def _contenders(bundle: Bundle, names: list[str], args: argparse.Namespace) -> list[Contender]:
    """Load the reference, then each engine in f32 and, where that is native, in bf16."""
    contenders = [Contender(bundle, REFERENCE, 'f32', args.threads, args.provider)]
    for name in names:
        if name == REFERENCE:
            continue
        try:
            contenders.append(Contender(bundle, name, 'f32', args.threads, args.provider))
        except EngineError as error:
            if args.engines is not None:
                raise
            _tell(f'no {name}: {error}')
            continue
        with suppress(EngineError):  # it is only offered where it is faster than f32
            contenders.append(Contender(bundle, name, 'bf16', args.threads, args.provider))
    return contenders


def _measure(
    bundle: Bundle, contenders: list[Contender], works: list[str], args: argparse.Namespace
) -> Report:
    config, context = ModelConfig.parse(bundle.manifest.architecture), bundle.manifest.history
    reference = contenders[0]
    device = reference.engine.provider
    dino = DinoWMCall(context, device) if args.against else None
    load = ForeignLoad()
    _tell('measuring how fast this machine multiplies')
    inner = config.predictor_mlp, config.predictor_heads * config.predictor_head_size
    peak = peak_gflops(config.predictor_width, inner, args.threads, device)
    problem = Problem.of(bundle, reference.engine)
    latent, costs = reference.engine.encode(problem.image), reference.costs(problem)
    verdicts = {contender: judge(contender, problem, latent, costs) for contender in contenders}
    rows: list[Row] = []
    for work in works:
        # Frames are encoded in f32 whatever an engine's precision.
        entered = [c for c in contenders if work != 'encode' or c.engine.precision == 'f32']
        extra = dino if work == COST_CALL else None
        times = time_interleaved(work, problem, entered, extra, args.rounds)
        for contender, taken in zip(entered, times):
            row = _row(work, contender.engine, args.threads, taken, times[0])
            verdict = verdicts[contender]
            if work == 'encode':
                row = replace(row, exact=verdict.same_latent)
                row = _with_gflops(row, encode_flops(config))
            else:
                row = replace(row, exact=verdict.same_costs)
            if work == COST_CALL:
                count = reference_flops if contender is reference else fast_flops
                row = _with_gflops(row, count(config, context, SAMPLES, STEPS))
                row = replace(
                    row,
                    cost_difference=verdict.cost_difference,
                    elites_kept=verdict.elites_kept,
                )
            rows.append(row)
        if extra is not None:
            fastest = min(row.ms_p50 for row in rows if row.work == COST_CALL)
            row = _row(f'dino_wm_{work}', extra, args.threads, times[-1], times[0])
            rows.append(
                replace(
                    row,
                    scaled_from=extra.scaled_from,
                    slower_than_reference=1 / row.ratio_to_reference,
                    slower_than_fastest=row.ms_p50 / fastest,
                )
            )
    return Report(
        rows=rows,
        peak_gflops=peak,
        foreign_load=load.cores(),
        machine=processor(),
        cores=os.cpu_count() or 1,
        threads=args.threads,
        bundle=bundle.manifest.name,
    )


def _row(
    work: str, by: Engine | DinoWMCall, threads: int, taken: np.ndarray, reference: np.ndarray
) -> Row:
    p50, p95 = map(float, np.percentile(taken, [50, 95]))
    return Row(
        work=work,
        engine=by.name,
        precision=by.precision,
        provider=by.provider,
        threads=threads,
        rounds=len(taken),
        ms_p50=p50,
        ms_p95=p95,
        ratio_to_reference=float(np.percentile(reference, 50)) / p50,
    )


def _with_gflops(row: Row, flops: int) -> Row:
    return replace(row, gflops=1e-6 * flops / row.ms_p50)


class Verdict(NamedTuple):
    """How an engine's results compare with the reference's, on one problem."""

    same_latent: bool
    same_costs: bool
    cost_difference: float
    elites_kept: int


def judge(contender: Contender, problem: Problem, latent: np.ndarray, costs: np.ndarray) -> Verdict:
    """Compare with the reference's latent (D,) and costs (300,)."""
    own = contender.costs(problem)
    apart = np.abs(contender.engine.encode(problem.image) - latent).max() / np.abs(latent).max()
    difference = float((np.abs(own - costs) / costs).max())
    best, own_best = (set(np.argsort(c, kind='stable')[:ELITES]) for c in (costs, own))
    kept = len(best & own_best)
    same_costs = difference <= TOLERANCE and kept == ELITES
    return Verdict(bool(apart <= TOLERANCE), same_costs, difference, kept)


def time_interleaved(
    work: str,
    problem: Problem,
    contenders: list[Contender],
    dino: DinoWMCall | None,
    most: int,
) -> np.ndarray:
    """Time a work on all contenders in turn, in another order each round.

    Args:
        work: one of :data:`WORKS`, which also says how long.
        problem: its input.
        contenders: whose calls are timed.
        dino: timed along with them, as the last one.
        most: rounds.

    Returns:
        (calls, rounds) [ms]; DINO-WM's scaled to 300 samples.

    """
    least, seconds = WORKS[work]
    order = np.random.default_rng(0)
    rounds: list[np.ndarray] = []
    with tqdm(desc=work, unit=' calls', leave=False) as bar:
        calls: list[Callable[[], object]] = []
        for contender in contenders:
            calls.append(contender.prepare(work, problem))
            bar.update()
        if dino is not None:
            dino()
            calls.append(dino)
        began = time.perf_counter()
        while len(rounds) < most and (len(rounds) < least or time.perf_counter() - began < seconds):
            taken = np.empty(len(calls))
            for index in order.permutation(len(calls)):
                started = time.perf_counter()
                calls[index]()
                taken[index] = 1e3 * (time.perf_counter() - started)
                bar.update()
            if dino is not None:
                taken[-1] *= SAMPLES / dino.samples
            rounds.append(taken)
    return np.array(rounds).T


def _tell(text: str) -> None:
    print(f'lewm benchmark: {text}', file=sys.stderr)
