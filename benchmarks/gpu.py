# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""LeWM on a GPU: `python benchmarks/gpu.py --data BAG --contract NAME --out FOLDER`.

Four parts run one after the other. If one fails, it is reported and the next one begins:

equality    the torch engine with captured CUDA graphs, against the published loop on the CPU and
            against the same computation in eager mode
speed       encode, cost call and plans: published loop, captured f32, captured bf16, with the time
            of the kernels apart from that of the host; a cost call of DINO-WM's shape beside them
throughput  training steps: the loader alone, the GPU alone, both together
training    `lewm train` on the bag for the remaining time; then the equality check for that bundle,
            and the quality of its plans at each precision

FOLDER gets gpu.json (rewritten after each part), bundle/, metrics.csv and curves.png. The script
needs torch, numpy, OpenCV, PyYAML, onnx, onnxscript, matplotlib and the bag reader's packages; no
ROS.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from itertools import islice
import json
import multiprocessing
import os
from pathlib import Path
import platform
import shutil
import tempfile
import time
import traceback
from typing import Any

from dino_wm import DinoWMCall
import numpy as np
import torch
from workloads import ELITES, WORKS, Start, judge, planned_costs, prepare

from lewm_ros import cli
from lewm_ros.bundle import Bundle
from lewm_ros.engines.torch_engine import load_model
from lewm_ros.errors import LewmError
from lewm_ros.evaluation.benchmark import (
    SAMPLES,
    STEPS,
    EngineUnderTest,
    Problem,
    summarise,
    time_interleaved,
)
from lewm_ros.files import atomic_write, find
from lewm_ros.model import ARCHITECTURES, BatchedRollout
from lewm_ros.robot.contract import Contract
from lewm_ros.training.config import CONFIGS
from lewm_ros.training.loader import read_ahead
from lewm_ros.training.random_bundle import random_bundle
from lewm_ros.training.trainer import Trainer
from lewm_ros.training.windows import Windows, batches, load_windows

DTYPES = {'f32': torch.float32, 'bf16': torch.bfloat16}
#: Windows between that of a context and that of its goal.
GOAL_AFTER = 20
#: Part of the total time reserved for the last validation, the export and what follows [s].
RESERVE = {'cuda': 100.0, 'cpu': 10.0}


class Job:
    """The command line, the folders and the time that is left."""

    def __init__(self, args: argparse.Namespace, work: Path) -> None:
        self.args, self.work, self.out = args, work, args.out
        self.device: str = args.device
        self.deadline = time.monotonic() + args.seconds
        self.report: dict[str, Any] = {'machine': machine(self.device)}
        self._bundle: Bundle | None = None

    @property
    def cache(self) -> Path:
        """Where `lewm train` looks for bags that were read."""
        return self.work / 'cache'

    def bundle(self) -> Bundle:
        """Random weights of the model's size."""
        if self._bundle is None:
            self._bundle = random_bundle(self.work / 'random', self.args.model, graphs=False)
        return self._bundle

    def windows(self) -> Windows:
        """The bag, from the cache once it was read."""
        return read_bag(self.args.data, self.args.contract, self.args.model, self.cache)

    def load(self, bundle: Bundle, name: str, precision: str) -> EngineUnderTest:
        """Load an engine onto the device."""
        return EngineUnderTest(bundle, name, precision, self.args.threads, self.device)

    def left(self) -> float:
        """Seconds until the last part should be over."""
        return self.deadline - time.monotonic()


def read_bag(data: Path, contract: str, model: str, cache: Path) -> Windows:
    """Read the bag into the cache, or find it there."""
    robot = Contract.load(find('contract', contract))
    config = ARCHITECTURES[model](robot.action.size)
    return load_windows([data], robot, config.image_size, config.history, config.frameskip, cache)


def machine(device: str) -> dict[str, Any]:
    """Say what this ran on."""
    found = {
        'device': device,
        'cores': len(os.sched_getaffinity(0)),
        'python': platform.python_version(),
        'torch': str(torch.__version__),
    }
    if device == 'cuda':
        properties = torch.cuda.get_device_properties(0)
        found |= {
            'gpu': properties.name,
            'gpu_memory_gib': round(properties.total_memory / 2**30, 1),
            'multiprocessors': properties.multi_processor_count,
            'cuda': torch.version.cuda,
        }
    return found


# --- equality -----------------------------------------------------------------------------------


