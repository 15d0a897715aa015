# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm train`: train a model from bags."""

from __future__ import annotations

import argparse
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import replace
import os
from pathlib import Path
import sys

from lewm_ros.api import planner_config
from lewm_ros.bundle import Bundle, name_of
from lewm_ros.cli import decoder
from lewm_ros.cli.bags import add_bags
from lewm_ros.cli.roadmap import describe as roadmap_text
from lewm_ros.engines import Engine, EngineConfig, load_engine
from lewm_ros.errors import LewmError
from lewm_ros.evaluation.bags import Encoded, encode_bags
from lewm_ros.evaluation.planability import Recordings, examine
from lewm_ros.evaluation.roadmap import build_roadmap
from lewm_ros.evaluation.verdict import describe, judge
from lewm_ros.files import find
from lewm_ros.robot.contract import Contract
from lewm_ros.training.config import CONFIGS
from lewm_ros.training.decoder import STEPS, train_decoder
from lewm_ros.training.device import choose_device
from lewm_ros.training.run_folder import RunFolder
from lewm_ros.training.train import describe_losses, train


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_bags(parser, 'one bag or more')
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
    decoder.add_device(parser)
    parser.add_argument(
        '--steps',
        type=int,
        help="optimiser steps (default: the model's); model small then makes as many of the "
        'predictor alone, which are fast; the decoder takes at most as many, and at most '
        f'{STEPS}',
    )
    parser.add_argument('--lr', type=float, help="peak learning rate (default: the model's)")
    collapse = parser.add_mutually_exclusive_group()
    collapse.add_argument(
        '--objective',
        choices=('lewm', 'pldm'),
        help='what keeps the latents from collapsing: SIGReg, or the terms of PLDM (default lewm)',
    )
    collapse.add_argument(
        '--frozen-encoder',
        type=Path,
        metavar='ENCODER',
        help='train only the predictor, on the latents of this encoder: FILE.onnx, or a bundle '
        'folder, whose encoder the new bundle then has',
    )
    parser.add_argument(
        '--sigreg-weight',
        type=float,
        metavar='LAMBDA',
        help="of SIGReg in the loss (default: the model's, 0.09); `lewm tune` finds one",
    )
    parser.add_argument(
        '--image-size',
        type=int,
        metavar='PX',
        help="of the images that the model reads (default: the model's)",
    )
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
    parser.add_argument(
        '--seed', type=int, default=0, help='of weights, batches and projections (default 0)'
    )
    parser.add_argument(
        '--no-roadmap', action='store_true', help='leave the roadmap of the bags out of the bundle'
    )
    parser.add_argument(
        '--no-decoder',
        action='store_true',
        help='do not train the decoder, which renders latents as images',
    )
    parser.add_argument('--resume', action='store_true', help='continue the run folder')


def run(args: argparse.Namespace) -> int:
    """Train, print held-out losses, add decoder and roadmap, and say whether it is ready."""
    keys = ('steps', 'lr', 'sigreg_weight', 'colour_jitter', 'image_size', 'objective')
    given = {key: getattr(args, key) for key in keys if getattr(args, key) is not None}
    bundle = train(
        args.data,
        Contract.load(find('contract', args.contract)),
        args.model,
        replace(CONFIGS[args.model], **given),
        args.out,
        RunFolder(args.folder or Path('runs') / name_of(args.out)),
        device=args.device,
        threads=args.threads,
        seed=args.seed,
        resume=args.resume,
        frozen_encoder=args.frozen_encoder,
    )
    if bundle is None:  # another torchrun process continues
        return 0
    for bag in bundle.manifest.provenance['bags']:
        losses = describe_losses(bag) if bag['held_out'] else 'none held out'
        print(f'{bag["name"]}: {losses}')
    print(f'wrote {bundle.path}')
    device = choose_device(args.device)
    name, provider = ('torch', device) if device == 'cuda' else (EngineConfig.engine, '')
    try:
        engine = load_engine(bundle, name, args.threads, provider=provider)
        if not args.no_decoder:
            steps = min(STEPS, bundle.manifest.provenance['config']['steps'])
            try:
                bundle = train_decoder(bundle, engine, args.data, steps, device, args.threads)
                print(decoder.describe(bundle))
            except (LewmError, OSError) as error:  # the bundle works without one
                print(f'no decoder: {error}', file=sys.stderr)
        _finish(bundle, engine, args.data, not args.no_roadmap)
    except (LewmError, OSError) as error:  # likewise
        print(f'no roadmap or verdict: {error}', file=sys.stderr)
    return 0


def _finish(bundle: Bundle, engine: Engine, data: Sequence[Path], roadmap: bool) -> None:
    """Add a roadmap of the bags, and print the verdict on their held-out episodes."""
    recordings = Recordings(bundle)

    def noted() -> Iterator[Encoded]:
        for encoded in encode_bags(bundle, engine, data, held_out=not roadmap):
            recordings.add(encoded)
            yield encoded

    if roadmap:
        try:
            bundle = build_roadmap(bundle, noted(), data)
            print(roadmap_text(bundle))
        except (LewmError, OSError) as error:  # the bundle works without one
            print(f'no roadmap: {error}', file=sys.stderr)
    else:
        deque(noted(), maxlen=0)
    print(describe(judge(examine(bundle, engine, recordings, planner_config('live', 0)))))
