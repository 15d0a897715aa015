# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm roadmap`: which goals the recordings connect, and how long the paths take."""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
import os

from lewm_ros.bundle import ROADMAP, Bundle
from lewm_ros.cli.bags import add_bags, add_contract, bundle_for_bags
from lewm_ros.engines import ENGINES, EngineConfig, load_engine
from lewm_ros.evaluation.bags import encode_bags
from lewm_ros.evaluation.roadmap import NODES, build_roadmap
from lewm_ros.evaluation.verdict import COVERED


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    add_inputs(parser, 'the roadmap', 'bags of movements')
    parser.add_argument(
        '--nodes',
        type=int,
        default=NODES,
        help=f'maximum number of nodes; their radius grows to fit it (default {NODES})',
    )
    parser.add_argument(
        '--add', action='store_true', help='add the bags to the roadmap that the bundle has'
    )
    threads = len(os.sched_getaffinity(0))
    parser.add_argument(
        '--threads', type=int, default=threads, help=f'of an encoding (default {threads})'
    )
    parser.add_argument('--json', action='store_true', help='metrics as JSON on standard output')


def add_count(
    parser: argparse.ArgumentParser,
    name: str,
    default: int,
    text: str,
    highest: int | None = None,
) -> None:
    """Declare a number from 1 on, up to ``highest``, which is checked before bags are encoded."""

    def count(given: str) -> int:
        value = int(given)
        if value < 1 or (highest is not None and value > highest):
            wanted = 'at least 1' if highest is None else f'1 to {highest}'
            raise argparse.ArgumentTypeError(f'{given}: expected {wanted}')
        return value

    parser.add_argument(name, type=count, default=default, help=f'{text} (default {default})')


def add_inputs(parser: argparse.ArgumentParser, what: str, bags: str) -> None:
    """Declare the arguments of a command that adds a file made from encoded frames to a bundle."""
    parser.add_argument('bundle', help=f'bundle folder or name; {what} is put into it')
    add_bags(parser, f'{bags}; best those that the model was trained on')
    add_contract(parser)
    parser.add_argument(
        '--engine',
        choices=ENGINES,
        default=EngineConfig.engine,
        help=f'encodes the frames (default {EngineConfig.engine})',
    )


def run(args: argparse.Namespace) -> int:
    """Build the roadmap, and print what it covers."""
    bundle = bundle_for_bags(args)
    engine = load_engine(bundle, args.engine, args.threads)
    encoded = encode_bags(bundle, engine, args.data)
    bundle = build_roadmap(bundle, encoded, args.data, args.nodes, args.add)
    print(describe(bundle, args.json))
    return 0


def describe(bundle: Bundle, as_json: bool = False) -> str:
    """Say what the roadmap of a bundle covers, as text or JSON."""
    entry = bundle.manifest.roadmap
    if entry is None:
        return 'no roadmap'
    size = (bundle.path / ROADMAP).stat().st_size
    if as_json:
        figures = {k: v for k, v in asdict(entry).items() if k not in ('sha256', 'data')}
        return json.dumps(figures | {'bytes': size})
    return (
        f'roadmap: {entry.nodes} nodes of radius {entry.radius:.2f} and {entry.edges} edges from '
        f'{entry.frames} frames, {size / 1e6:.1f} MB; {entry.covered:.1%} of other frames are '
        f'within two radii of a node, {entry.connected:.1%} of pairs of them are connected; an '
        f'image farther than {entry.gap_limit:.2f} from every node counts as unlike anything '
        'recorded'
        + ('' if entry.covered > COVERED else '. The recordings are too few for this robot')
    )
