# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""How latents spread and move: standard deviation, effective rank, straightness."""

from __future__ import annotations

import numpy as np


def latent_std(z: np.ndarray) -> float:
    """Mean over dimensions of the standard deviation over (N, D) latents; near 1 is healthy."""
    return float(z.std(axis=0, ddof=1).mean())


def effective_rank(z: np.ndarray) -> float:
    """Exponential of the entropy of the covariance's normalised spectrum of (N, D) latents."""
    spectrum = np.square(np.linalg.svd(z - z.mean(axis=0), compute_uv=False))
    share = spectrum / max(spectrum.sum(), 1e-12)
    return float(np.exp(-(share * np.log(np.maximum(share, 1e-12))).sum()))


def straightness(z: np.ndarray) -> float:
    """Mean cosine between one change and the next of latents (B, F, D), F ≥ 3 (paper section 5).

    1 where latents move along straight lines; 0 where each change is at right angles to the last.
    A latent that stays where it is counts as 0.
    """
    change = np.diff(z, axis=1)
    change /= np.maximum(np.linalg.norm(change, axis=2, keepdims=True), 1e-8)
    return float((change[:, 1:] * change[:, :-1]).sum(axis=2).mean())
