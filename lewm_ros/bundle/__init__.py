# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A trained model on disk: manifest, weights and graphs in one folder, each file hashed."""

from lewm_ros.bundle.bundle import CARD, Bundle, add_file, rewrite_manifest, write_bundle
from lewm_ros.bundle.manifest import (
    DECODER,
    ENCODER,
    FILES,
    IMAGINED,
    INVERSE,
    OPTIONAL,
    ROADMAP,
    ROLLOUT,
    WEIGHTS,
    Calibration,
    DecoderEntry,
    Manifest,
    PolicyEntry,
    RoadmapEntry,
)
from lewm_ros.bundle.place import check_writable, name_of, refuse_other
from lewm_ros.files import MANIFEST

__all__ = [
    'CARD',
    'DECODER',
    'ENCODER',
    'FILES',
    'IMAGINED',
    'INVERSE',
    'MANIFEST',
    'OPTIONAL',
    'ROADMAP',
    'ROLLOUT',
    'WEIGHTS',
    'Bundle',
    'Calibration',
    'DecoderEntry',
    'Manifest',
    'PolicyEntry',
    'RoadmapEntry',
    'add_file',
    'check_writable',
    'name_of',
    'refuse_other',
    'rewrite_manifest',
    'write_bundle',
]
