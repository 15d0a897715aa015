# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm check CONTRACT [--data BAG ...]`: is a contract valid, and do bags fit it?

`lewm check --draft BAG` writes the first version of a contract.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
from pathlib import Path
import sys

import yaml

from lewm_ros.bags.bag_report import BagReport
from lewm_ros.bags.check import check_bag, check_contract
from lewm_ros.bags.draft import draft
from lewm_ros.bags.reader import find_bags
from lewm_ros.bags.report_text import describe_check
from lewm_ros.errors import BagError, ConfigError
from lewm_ros.files import find
from lewm_ros.sim import find_task
from lewm_ros.sim.gymnasium_task import PREFIX


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'List all problems of a contract, and the topics that bags lack. Exit status 0 if '
        'everything fits, else 2. With --draft: list the topics of a bag and print a contract for '
        'it, to be read and completed.'
    )
    parser.add_argument('contract', nargs='?', help='a contract file, or a name in config/robots')
    parser.add_argument(
        '--draft',
        metavar='BAG',
        help=f'print a contract for a bag, or for a Gymnasium environment ({PREFIX}ID)',
    )
    parser.add_argument(
        '--data',
        nargs='+',
        action='extend',
        type=Path,
        default=[],
        help='bags, or folders of bags',
    )
    parser.add_argument('--json', action='store_true', help='print JSON')


def run(args: argparse.Namespace) -> int:
    """Check and print."""
    if (args.contract is None) == (args.draft is None):
        raise ConfigError('expected a contract, or --draft with a bag')
    if args.draft is not None and (args.data or args.json):
        raise ConfigError('--data and --json only have a meaning without --draft: leave them out')
    if args.draft is not None and args.draft.startswith(PREFIX):
        robot = find_task(args.draft).robot().to_dict()
        print(yaml.safe_dump(robot, sort_keys=False, default_flow_style=None), end='')
        return 0
    if args.draft is not None:
        return _draft(Path(args.draft))
    path = find('contract', args.contract)
    contract, problems = check_contract(path)
    bags = []
    for given in args.data:
        try:
            bags += [check_bag(bag, contract) for bag in find_bags([given])]
        except BagError as error:
            bags.append(BagReport(str(given)))
            bags[-1].add_problem(error)
    if args.json:
        print(
            json.dumps(
                {
                    'contract': str(path),
                    'problems': problems,
                    'bags': [asdict(report) for report in bags],
                }
            )
        )
    else:
        print('\n'.join(describe_check(path, contract, problems, bags)))
    return 2 if problems or any(report.problems for report in bags) else 0


def _draft(given: Path) -> int:
    bag, *others = find_bags([given])
    if others:
        raise ConfigError(f'{given} has {1 + len(others)} bags: give --draft one of them')
    text, lacking = draft(bag)
    print(text)
    for reason in lacking:
        print(f'lewm: error: bag {given}: {reason}', file=sys.stderr)
    return 2 if lacking else 0
