# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Reads bags in a separate process, and prints outcome, time and memory for each.

Arguments: a contract, a sound bag to warm up with, and the bags. One line of JSON for each bag:
path, seconds, megabytes above the idle process, frames, reasons. If the process crashes or hangs,
the lines printed so far identify the bag.
"""

from __future__ import annotations

from collections import Counter
import json
from pathlib import Path
import signal
import sys
import time

from lewm_ros.bags.episodes import ReadReport, read_episodes
from lewm_ros.errors import BagError
from lewm_ros.robot.contract import Contract


def memory(key: str) -> float:
    """VmRSS or VmHWM of this process [MB]."""
    lines = Path('/proc/self/status').read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def main() -> None:
    """Read each bag with a timeout."""
    contract = Contract.load(sys.argv[1])
    list(read_episodes([sys.argv[2]], contract, 16))
    for path in sys.argv[3:]:
        signal.alarm(30)
        Path('/proc/self/clear_refs').write_text('5')  # resets the peak
        idle, start, report = memory('VmRSS'), time.monotonic(), ReadReport()
        try:
            for episode in read_episodes([path], contract, 16, report):
                del episode
            reasons = report.refused
        except BagError as error:
            reasons = Counter({str(error): 1})
        done = {
            'path': path,
            'seconds': time.monotonic() - start,
            'megabytes': memory('VmHWM') - idle,
            'frames': report.frames,
            'reasons': reasons,
        }
        print(json.dumps(done), flush=True)


if __name__ == '__main__':
    main()
