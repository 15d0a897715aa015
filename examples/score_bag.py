# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Score the frames of recorded bags with the monitor that surprise_node runs.

``python examples/score_bag.py BAG --bundle reacher`` prints every anomaly.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lewm_ros.api import require_calibration, thresholds_of
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.errors import LewmError
from lewm_ros.evaluation.scoring import score_episode
from lewm_ros.files import find
from lewm_ros.time import NS_PER_S


def main(argv: Sequence[str] | None = None) -> int:
    """Run the example."""
    parser = argparse.ArgumentParser(description='Score the frames of recorded bags.')
    parser.add_argument('bags', nargs='+', metavar='BAG', help='rosbag2 folders')
    parser.add_argument('--bundle', default='reacher', help='folder or name (default reacher)')
    parser.add_argument('--alpha', type=float, default=0.01, help='of the threshold (default 0.01)')
    args = parser.parse_args(argv)
    try:
        score(args.bags, args.bundle, args.alpha)
    except LewmError as error:
        parser.error(str(error))
    return 0


def score(bags: Sequence[str], name: str, alpha: float) -> None:
    """Print the scores of each episode, and its anomalies."""
    bundle = Bundle.load(find('bundle', name))
    engine = load_engine(bundle, horizon=1)
    thresholds = thresholds_of(require_calibration(bundle, alpha, horizon=1))
    episodes = read_episodes(bags, bundle.contract, bundle.manifest.image_size)
    for number, episode in enumerate(episodes, 1):
        found = score_episode(bundle, engine, episode, thresholds=thresholds)
        highest = found.scores.max(initial=0.0)
        print(
            f'episode {number}: {len(episode.stamps)} frames, {len(found.scores)} scored, highest '
            f'{highest:.2f} (threshold {thresholds.surprise:.2f})'
        )
        for events in found.events.values():
            for event in events:
                at = (event.start - episode.stamps[0]) / NS_PER_S
                print(f'  {event.kind} at {at:.2f} s, peak {event.peak_score:.2f}')


if __name__ == '__main__':
    raise SystemExit(main())
