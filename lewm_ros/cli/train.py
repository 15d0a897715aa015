# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm train`: train a model from bags."""

from __future__ import annotations

import argparse
from dataclasses import replace
import os
from pathlib import Path
import sys

from lewm_ros.cli import decoder
from lewm_ros.cli.roadmap import describe
from lewm_ros.engines import Engine, EngineConfig, load_engine
from lewm_ros.errors import LewmError
from lewm_ros.evaluation.roadmap import build_roadmap
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.training.config import CONFIGS
from lewm_ros.training.decoder import STEPS, train_decoder
from lewm_ros.training.device import choose_device
from lewm_ros.training.run_folder import RunFolder
from lewm_ros.training.train import describe_losses, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('--data', nargs='+', type=Path, required=True, help='one bag or more')
    parser.add_argument('--contract', required=True, help='contract file or name')
    parser.add_argument(
        '--model',
        choices=sorted(CONFIGS),
        default='small',
        help='architecture, with its training config (default small)',
    )
    parser.add_argument(
        '--out', type=Path, required=True, help='bundle folder, written or replaced at the end'
    )
    parser.add_argument(
        '--run', dest='folder', type=Path, help='run folder (default runs/NAME of the bundle)'
    )
    parser.add_argument('--device', choices=('auto', 'cpu', 'cuda'), default='auto')
    parser.add_argument('--steps', type=int, help="optimiser steps (default: the model's)")
    parser.add_argument('--lr', type=float, help="peak learning rate (default: the model's)")
    parser.add_argument(
        '--colour-jitter',
        type=float,
        default=0.0,
        metavar='STRENGTH',
        help='mix the colours of each training frame at random, to make the model '
        'colour-invariant; 1 is strong (default: 0, not at all)',
    )
    threads = len(os.sched_getaffinity(0))
    parser.add_argument(
        '--threads', type=int, default=threads, help=f'CPU threads (default {threads})'
    )
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument(
        '--no-roadmap', action='store_true', help='leave the roadmap of the bags out of the bundle'
    )
    parser.add_argument(
        '--no-decoder',
        action='store_true',
        help='leave out of the bundle what shows latents as images',
    )
    parser.add_argument('--resume', action='store_true', help='continue the run folder')


def run(args: argparse.Namespace) -> int:
    """Train, print the held-out losses of each bag, and add the roadmap and the decoder."""
    given = {'steps': args.steps, 'lr': args.lr, 'colour_jitter': args.colour_jitter}
    bundle = train(
        args.data,
        Contract.load(find('contract', args.contract)),
        args.model,
        replace(CONFIGS[args.model], **{k: v for k, v in given.items() if v is not None}),
        args.out,
        RunFolder(args.folder or Path('runs') / args.out.name),
        device=args.device,
        threads=args.threads,
        seed=args.seed,
        resume=args.resume,
    )
    for bag in bundle.manifest.provenance['bags']:
        losses = describe_losses(bag) if bag['held_out'] else 'none held out'
        print(f'{bag["name"]}: {losses}')
    print(f'wrote {bundle.path}')
    device = choose_device(args.device)
    name, provider = ('torch', device) if device == 'cuda' else (EngineConfig.engine, '')

    def engine() -> Engine:
        return load_engine(bundle, name, args.threads, provider=provider)

    def add_roadmap() -> str:
        return describe(build_roadmap(bundle, engine(), args.data))

    def add_decoder() -> str:
        steps = min(STEPS, bundle.manifest.provenance['config']['steps'])
        return decoder.describe(
            train_decoder(bundle, engine(), args.data, steps, device, args.threads)
        )

    for what, left_out, add in (
        ('roadmap', args.no_roadmap, add_roadmap),
        ('decoder', args.no_decoder, add_decoder),
    ):
        try:
            if not left_out:
                print(add())
        except (LewmError, OSError) as error:  # the bundle is whole without one
            print(f'no {what}: {error}', file=sys.stderr)
    return 0