def equality(job: Job, bundle: Bundle | None = None) -> dict[str, Any]:
    """Compare the captured engine with the published loop on the CPU and with eager mode."""
    bundle = bundle or job.bundle()
    oracle = EngineUnderTest(bundle, 'reference', 'f32', job.args.threads, 'cpu')
    problem = Problem.of(bundle, oracle.engine)
    latent, costs = oracle.engine.encode(problem.image), oracle.costs(problem)
    found: dict[str, Any] = {'samples': SAMPLES, 'steps': STEPS, 'elites': ELITES}
    found['cost_std_over_mean'] = float(costs.std() / costs.mean())
    for precision in precisions(job.device):
        tested = job.load(bundle, 'torch', precision)
        verdict = judge(tested, problem, latent, costs)
        exact = precision == 'f32'
        captured = tested.engine.rollout(problem.context, problem.past, problem.actions, exact)
        eager = eager_rollout(bundle, job.device, precision, problem)
        found[precision] = {
            'same_latent': verdict.same_latent,
            'relative_cost_difference': verdict.cost_difference,
            'elites_kept': verdict.elites_kept,
            'captured_minus_eager': float(np.abs(captured - eager).max()),
            'latent_scale': float(np.abs(eager).max()),
        }
    return found


@torch.inference_mode()
def eager_rollout(bundle: Bundle, device: str, precision: str, problem: Problem) -> np.ndarray:
    """Latents (S, N, D) of the computation that is captured, run in eager mode."""
    model = load_model(bundle).to(device).eval()
    inputs = problem.context, problem.past, problem.actions
    tensors = (torch.tensor(array, device=device) for array in inputs)
    return BatchedRollout(model, DTYPES[precision])(*tensors).cpu().numpy()


def precisions(device: str) -> tuple[str, ...]:
    """Return the precisions that the torch engine supports on this device."""
    return ('f32', 'bf16') if device == 'cuda' and torch.cuda.is_bf16_supported() else ('f32',)


# --- speed --------------------------------------------------------------------------------------


def speed(job: Job) -> dict[str, Any]:
    """Time each work on each engine in turn, and DINO-WM's shape."""
    bundle = job.bundle()
    engines = [job.load(bundle, 'reference', 'f32')]
    engines += [job.load(bundle, 'torch', p) for p in precisions(job.device)]
    problem = Problem.of(bundle, engines[0].engine)
    rows = []
    for work in WORKS:
        # Frames are encoded in f32 whatever an engine's precision.
        tested = [e for e in engines if work != 'encode' or e.engine.precision == 'f32']
        calls = [prepare(one, work, problem) for one in tested]
        times = time_interleaved(calls, job.args.rounds, job.args.work_seconds)
        for one, call, taken in zip(tested, calls, times):
            found = asdict(summarise(work, one.engine, taken, times[0]))
            found |= kernel_time(call, job.device)
            rows.append(found)
            tell(found)
    return {'rows': rows, 'dino_wm': dino_wm(job, bundle.manifest.history, rows)}


def kernel_time(call: Callable[[], object], device: str) -> dict[str, Any]:
    """Measure the GPU time of a call [ms], and count its kernels and copies."""
    if device != 'cuda':
        return {}
    from torch.autograd import DeviceType
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        call()
        torch.cuda.synchronize()
    events = [event for event in profiler.events() if event.device_type == DeviceType.CUDA]
    busy = sum(event.time_range.elapsed_us() for event in events) / 1e3
    return {'kernel_ms': busy, 'kernels': len(events)}


