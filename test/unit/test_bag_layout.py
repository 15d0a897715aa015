# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the recorder and the readers share: stamps in serialised bytes, and file order."""

from __future__ import annotations

from pathlib import Path
import struct
import subprocess
import sys

from lewm_ros.bags.layout import header_stamp, natural
from lewm_ros.time import NS_PER_S


def test_the_stamp_is_read_from_the_serialised_header():
    """The header stamp is read from CDR bytes of either byte order, without decoding pixels."""
    assert header_stamp(struct.pack('<HHiI', 0x0100, 0, 5, 7)) == 5 * NS_PER_S + 7
    assert header_stamp(struct.pack('>HHiI', 0, 0, 5, 7)) == 5 * NS_PER_S + 7


def test_a_message_too_short_for_a_header_has_no_stamp():
    """Bytes too short for a header give stamp 0: damaged messages reach readers and recorder."""
    whole = struct.pack('<HHiI', 0x0100, 0, 5, 7)
    assert [header_stamp(whole[:length]) for length in range(12)] == [0] * 12


def test_numbers_in_names_count_as_numbers():
    """Digits in names sort as numbers (bag_10 after bag_9); a superscript digit is text."""
    names = ['10_bag.mcap', 'bag.mcap', 'bag_9.mcap', 'bag_10.mcap', 'bag_10_2.mcap', 'bag_²']
    assert [p.name for p in sorted(map(Path, reversed(names)), key=natural)] == names


def test_it_needs_no_reader_of_bags():
    """Importing the module loads none of the packages that read and write bags."""
    code = (
        'import lewm_ros.bags.layout, sys; '
        'print(sorted({m.split(".")[0] for m in sys.modules} & {"mcap", "rosbags", "zstandard"}))'
    )
    shown = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == '[]'
