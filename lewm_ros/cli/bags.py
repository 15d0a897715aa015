# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Shared by the commands that read bags: the bags, and the contract of those of a bundle."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from lewm_ros.api import load_bundle
from lewm_ros.bundle import Bundle


def add_bags(
    parser: argparse.ArgumentParser | argparse._ArgumentGroup,
    text: str,
    option: str = '--data',
    required: bool = True,
) -> None:
    """Declare an option for bags; one that is repeated adds to those before."""
    parser.add_argument(
        option,
        nargs='+',
        action='extend',
        type=Path,
        required=required,
        metavar='BAG',
        help=text,
    )


def add_contract(parser: argparse.ArgumentParser) -> None:
    """Declare the contract of the bags."""
    parser.add_argument(
        '--contract',
        metavar='FILE',
        help='contract file or name that the bags were recorded under, such as with other topics '
        "(default: the bundle's)",
    )


def bundle_for_bags(args: argparse.Namespace) -> Bundle:
    """Load the bundle, with the contract of the bags if one is given.

    Raises ConfigError if the contract does not fit the bundle's.
    """
    bundle, contract = load_bundle(args.bundle, args.contract)
    return replace(bundle, robot=contract)
