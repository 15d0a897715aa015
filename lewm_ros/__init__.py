# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""LeWorldModel on robots: latent world-model control and calibrated surprise for ROS 2.

The public Python API, imported on first use::

    policy = lewm_ros.Policy.load('reacher')
    policy.set_goal(image)
    policy.observe(image, stamp)
    command = policy.command(now)
    monitor = lewm_ros.SurpriseMonitor.load('reacher')
    monitor.add_action(stamp, command)
    reading = monitor.see(image, stamp)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lewm_ros.api import Policy, SurpriseMonitor

__all__ = ['Policy', 'SurpriseMonitor']
__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
    """Import a name of the public API."""
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from lewm_ros import api

    return getattr(api, name)
