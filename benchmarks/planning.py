# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What one frame and one plan cost on this machine, per engine, measured interleaved in one run.

.venv/bin/python benchmarks/planning.py [BUNDLE] [--threads N] [--rounds N]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
import os
import time

import numpy as np

from lewm_ros.bundle import Bundle
from lewm_ros.engines import ENGINES, load_engine
from lewm_ros.history import Context
from lewm_ros.planning import RecedingHorizonPlanner
from lewm_ros.share import find
from lewm_training.closed_loop import planner_config


def workloads(bundle: Bundle, name: str, threads: int) -> dict[str, Callable[[], object]]:
    """Encode a frame, plan without and with a plan to start from, on random input."""
    manifest, rng = bundle.manifest, np.random.default_rng(0)
    engine = load_engine(bundle, name, threads)
    config = planner_config('live', seed=0)
    planner = RecedingHorizonPlanner(bundle, bundle.contract, engine, config)
    image = rng.integers(0, 256, (manifest.image_size, manifest.image_size, 3), dtype=np.uint8)
    size = bundle.contract.action.size
    latents = rng.normal(size=(manifest.history, manifest.latent_size)).astype(np.float32)
    past = np.zeros((manifest.history - 1, manifest.frameskip * size))
    committed = np.zeros((manifest.frameskip, size))
    goal = rng.normal(size=manifest.latent_size).astype(np.float32)
    stamp = 0

    def plan() -> None:
        nonlocal stamp
        stamp += round(bundle.block * 1e9)
        planner.plan(Context(stamp, latents, past), committed, goal)

    def cold() -> None:
        planner.reset()
        plan()

    return {'encode': lambda: engine.encode(image), 'plan_cold': cold, 'plan_live': plan}


def main() -> None:
    """Print a table; the ratio is torch's median over this engine's, from the same run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('bundle', nargs='?', default='reacher')
    parser.add_argument('--threads', type=int, default=max((os.cpu_count() or 1) - 1, 1))
    parser.add_argument('--rounds', type=int, default=30)
    args = parser.parse_args()
    bundle = Bundle.load(find('bundle', args.bundle))
    engines = {name: workloads(bundle, name, args.threads) for name in ENGINES}
    times: dict[tuple[str, str], list[float]] = {}
    for _ in range(args.rounds):
        for work in ('encode', 'plan_cold', 'plan_live'):
            for name, calls in engines.items():
                started = time.perf_counter()
                calls[work]()
                times.setdefault((work, name), []).append(1e3 * (time.perf_counter() - started))
    load = os.getloadavg()[0]
    print(
        f'{args.threads} thread(s), {args.rounds} rounds, load average {load:.1f} of '
        f'{os.cpu_count()} cores'
    )
    print(f'{"work":<10} {"engine":<12} {"p50 [ms]":>9} {"p95 [ms]":>9} {"ratio":>6}')
    for (work, name), samples in times.items():
        p50, p95 = np.percentile(samples, [50, 95])
        ratio = np.median(times[work, 'torch']) / p50
        print(f'{work:<10} {name:<12} {p50:9.2f} {p95:9.2f} {ratio:6.2f}')


if __name__ == '__main__':
    main()
