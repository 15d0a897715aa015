# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""OGBench's own oracle with noise, for training data of OGBench-Cube."""

from __future__ import annotations

from typing import cast

import numpy as np

from lewm_ros.sim.cube import Cube
from lewm_ros.sim.scripted import ScriptedPolicy


class CubePolicy(ScriptedPolicy):
    """Carries the cube to one random place after another, noisily.

    One episode in eight is noise alone.
    """

    blind_share = 1 / 8

    def _begin_episode(self) -> None:
        """Begin with a new place for the cube."""
        from ogbench.manipspace.oracles.markov.cube_markov import CubeMarkovOracle

        self._env = cast(Cube, self._task).environment
        self._oracle = CubeMarkovOracle(env=self._env)
        self._begin()

    def _begin(self) -> None:
        """Draw a place for the cube, and one for the gripper after it."""
        self._env.set_new_target(return_info=False)
        np.random.seed(int(self._rng.integers(2**32)))  # what the oracle draws from
        self._oracle.reset(None, None)

    def _wanted(self) -> np.ndarray:
        """Return the oracle's action (5,)."""
        if self._oracle.done:
            self._begin()
        return np.asarray(self._oracle.select_action(None, self._env.compute_ob_info()))
