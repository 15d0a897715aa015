# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How often a calibrated bundle raises a false alarm, on nominal data that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
import logging
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.bags.hashes import bag_hashes
from lewm_ros.bags.reader import find_bags
from lewm_ros.bundle import Bundle
from lewm_ros.engines import Engine
from lewm_ros.errors import CalibrationError
from lewm_ros.evaluation.bags import read_marked
from lewm_ros.evaluation.detection import share
from lewm_ros.evaluation.intervals import exceedance
from lewm_ros.evaluation.scoring import score_episode
from lewm_ros.surprise.calibration import window_maxima
from lewm_ros.time import NS_PER_S

log = logging.getLogger('lewm')


def false_alarms(
    bundle: Bundle, engine: Engine, bags: Sequence[Path], horizon: int
) -> dict[str, dict[str, Any]]:
    """Share of windows with a false alarm, for every alpha of a horizon [blocks].

    Windows are as long as those of the calibration. ``chance`` is that of as many alarms or more,
    if the data are like those of the calibration. Episodes that the bundle was trained on are left
    out. Raises CalibrationError if a bag was used for the calibration, or if there is no complete
    window.
    """
    refuse_calibrated(bundle, bags)
    stamps, scores, lengths = [], [], []
    trained_on = 0
    for episode, fresh in read_marked(bundle, bags):
        trained_on += not fresh
        if not fresh:
            continue
        scored = score_episode(bundle, engine, episode, horizon)
        stamps.append(scored.stamps)
        scores.append(scored.scores)
        lengths.append(float(episode.stamps[-1] - episode.stamps[0]) / NS_PER_S)
    if trained_on:
        log.warning('%d episodes were used to train this bundle: left out', trained_on)
    episodes = np.repeat(np.arange(len(scores)), [len(s) for s in scores])
    found = {}
    for entry in bundle.manifest.calibration:
        if entry.horizon != horizon:
            continue
        maxima = np.empty(0)
        if len(episodes):
            all_stamps, all_scores = np.concatenate(stamps), np.concatenate(scores)
            maxima = window_maxima(all_stamps, all_scores, entry.window, episodes)
        if not len(maxima):
            raise CalibrationError(
                f'no frame with a score in {[str(b) for b in bags]}: expected longer episodes'
                if entry.window is None
                else f'no whole window of {entry.window} s in {[str(b) for b in bags]}: expected '
                'episodes that are longer'
            )
        seconds = float(np.mean(lengths)) if entry.window is None else entry.window
        alarms = int((maxima > entry.threshold).sum())
        counted = share('rate', alarms, len(maxima))
        found[str(entry.alpha)] = {
            'rate': counted['rate'],
            'low': counted['rate_low'],
            'high': counted['rate_high'],
            'windows': len(maxima),
            'chance': exceedance(alarms, len(maxima), entry.alpha, entry.windows),
            'per_hour': counted['rate'] * 3600 / seconds,
        }
    return found


def refuse_calibrated(bundle: Bundle, bags: Sequence[Path]) -> None:
    """Raise CalibrationError for bags that thresholds of the bundle were computed from.

    They are known by the SHA-256 of their files, which some calibrations lack.
    """
    entries = bundle.manifest.calibration
    if any(entry.data is None for entry in entries):
        log.warning(
            '%s: its calibration does not record the hashes of its bags, so it is not checked '
            'whether these bags were used for it',
            bundle.path,
        )
    used = {digest for entry in entries for digest in entry.data or ()}
    for bag in find_bags(bags):
        if not used.isdisjoint(bag_hashes(bag)):
            raise CalibrationError(
                f'bag {bag} was used to calibrate {bundle.path}: expected other episodes, of '
                'another --seed or recording'
            )
