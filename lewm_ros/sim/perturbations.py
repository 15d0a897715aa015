# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Perturbations of a simulated world: physical ones, and those of the camera image only.

Physical perturbations change the state of the world; each task implements its own. The others
change the camera image, and are the same for every task.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

#: Camera shift, amplitude of a drift and side of an occlusion, as fractions of the image height.
SHIFT, DRIFT, COVER = 0.08, 0.12, 0.45
DRIFT_PERIOD = 20.0  #: [s]


@dataclass(frozen=True)
class Perturbation:
    """One kind of perturbation.

    Attributes:
        physical: the state of the world changes; otherwise only its image does.
        abrupt: fully present from one frame to the next; otherwise it grows slowly.
        seconds: how long it lasts [s of simulated time]; 0 is a moment, None until the reset.

    """

    physical: bool
    abrupt: bool
    seconds: float | None


#: Every kind, by name; a reset ends all of them.
PERTURBATIONS = {
    # The object jumps to another place: the arm, the puck.
    'teleport': Perturbation(physical=True, abrupt=True, seconds=0.0),
    # A blow from outside that no command explains: a step in velocity.
    'push': Perturbation(physical=True, abrupt=True, seconds=0.0),
    # The robot and its object are painted anew.
    'colour': Perturbation(physical=False, abrupt=True, seconds=None),
    # A grey square hides a fifth of the image.
    'occlusion': Perturbation(physical=False, abrupt=True, seconds=1.0),
    # The camera is knocked sideways.
    'camera_shift': Perturbation(physical=False, abrupt=True, seconds=None),
    # The light is turned down to between a half and three quarters.
    'light': Perturbation(physical=False, abrupt=True, seconds=None),
    # One image comes again and again, under new stamps, while the world goes on.
    'freeze': Perturbation(physical=False, abrupt=True, seconds=2.0),
    # The camera swings from side to side, a sine of 20 s.
    'drift': Perturbation(physical=False, abrupt=False, seconds=None),
}


class Appearance:
    """What the camera shows of a model: as it is, or perturbed.

    Args:
        model: an MjModel.
        camera: name of the camera, which looks straight down.
        painted: geoms that a change of colour repaints.

    """

    def __init__(self, model: Any, camera: str, painted: tuple[str, ...]) -> None:
        self._model, self._camera = model, model.camera(camera).id
        self._painted = [model.geom(name).id for name in painted]
        self._light = model.vis.headlight
        self._rgba = model.geom_rgba.copy()
        self._place = model.cam_pos.copy()
        self._ambient, self._diffuse = self._light.ambient.copy(), self._light.diffuse.copy()
        above, angle = self._place[self._camera, 2], np.radians(model.cam_fovy[self._camera])
        self._height = 2 * above * np.tan(angle / 2)
        self._active: dict[str, tuple[float, Any]] = {}  # kind → start [s], parameter

    def begin(self, kind: str, time: float, rng: np.random.Generator) -> None:
        """Begin a perturbation of the image at ``time`` [s]; an active one starts over."""
        how: Any = None
        if kind == 'colour':
            how = rng.uniform(0.1, 0.9, (len(self._painted), 3))
        elif kind in ('camera_shift', 'drift'):
            angle = rng.uniform(-np.pi, np.pi)
            how = self._height * np.array([np.cos(angle), np.sin(angle), 0.0])
        elif kind == 'light':
            how = rng.uniform(0.5, 0.75)
        elif kind == 'occlusion':
            how = rng.uniform(0.0, 1 - COVER, 2)
        self._active[kind] = (time, how)

    def end(self) -> None:
        """End every perturbation."""
        self._active.clear()
        self.restore()

    def restore(self) -> None:
        """Give the model its normal appearance, for an image of how it should be."""
        self._model.geom_rgba[:] = self._rgba
        self._model.cam_pos[:] = self._place
        self._light.ambient[:], self._light.diffuse[:] = self._ambient, self._diffuse

    def apply(self, time: float) -> None:
        """Give the model its appearance at ``time`` [s]."""
        self.restore()
        for kind, (since, _) in list(self._active.items()):
            lasts = PERTURBATIONS[kind].seconds
            if lasts is not None and time >= since + lasts - 1e-9:
                del self._active[kind]
        if 'colour' in self._active:
            self._model.geom_rgba[self._painted, :3] = self._active['colour'][1]
        if 'light' in self._active:
            self._light.ambient[:] *= self._active['light'][1]
            self._light.diffuse[:] *= self._active['light'][1]
        if 'camera_shift' in self._active:
            self._model.cam_pos[self._camera] += SHIFT * self._active['camera_shift'][1]
        if 'drift' in self._active:
            since, way = self._active['drift']
            swing = np.sin(2 * np.pi * (time - since) / DRIFT_PERIOD)
            self._model.cam_pos[self._camera] += DRIFT * swing * way

    def finish(self, image: np.ndarray) -> np.ndarray:
        """Return the image (H, W, 3) uint8 as the camera delivers it."""
        if 'occlusion' in self._active:
            height, width = image.shape[:2]
            rows, columns = self._active['occlusion'][1] * (height, width)
            side = round(COVER * height), round(COVER * width)
            image[round(rows) :, round(columns) :][: side[0], : side[1]] = 70
        if 'freeze' in self._active:
            since, frozen = self._active['freeze']
            image = image if frozen is None else frozen
            self._active['freeze'] = (since, image)
            return image.copy()
        return image
