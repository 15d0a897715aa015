# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Hashes of a bag's files, which identify a recording whatever its name."""

from __future__ import annotations

from collections.abc import Iterable
import hashlib
from pathlib import Path

from lewm_ros.bags.reader import bag_files


def file_hash(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    with path.open('rb') as stream:
        return hashlib.file_digest(stream, 'sha256').hexdigest()


def data_hashes(bags: Iterable[Path]) -> tuple[str, ...]:
    """SHA-256 (hex) of each file of some bags."""
    return tuple(digest for bag in bags for digest in bag_hashes(bag))


def bag_hashes(bag: Path) -> list[str]:
    """SHA-256 (hex) of each of a bag's files, in the order of recording."""
    return [file_hash(path) for path in bag_files(bag)]
