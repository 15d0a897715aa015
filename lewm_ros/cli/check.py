# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm check CONTRACT [--data BAG ...]`: is a contract valid, and do bags fit it?"""

from __future__ import annotations

import argparse
from dataclasses import asdict
import json
from pathlib import Path

from lewm_ros.bags.bag_report import BagReport
from lewm_ros.bags.check import check_bag, check_contract
from lewm_ros.bags.reader import find_bags
from lewm_ros.bags.report_text import describe_check
from lewm_ros.errors import BagError
from lewm_ros.files import find


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.description = (
        'List all problems of a contract, and the topics that bags lack. Exit status 0 if '
        'everything fits, else 2.'
    )
    parser.add_argument('contract', help='a contract file, or a name in config/robots')
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
