# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm export`: write a bundle's ONNX graphs anew from its weights."""

from __future__ import annotations

import argparse

from lewm_ros.bundle import OPTIONAL, Bundle
from lewm_ros.files import find
from lewm_ros.training.export import export_bundle


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument('bundle', help='bundle folder or name, rewritten in place')
    parser.add_argument(
        '--horizon', type=int, help='longest rollout of the graph [blocks] (default: as it was)'
    )


def run(args: argparse.Namespace) -> int:
    """Export, and print both hashes."""
    bundle = Bundle.load(find('bundle', args.bundle))
    written = export_bundle(bundle, args.horizon)
    print(f'{written.path}: model {written.hash[:12]}, was {bundle.hash[:12]}')
    if bundle.manifest.calibration:
        print('its thresholds belonged to the old graphs: run `lewm calibrate` again')
    for key, (_, _, command) in OPTIONAL.items():
        if getattr(bundle.manifest, key) is not None:
            print(f'its {key} belonged to the old graphs: run `lewm {command}` again')
    return 0
