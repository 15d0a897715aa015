# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Headless MuJoCo rendering: picks a GL backend before mujoco is imported.

Two traps are designed around (seen with mujoco 3.17 on Mesa): shadows and multisampling cost
5 to 30 times the rest of a software render, so the models switch both off; and a Renderer that
is garbage-collected after a second one was made leaves the second returning noise, so each
process keeps one at a time.
"""

from __future__ import annotations

import ctypes.util
import os
from types import ModuleType
from typing import Any

import numpy as np

from lewm_ros.errors import ConfigError, one_line
from lewm_ros.install import how_to_install

_LIBRARIES = 'install libosmesa6 (MUJOCO_GL=osmesa) or libegl1 and libgl1-mesa-dri (MUJOCO_GL=egl)'

_open_renderer: Any = None


def choose_backend() -> None:
    """Choose how MuJoCo renders offscreen, before it is imported; a MUJOCO_GL set before is kept.

    Raises ConfigError naming the package to install.
    """
    if not os.environ.get('MUJOCO_GL'):
        for backend, library in (('osmesa', 'OSMesa'), ('egl', 'EGL')):
            if ctypes.util.find_library(library):
                os.environ['MUJOCO_GL'] = backend
                break
        else:
            raise ConfigError(
                'no offscreen OpenGL library found: install libosmesa6 '
                '(apt-get install libosmesa6), or libegl1 and libgl1-mesa-dri'
            )
    # llvmpipe would otherwise take every core away from the planner.
    os.environ.setdefault('LP_NUM_THREADS', '1')


def load_mujoco() -> ModuleType:
    """Import mujoco with a working offscreen backend chosen.

    Raises ConfigError naming the package to install.
    """
    choose_backend()
    try:
        import mujoco
    except ImportError as error:
        raise ConfigError(
            f'mujoco cannot be imported ({error}): {how_to_install("sim")}'
        ) from error
    except (AttributeError, RuntimeError) as error:  # of the library that MUJOCO_GL names
        raise ConfigError(
            f'mujoco cannot render with MUJOCO_GL={os.environ["MUJOCO_GL"]} ({one_line(error)}): '
            f'{_LIBRARIES}'
        ) from error
    return mujoco


class Camera:
    """An offscreen camera of one MuJoCo model; the process may hold one at a time.

    Args:
        model: an MjModel.
        name: of its camera.
        size: height and width of an image [px], or one number for both. The camera's vertical
            field of view is fixed: a wider image shows more to the left and right.

    Raises ConfigError for a size that the model's buffer does not hold.

    """

    def __init__(self, model: Any, name: str, size: int | tuple[int, int]) -> None:
        global _open_renderer
        mujoco = load_mujoco()
        if _open_renderer is not None:
            raise ConfigError('a camera is open in this process: close it first')
        height, width = (size, size) if isinstance(size, int) else size
        most = (model.vis.global_.offheight, model.vis.global_.offwidth)
        if not (1 <= height <= most[0] and 1 <= width <= most[1]):
            raise ConfigError(
                f'image size is {width}x{height} px: expected 1x1 to {most[1]}x{most[0]}'
            )
        try:
            self._renderer = mujoco.Renderer(model, height=height, width=width)
        except Exception as error:  # mujoco raises plain and GL-specific types here
            raise ConfigError(
                f'cannot open an offscreen renderer with MUJOCO_GL={os.environ["MUJOCO_GL"]} '
                f'({error}): {_LIBRARIES}'
            ) from error
        _open_renderer = self._renderer
        flags = self._renderer.scene.flags
        flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._name = name

    def render(self, data: Any) -> np.ndarray:
        """Return the image of this state, (H, W, 3) uint8 RGB."""
        self._renderer.update_scene(data, camera=self._name)
        return self._renderer.render()

    def close(self) -> None:
        """Free the GL context. Safe to call twice."""
        global _open_renderer
        if _open_renderer is self._renderer:
            self._renderer.close()
            _open_renderer = None
