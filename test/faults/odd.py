# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Numbers that no robot and no model should produce."""

from __future__ import annotations

import numpy as np

ODD = np.array([np.nan, np.inf, -np.inf, 1.7e308, -1.7e308, 5e-324, -0.0, 1e9, 0.0])


def number(rng: np.random.Generator) -> float:
    """Return a number of any size, often an odd one."""
    if rng.random() < 0.3:
        return float(rng.choice(ODD))
    return float(rng.normal() * 10.0 ** rng.integers(-3, 4))
