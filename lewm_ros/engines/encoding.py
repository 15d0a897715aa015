# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Encoding of camera images to latents."""

from __future__ import annotations

import numpy as np

from lewm_ros.engines.base import Engine
from lewm_ros.errors import ModelError, ObservationError
from lewm_ros.robot.contract import Camera
from lewm_ros.robot.imaging import other_view, prepare
from lewm_ros.robot.spec import ModelSpec


class FrameEncoder:
    """Encodes the images of one camera, frames and goals, which must show the same view.

    Args:
        spec: of the model that ``engine`` runs.
        camera: of the robot's contract.
        engine: from ``lewm_ros.engines.load_engine``.

    Attributes:
        size: width and height of the frames [px]; before the first those of the training data,
            None where the bundle does not say.

    """

    def __init__(self, spec: ModelSpec, camera: Camera, engine: Engine) -> None:
        self._image_size, self._crop, self._engine = spec.image_size, camera.crop, engine
        self.size, self._seen = spec.camera_size, False

    def frame(self, image: np.ndarray) -> np.ndarray:
        """Return the latent (D,) float32 of a frame (H, W, 3) uint8 RGB; errors as :meth:`goal`."""
        advice = '; set the camera to the mode of the recordings'
        if self._seen:
            advice = (
                '; if the camera has changed for good, reactivate encoder_node or load the policy '
                'again'
            )
        latent = self._encode(image, advice)
        self.size, self._seen = (image.shape[1], image.shape[0]), True
        return latent

    def goal(self, image: np.ndarray) -> np.ndarray:
        """Return the latent (D,) float32 of an image (H, W, 3) uint8 RGB of the same view.

        Raises ObservationError if the image has another aspect ratio than the frames, or another
        size where the camera is cropped; ModelError if the latent is not finite.
        """
        return self._encode(image)

    def _encode(self, image: np.ndarray, advice: str = '') -> np.ndarray:
        shape = np.shape(image)
        if len(shape) != 3 or shape[2] != 3 or not image.size or image.dtype != np.uint8:
            kind = getattr(image, 'dtype', type(image).__name__)
            raise ObservationError(
                f'image has shape {shape} and type {kind}: expected (height, width, 3), uint8'
            )
        size, before = (image.shape[1], image.shape[0]), self.size
        if before is not None and (what := other_view(size, before, self._crop is not None)):
            frames = 'frames' if self._seen else 'frames of the training data'
            raise ObservationError(
                f'image is {size[0]}x{size[1]} pixels, {frames} were {before[0]}x{before[1]}: '
                f'expected the same {what}{advice}'
            )
        latent = self._engine.encode(prepare(image, self._image_size, self._crop))
        if not np.isfinite(latent).all():
            raise ModelError('the encoder returned numbers that are not finite')
        return latent
