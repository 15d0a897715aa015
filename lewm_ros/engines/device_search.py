# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Iterations of the planner's search in torch, each one captured CUDA graph.

Drawing, rollout, cost, ranking and refit are a few hundred small kernels; launched one by one,
their launches take longer than their work. A captured graph launches them at once, and the host
waits a single time, for the packed result. What a graph reads and writes are the same buffers in
every replay, so inputs are copied into buffers, and nothing in it may depend on their values.
The capture has not been run on a GPU yet.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
import math

import numpy as np
import torch

from lewm_ros.bundle import Manifest
from lewm_ros.errors import EngineError, ModelError
from lewm_ros.model import FastRollout

MIN_STD = 1e-3  #: as lewm_ros.planning.cem.MIN_STD, which engines may not import

_WARM_UP = 3  #: calls before a capture: the first ones allocate and tune what a capture may not


class DeviceSearch:
    """What :class:`lewm_ros.planning.cem.NumpySearch` does, on the device of a rollout.

    As there, candidates and all that is computed from them are float64; rollouts are float32.
    Off CUDA the same steps are called, not captured. For one thread at a time.

    Args:
        manifest: of the bundle that the rollouts run.
        exact: float32 rollout; its device is where everything is computed.
        fast: cheaper rollout for early iterations, or ``exact`` itself.
        samples: S, candidates in an iteration, the mean included.
        elites: best candidates that the next mean and spread are computed from.
        blocks: T, free blocks of a plan.
        shared_first: whether the free blocks follow one that all candidates share.

    Raises ModelError if a size makes no sense, EngineError if CUDA refuses the capture.

    """

    def __init__(
        self,
        manifest: Manifest,
        exact: FastRollout,
        fast: FastRollout,
        samples: int,
        elites: int,
        blocks: int,
        shared_first: bool,
    ) -> None:
        if not (1 <= elites <= samples and blocks >= 1):
            raise ModelError(
                f'search has {samples} samples, {elites} elites and {blocks} blocks: expected at '
                'least 1 block and elites in [1, samples]'
            )
        self.coarse = fast is not exact
        self._rollouts = {True: exact, False: fast}
        self._device = exact.positions.device
        size = manifest.frameskip * manifest.contract.action.size
        self._samples, self._elites, self._shape = samples, elites, (blocks, size)
        single = partial(torch.zeros, dtype=torch.float32, device=self._device)
        double = partial(torch.zeros, dtype=torch.float64, device=self._device)
        self._context = single(manifest.history, manifest.latent_size)
        self._past = single(manifest.history - 1, size)
        self._first = single(size) if shared_first else None
        self._goal = single(manifest.latent_size)
        self._weights = double(blocks + shared_first)
        self._low, self._high = double(size), double(size)
        self._std = double(blocks, size)
        self._noise = double(samples, blocks, size)
        # Row 0 is the mean, then come the extra sequences; rows from ``count`` on are drawn.
        self._given = double(samples, blocks, size)
        self._count = torch.ones((), dtype=torch.int64, device=self._device)
        self._rows = torch.arange(samples, device=self._device)[:, None, None]
        self._generator = torch.Generator(self._device)
        sizes = (blocks * size, blocks * size, elites * blocks * size, elites, 1)
        self._ends = np.cumsum(sizes)
        # Pinned memory is what the device can write to without a detour.
        on_cuda = self._device.type == 'cuda'
        self._host = torch.empty(sum(sizes), dtype=torch.float64, pin_memory=on_cuda)
        with torch.inference_mode():
            iterate = self._ready(partial(self._step, True))
            self._iterations = {True: iterate, False: iterate}
            if self.coarse:
                self._iterations[False] = self._ready(partial(self._step, False))
            self._check = self._ready(lambda: self._costs(self._given[:1], exact=True))

    def seed(self, seed: int) -> None:
        """Start the noise anew: equal seeds give equal searches on equal devices."""
        self._generator.manual_seed(seed)

    @torch.inference_mode()
    def load(
        self,
        context: np.ndarray,
        past: np.ndarray,
        first: np.ndarray | None,
        goal: np.ndarray,
        weights: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
    ) -> None:
        """Set what is searched, before the iterations of a plan.

        Args:
            context: (H, D) latents, oldest first.
            past: (H − 1, k·A) normalised blocks between them.
            first: (k·A,) normalised block in front of the free ones, or None where
                ``shared_first`` is False.
            goal: (D,) latent.
            weights: of each predicted step, (T,), with a shared first block (T + 1,).
            low: (k·A,) lowest values of a free block; −inf for none.
            high: (k·A,) highest values, likewise.

        Raises ModelError if a shape is another.

        """
        if (first is None) != (self._first is None):
            raise ModelError(
                f'first is {"None" if first is None else "given"}: the search was made '
                f'{"without" if self._first is None else "with"} a shared first block'
            )
        if first is not None and self._first is not None:
            _fill(self._first, first, 'first')
        _fill(self._context, context, 'context')
        _fill(self._past, past, 'past')
        _fill(self._goal, goal, 'goal')
        _fill(self._weights, weights, 'weights')
        _fill(self._low, low, 'low')
        _fill(self._high, high, 'high')

    @torch.inference_mode()
    def iterate(
        self, mean: np.ndarray, std: np.ndarray, extra: np.ndarray | None, exact: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, float]:
        """Draw candidates, cost them and refit; see ``lewm_ros.planning.cem.Search.iterate``.

        Args:
            mean: (T, k·A), within bounds.
            std: (T, k·A) spread.
            extra: (E, T, k·A) sequences to try as well, or None; at most S − 1 are used.
            exact: with the float32 rollout.

        Returns:
            Mean and spread of the elites (T, k·A); the elites (E', T, k·A), best first; their
            costs (E',); the cost of ``mean``. All float64.

        Raises ModelError if a shape is another.

        """
        _fill(self._given[:1], mean[None], 'mean')
        _fill(self._std, std, 'std')
        used = 0 if extra is None else min(len(extra), self._samples - 1)
        if extra is not None:
            _fill(self._given[1 : 1 + used], extra[:used], 'extra')
        self._count.fill_(1 + used)
        self._host.copy_(self._iterations[exact]())  # the host waits here, for all of it
        result = self._host.numpy().copy()
        new_mean, new_std, elites, costs, cost = np.split(result, self._ends[:-1])
        found = int(np.isfinite(costs).sum())  # sorted: the finite ones come first
        return (
            new_mean.reshape(self._shape),
            new_std.reshape(self._shape),
            elites.reshape(-1, *self._shape)[:found],
            costs[:found],
            float(cost[0]),
        )

    @torch.inference_mode()
    def cost(self, mean: np.ndarray) -> float:
        """Exact cost of one sequence (T, k·A); inf where not finite."""
        _fill(self._given[:1], mean[None], 'mean')
        return float(self._check()[0])

    def _step(self, exact: bool) -> torch.Tensor:
        """One iteration on the buffers; returns all results in one vector, (P,) float64.

        May be captured: it waits for nothing, and no shape or branch depends on a value.
        """
        self._noise.normal_(generator=self._generator)
        mean, std = self._given[0], self._std
        drawn = mean + std * self._noise
        candidates = torch.where(self._rows < self._count, self._given, drawn)
        candidates = candidates.clamp(self._low, self._high)
        costs = self._costs(candidates, exact)
        ranked, order = costs.sort(stable=True)
        ranked, elites = ranked[: self._elites], candidates[order[: self._elites]]
        left_out = ~ranked.isfinite()[:, None, None]
        found = self._elites - left_out.sum()
        divisor = found.clamp(min=1)
        centre = elites.masked_fill(left_out, 0.0).sum(dim=0) / divisor
        squares = (elites - centre).square().masked_fill(left_out, 0.0)
        spread = (squares.sum(dim=0) / divisor).sqrt().clamp(min=MIN_STD)
        centre, spread = torch.where(found > 0, centre, mean), torch.where(found > 0, spread, std)
        parts = (centre, spread, elites, ranked, costs[:1])
        return torch.cat([part.flatten() for part in parts])

    def _costs(self, candidates: torch.Tensor, exact: bool) -> torch.Tensor:
        """Costs (S,) float64 of candidates (S, T, k·A); inf where not finite."""
        rollout = self._rollouts[exact]
        context, past = self._context, self._past
        latents: list[torch.Tensor] = []
        if self._first is not None:
            # What it leads to is the same for all candidates: a frame more in their context.
            latents = rollout(context, past, self._first[None, None])
            beyond = max(0, len(context) + 1 - rollout.window)
            context = torch.cat((context, latents[0]))[beyond:]
            past = torch.cat((past, self._first[None]))[beyond:]
        latents = latents + rollout(context, past, candidates.float())
        costs = torch.zeros_like(candidates[:, 0, 0])
        for weight, latent in zip(self._weights, latents):
            costs = costs + weight * (latent - self._goal).square().sum(dim=1).double()
        return costs.masked_fill(~costs.isfinite(), math.inf)

    def _ready(self, step: Callable[[], torch.Tensor]) -> Callable[[], torch.Tensor]:
        """Return what runs ``step``: on CUDA a replay of its capture, which writes one tensor."""
        if self._device.type != 'cuda':
            return step
        try:
            with torch.cuda.device(self._device):
                stream = torch.cuda.Stream()
                stream.wait_stream(torch.cuda.current_stream())
                with torch.cuda.stream(stream):
                    for _ in range(_WARM_UP):
                        step()
                graph = torch.cuda.CUDAGraph()
                # A version here compares by number. Later ones find the generator themselves.
                if torch.__version__ < '2.14':
                    graph.register_generator_state(self._generator)
                # Other threads (the encoder's) may go on meanwhile.
                with torch.cuda.graph(graph, stream=stream, capture_error_mode='thread_local'):
                    result = step()
        except RuntimeError as error:
            raise EngineError(
                f'the search cannot be captured on {self._device} ({" ".join(str(error).split())})'
                ": use the provider 'cpu'"
            ) from error

        def replay() -> torch.Tensor:
            graph.replay()
            return result

        return replay


def _fill(buffer: torch.Tensor, array: np.ndarray, name: str) -> None:
    """Copy to a buffer of the same shape."""
    if np.shape(array) != tuple(buffer.shape):  # copy_ would spread a smaller one over it
        raise ModelError(
            f'{name} has shape {np.shape(array)}: the search reads {tuple(buffer.shape)}'
        )
    buffer.copy_(torch.tensor(array, dtype=buffer.dtype))
