# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm benchmark`: time the engines and the planner on this machine."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
import json
import logging
import os
from pathlib import Path
import platform
import re
import tempfile

from lewm_ros.bundle import Bundle
from lewm_ros.engines import ENGINES
from lewm_ros.evaluation.benchmark import COST_CALL, WORKS, Row, benchmark, check
from lewm_ros.files import find

log = logging.getLogger('lewm')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    threads = max(len(os.sched_getaffinity(0)) - 1, 1)
    parser.add_argument(
        'bundle', nargs='?', help='bundle folder or name (default: random weights, published size)'
    )
    parser.add_argument(
        '--threads', type=int, default=threads, help=f'of every engine (default {threads})'
    )
    parser.add_argument(
        '--rounds', type=int, default=30, help='repetitions, at most (default 30; fewer if slow)'
    )
    parser.add_argument(
        '--engines',
        help=f'some of {", ".join(ENGINES)}, with commas between (default: all that are '
        'installed); the reference always runs',
    )
    parser.add_argument(
        '--provider',
        choices=('cpu', 'cuda'),
        default='',
        help='what computes (default: CUDA in the engines that find it, else the processor)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Measure and print a table or JSON."""
    names = None if args.engines is None else args.engines.split(',')
    check(names, args.threads, args.rounds)  # refused before a bundle is made
    with tempfile.TemporaryDirectory() as folder:
        if args.bundle:
            bundle = Bundle.load(find('bundle', args.bundle))
        else:
            from lewm_ros.training.random_bundle import random_bundle

            log.info('making a bundle of the published size, about half a minute')
            bundle = random_bundle(Path(folder) / 'paper')
        rows = benchmark(bundle, names, args.threads, args.provider, args.rounds)
    where = {
        'bundle': bundle.manifest.name,
        'machine': processor(),
        'cores': len(os.sched_getaffinity(0)),
        'threads': args.threads,
    }
    if args.json:
        print(json.dumps(where | {'rows': [asdict(row) for row in rows]}))
    else:
        print('{bundle} on {machine}, {cores} cores: {threads} thread(s)'.format(**where))
        print(table(rows))
    return 0


def processor() -> str:
    """Return the processor's name as the system gives it."""
    try:
        found = re.search(r'^model name\s*:\s*(.+)$', Path('/proc/cpuinfo').read_text(), re.M)
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def table(rows: Sequence[Row]) -> str:
    """Return one line for each engine: milliseconds and ratio of each work."""
    lines = [f'{"p50 [ms], ratio to reference":38}' + ''.join(f'{work:>24}' for work in WORKS)]
    for engine in [(r.engine, r.precision, r.provider) for r in rows if r.work == COST_CALL]:
        name, precision, provider = engine
        found = {r.work: r for r in rows if (r.engine, r.precision, r.provider) == engine}
        cells = [
            f'{r.ms_p50:.2f}  {r.ratio_to_reference:6.2f}' if r else ''
            for r in map(found.get, WORKS)
        ]
        label = f'{name:12} {precision:5} {provider.removesuffix("ExecutionProvider")}'
        lines.append(f'{label:38}' + ''.join(f'{cell:>24}' for cell in cells))
    return '\n'.join(line.rstrip() for line in lines)
