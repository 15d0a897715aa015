# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm inspect BAG --contract C`: statistics of bags and a contact sheet."""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
from pathlib import Path
import sys

from lewm_ros.bags.inspection import inspect_bags
from lewm_ros.bags.reader import find_bags
from lewm_ros.bags.report_text import describe_inspection
from lewm_ros.errors import BagError, ConfigError
from lewm_ros.evaluation.report import prepare_report
from lewm_ros.files import find

#: Context frames and control periods in a block of the models that `lewm train` makes. Their
#: configuration cannot be imported here: it comes with torch, which a robot does not need.
HISTORY, FRAMESKIP = 3, 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'Report rates, gaps, episodes, usable training windows, command ranges and the delay of '
        'bags, and draw a contact sheet. Exit status 2 if there is no usable window.'
    )
    parser.add_argument('bags', nargs='+', type=Path, help='bags, or folders of bags')
    parser.add_argument(
        '--contract', required=True, help='a contract file, or a name in config/robots'
    )
    parser.add_argument(
        '--image-size',
        type=int,
        default=64,
        help='image size of the model [px], as for training (default 64)',
    )
    parser.add_argument(
        '--out',
        type=Path,
        help='contact sheet, PNG (default inspect.png; none with --json)',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')


def _prepared(out: Path, wanted: bool) -> Path | None:
    """Check that the contact sheet can be written; None if it cannot and was not requested."""
    try:
        if out.is_dir():
            raise ConfigError(f'--out {out} is a folder: expected a file such as {out}/inspect.png')
        prepare_report(out.parent)
    except ConfigError as error:
        if wanted or not isinstance(error.__cause__, OSError):
            raise
        print(f'no contact sheet: {error}', file=sys.stderr)
        return None
    return out


def run(args: argparse.Namespace) -> int:
    """Inspect and print. Raises BagError where there is no usable window."""
    if args.image_size < 1:
        raise BagError(f'--image-size is {args.image_size}: expected 1 or more')
    path = find('contract', args.contract)
    bags = find_bags(args.bags)
    out = args.out or (None if args.json else Path('inspect.png'))
    if out is not None:
        out = _prepared(out, args.out is not None)
    report = inspect_bags(bags, path, args.image_size, HISTORY, FRAMESKIP, out)
    if args.json:
        print(json.dumps(asdict(report), allow_nan=False))
    else:
        print('\n'.join(describe_inspection(report)))
    if not report.windows:
        raise BagError(report.why_unusable())
    return 0
