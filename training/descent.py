# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The optimiser loop for the small networks that are added to a bundle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from lewm_ros.progress import progress

#: One episode of so many is held out.
HELD_OUT_EVERY = 10


def descend(
    network: nn.Module,
    loss: Callable[[], torch.Tensor],
    steps: int,
    lr: float,
    name: str,
    shown: Callable[[float], str],
    **options: Any,
) -> None:
    """Minimise the loss of a batch, drawn anew by each call, by AdamW with one cycle of ``lr``.

    Args:
        network: trained in place.
        loss: of a batch.
        steps: of the optimiser, at least 1.
        lr: highest learning rate.
        name: of the progress bar.
        shown: writes a loss for the progress bar.
        options: of AdamW.

    """
    optimiser = torch.optim.AdamW(network.parameters(), lr=lr, **options)
    rise = 0.1 if steps != 10 else 0.2  # OneCycleLR divides by zero if the rise is one step
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, lr, steps, pct_start=rise)
    bar = progress(range(steps), desc=name, unit='step')
    for step in bar:
        error = loss()
        optimiser.zero_grad(set_to_none=True)
        error.backward()
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(error=shown(error.item()))