def dino_wm(job: Job, context: int, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Time a cost call of DINO-WM's shape; a plan 300 x 30 is 30 of them."""
    plans = {row['precision']: row['ms_p50'] for row in rows if row['work'] == 'plan_300x30'}
    found = []
    for precision in precisions(job.device):
        call = DinoWMCall(context, job.device, precision)
        call()
        taken = time_interleaved([call], job.args.rounds, job.args.work_seconds)[0]
        plan = float(np.median(taken)) * SAMPLES / call.samples * 30
        row = {
            'precision': precision,
            'rounds': len(taken),
            'scaled_from': call.scaled_from,
            'plan_300x30_ms': plan,
            'times_slower': {name: plan / ours for name, ours in plans.items()},
        }
        found.append(row)
        tell(row)
    return found


# --- throughput ---------------------------------------------------------------------------------


def throughput(job: Job) -> dict[str, Any]:
    """Training steps of the model: images per second of the loader, of the GPU, and of both."""
    windows = job.windows()
    contract = Contract.load(find('contract', job.args.contract))
    trainer = Trainer(windows, contract, job.args.model, short_run(job, 1000), job.device, seed=0)
    count = trainer.config.batch * windows.frames.shape[1]
    steps = job.args.steps
    found: dict[str, Any] = {
        'model': job.args.model,
        'frames': len(windows.images),
        'images_per_step': count,
        'precision': 'bf16' if trainer.bfloat16 else 'f32',
        'variants': {},
    }
    keys = batches(trainer.train, trainer.config.batch, seed=1)
    found['loader_images_per_s'] = rate(read_ahead(trainer.read, islice(keys, steps + 8)), count)
    tell(found)
    names = ('eager', 'compiled') if job.device == 'cuda' else ('eager',)
    for name in names:
        began = time.perf_counter()
        if name == 'compiled':
            trainer.compile()
        if job.device == 'cuda':
            torch.cuda.reset_peak_memory_stats()
        batch = trainer.placed(trainer.read(next(keys)))
        trainer.update(*batch)
        synchronize(job.device)
        first = time.perf_counter() - began
        device = rate(repeated(trainer, batch, job.device), 8 * count, skip=2)
        source = read_ahead(trainer.read, islice(keys, steps + 8))
        trained = (trainer.update(*trainer.placed(batch)) for batch in source)
        row = {
            'first_step_s': first,
            'device_images_per_s': device,
            'images_per_s': rate(synchronized(trained, job.device), count),
        }
        if job.device == 'cuda':
            row['peak_memory_gib'] = torch.cuda.max_memory_allocated() / 2**30
        found['variants'][name] = row
        tell({name: row})
    return found


def repeated(
    trainer: Trainer, batch: tuple[torch.Tensor, torch.Tensor], device: str
) -> Iterator[None]:
    """Optimiser steps on one batch that is on the device, eight at a time."""
    for _ in range(8):
        for _ in range(8):
            trainer.update(*batch)
        synchronize(device)
        yield


def synchronized(steps: Iterator[object], device: str) -> Iterator[None]:
    """Let every fourth step wait for the device, so that no more than those are queued."""
    for number, _ in enumerate(steps):
        if number % 4 == 3:
            synchronize(device)
        yield
    synchronize(device)


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == 'cuda':
        torch.cuda.synchronize()


def rate(items: Iterator[object], each: int, skip: int = 8) -> float:
    """Images per second of what comes after the first ``skip`` items."""
    for _ in islice(items, skip):
        pass
    began, count = time.perf_counter(), 0
    for _ in items:
        count += each
    return count / (time.perf_counter() - began)


def short_run(job: Job, steps: int) -> Any:
    """The model's training config, with the steps and the learning rate of a short run."""
    return replace(CONFIGS[job.args.model], steps=steps, lr=job.args.lr)


# --- training -----------------------------------------------------------------------------------


def training(job: Job) -> dict[str, Any]:
    """Train for the time that is left, with the fastest variant's rate as the estimate."""
    measured = job.report['throughput']
    fastest = max(row['images_per_s'] for row in measured['variants'].values())
    seconds = max(job.left() - RESERVE[job.device], 0)
    steps = max(8, int(0.85 * seconds * fastest / measured['images_per_step']))
    tell({'left': job.left(), 'steps': steps})
    run, bundle = job.work / 'run', job.out / 'bundle'
    shutil.rmtree(bundle, ignore_errors=True)
    began = time.monotonic()
    options = {
        'data': job.args.data,
        'contract': job.args.contract,
        'model': job.args.model,
        'device': job.device,
        'steps': steps,
        'lr': job.args.lr,
        'threads': job.args.threads,
        'run': run,
        'out': bundle,
    }
    given = [f'--{name}={value}' for name, value in options.items()]
    status = cli.main(['train', '--no-decoder', *given])
    for name in ('metrics.csv', 'curves.png'):
        shutil.copy(run / name, job.out / name)
    if status:
        raise LewmError(f'lewm train ended with status {status}')
    trained = Bundle.load(bundle)
    metrics = trained.manifest.provenance['metrics']
    return {
        'steps': steps,
        'seconds': time.monotonic() - began,
        'lr': job.args.lr,
        'metrics': metrics,
        'prediction_over_copying': metrics['validation_prediction']
        / metrics['validation_copy_last'],
        'equality': equality(job, trained),
        'plans': plans_of_the_bag(job, trained),
    }


def plans_of_the_bag(job: Job, bundle: Bundle) -> dict[str, Any]:
    """Costs of plans 300 x 10 in f32, from the same frames to the same goals.

    Searches in f32, in bf16 with the last two iterations in f32, and in bf16 alone. Frames are of
    the bag, goals one second after the last frame of the context.
    """
    windows, rng = job.windows(), np.random.default_rng(0)
    engines = {p: job.load(bundle, 'torch', p).engine for p in precisions(job.device)}
    encode = engines['f32'].encode
    same_episode = windows.episodes[:-GOAL_AFTER] == windows.episodes[GOAL_AFTER:]
    starts = [
        Start(
            np.array([encode(frame) for frame in windows.images[windows.frames[index][:-1]]]),
            windows.blocks[index, :-1],
            windows.blocks[index, -1].reshape(bundle.spec.frameskip, -1),
            encode(windows.images[windows.frames[index + GOAL_AFTER, -1]]),
        )
        for index in rng.permutation(np.flatnonzero(same_episode))[: job.args.plans]
    ]
    costs = planned_costs(bundle.spec, engines, starts, 'ramp')
    return {
        'n': len(starts),
        'mean_cost': {name: float(values.mean()) for name, values in costs.items()},
        'mean_difference_to_f32': {
            name: {
                'mean': float((values - costs['f32']).mean()),
                'standard_error': float((values - costs['f32']).std() / np.sqrt(len(values))),
            }
            for name, values in costs.items()
        },
    }


# --- command line -------------------------------------------------------------------------------

PARTS: dict[str, Callable[[Job], dict[str, Any]]] = {
    'equality': equality,
    'speed': speed,
    'throughput': throughput,
    'training': training,
}


def tell(row: object) -> None:
    """Print a figure as it comes."""
    print(json.dumps(row, default=str), flush=True)


def run(job: Job) -> bool:
    """Run all parts; return whether all succeeded."""
    job.out.mkdir(parents=True, exist_ok=True)
    whole = True
    for name, part in PARTS.items():
        began = time.monotonic()
        print(f'--- {name}', flush=True)
        try:
            found = part(job)
        except Exception as error:  # a failed part must not stop the others
            traceback.print_exc()
            whole, found = False, {'error': f'{type(error).__name__}: {error}'}
        job.report[name] = found | {'part_seconds': round(time.monotonic() - began, 1)}
        with atomic_write(job.out / 'gpu.json') as partial:
            partial.write_text(json.dumps(job.report, indent=1))
        tell({name: job.report[name]})
    return whole


def main() -> int:
    """Measure; the exit status is 1 where a part failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True, help='bag to train from')
    parser.add_argument('--contract', required=True, help='contract file or name')
    parser.add_argument('--out', type=Path, required=True, help='folder for the results')
    parser.add_argument('--device', choices=('cuda', 'cpu'), default='cuda')
    parser.add_argument('--model', choices=sorted(CONFIGS), default='paper')
    parser.add_argument('--seconds', type=float, default=540, help='for everything (default 540)')
    parser.add_argument('--lr', type=float, default=5e-4, help='learning rate of the short run')
    parser.add_argument('--rounds', type=int, default=100, help='most for each work (default 100)')
    parser.add_argument(
        '--work-seconds', type=float, default=4, help='after which no round is begun (default 4)'
    )
    parser.add_argument('--plans', type=int, default=40, help='for their costs (default 40)')
    parser.add_argument(
        '--work', type=Path, help='folder of cache and run, kept (default: a temporary one)'
    )
    parser.add_argument('--steps', type=int, default=60, help='of each throughput (default 60)')
    parser.add_argument(
        '--threads', type=int, default=len(os.sched_getaffinity(0)), help='CPU threads'
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        job = Job(args, args.work or Path(folder))
        # In a separate process meanwhile; a part that needs the bag waits for it.
        reader = multiprocessing.get_context('spawn').Process(
            target=read_bag, args=(args.data, args.contract, args.model, job.cache)
        )
        reader.start()
        whole = run(job)
        reader.join()
    return 0 if whole else 1


if __name__ == '__main__':
    raise SystemExit(main())
