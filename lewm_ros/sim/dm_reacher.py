# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The Reacher of the paper: the arm of dm_control, towards poses instead of its target."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.install import how_to_install
from lewm_ros.sim.reacher import Reacher

#: Files that the model includes.
_INCLUDED = ('skybox', 'visual', 'materials')


class DmReacher(Reacher):
    """Two-link planar arm of dm_control's ``reacher``, torque control at 50 Hz.

    Its target is out of sight: the goal is an image. Success, as in stable-worldmodel: both joints
    within 0.05 rad.
    """

    name = 'dm_reacher'
    contract = 'dm_reacher.yaml'
    joints = ('shoulder', 'wrist')
    tolerance = 0.05
    painted = ('arm', 'hand', 'finger')
    camera = 'fixed'
    ELBOW = 2.7  #: 155 degrees; the joint ends at 160

    def _make_model(self) -> Any:
        """Read the model from the package, without its shadows and reflections."""
        try:
            folder = files('dm_control') / 'suite'
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"task {self.name}: Python package 'dm_control' is missing: {how_to_install('dmc')}"
            ) from error
        names = [f'common/{name}.xml' for name in _INCLUDED]
        assets = {f'./{name}': (folder / name).read_bytes() for name in names}
        xml = (folder / 'reacher.xml').read_text()
        model = self._mujoco.MjModel.from_xml_string(xml, assets)
        model.vis.quality.shadowsize = model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = model.vis.global_.offheight = 1280
        model.mat_reflectance[:] = 0
        model.geom('target').pos = np.array([0.0, 0.0, -1.0])  # below the ground
        return model
