# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Colour jitter: what it changes in an image, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lewm_ros.robot.imaging import MEAN, STD, normalise
from lewm_ros.training.augment import jitter_colours


def shown(pixels: torch.Tensor) -> np.ndarray:
    """Undo the normalisation: (..., S, S, 3) in [0, 1]."""
    return np.moveaxis(pixels.numpy(), -3, -1) * STD + MEAN


@pytest.fixture
def image() -> np.ndarray:
    """Return an image with greys of all shades on the left, two colours on the right."""
    rng = np.random.default_rng(0)
    image = np.repeat(rng.integers(0, 256, (16, 16, 1), dtype=np.uint8), 3, axis=2)
    image[:, 8:] = [215, 50, 40]
    image[4:9, 10:14] = [40, 75, 215]
    return image


def test_greys_and_shapes_stay_and_every_frame_has_colours_of_its_own(image):
    """Jitter keeps greys and shapes, and gives every frame of windows (b, F) its own colours."""
    torch.manual_seed(0)
    pixels = torch.from_numpy(normalise(np.broadcast_to(image, (8, 4, *image.shape)).copy()))
    before, after = shown(pixels), shown(jitter_colours(pixels, 0.5))
    assert after.shape == before.shape and after.min() >= -1e-6 and after.max() <= 1 + 1e-6
    np.testing.assert_allclose(after[..., :8, :], before[..., :8, :], atol=1e-5)
    red, blue = after[:, :, 0, 8].reshape(-1, 3), after[:, :, 5, 11].reshape(-1, 3)
    for colours, frames in ((red, after[:, :, :4, 8:]), (blue, after[:, :, 4:9, 10:14])):
        apart = np.abs(colours[:, None] - colours[None]).max(axis=2)
        assert (apart[~np.eye(len(colours), dtype=bool)] > 1e-3).all()
        flat = frames.reshape(len(colours), -1, 3)
        np.testing.assert_allclose(flat, np.broadcast_to(colours[:, None], flat.shape), atol=1e-6)


def test_strength_is_how_far_colours_go():
    """The colour change is proportional to the strength unless clipped; at 0 there is none."""
    pixels = torch.from_numpy(normalise(np.full((64, 4, 4, 3), (140, 120, 110), np.uint8)))

    def change(strength: float) -> torch.Tensor:
        torch.manual_seed(1)
        return jitter_colours(pixels, strength) - pixels

    assert change(0.0).abs().max() < 1e-5
    torch.testing.assert_close(change(0.4), 2 * change(0.2), rtol=1e-4, atol=1e-5)
    colour = torch.tensor([140, 120, 110]) / 255
    spread = (change(0.4)[:, :, 0, 0] * torch.from_numpy(STD)).square().mean().sqrt()
    # Weights of standard deviation s, s uniform in [0, 0.4], minus their mean over the row.
    expected = 0.4 / np.sqrt(3) * (colour - colour.mean()).norm()
    assert 0.8 < spread / expected < 1.25
