# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Roadmap of recorded latents: the time from any latent to a goal, estimated from recordings.

The latents of a bag's frames are thinned to nodes. If a recording passes from one node to another
within two blocks, a directed edge with the duration connects them. The time to a goal over these
edges has no local minima where the squared latent distance has them, so as a cost it leads to goals
far beyond the end of one plan. All times are in [s], all distances Euclidean in latent space.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
import logging
from typing import Any

import numpy as np

from lewm_ros.errors import ModelError
from lewm_ros.robot.history import frames_in
from lewm_ros.time import NS_PER_S

#: Radius of a node: the distance of a fast robot in this many blocks, but at most this fraction of
#: the distance between two random frames, because latents of few degrees of freedom fold within a
#: block. The radius grows by the last factor until the nodes are within their maximum number.
RADIUS_BLOCKS, RADIUS_SPREAD, GROWTH = 0.25, 0.15, 1.1
#: Longest recorded segment that becomes an edge [blocks].
EDGE_BLOCKS = 2.0
#: Quantile of the recorded speeds that is the speed of a "fast robot".
FAST = 0.9
#: Fraction of the episodes held out to measure gaps; quantile of these gaps up to which a latent
#: counts as like something recorded; pairs of held-out frames that are tested for a connection.
HELD_OUT, GAP_QUANTILE, PAIRS = 0.1, 0.99, 200
#: Smallest and largest gap limit [node radii].
LIMITS = 1.5, 4.0
#: Frames compared with all nodes at a time; bounds the memory that takes.
_CHUNK = 1024
#: Latents whose times to the goal are computed at a time: the matrix of latents by nodes should fit
#: into the CPU cache.
_ROWS = 128
log = logging.getLogger('lewm')
#: Added to squared distances, times the largest squared norm: rounding must not make them negative.
SLACK = 1e-5
#: Stamps (n,) int64 [ns] and latents (n, D) of one episode.
Recorded = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Roadmap:
    """Nodes and edges. M nodes, E edges, D latent size."""

    nodes: np.ndarray  #: (M, D) float32
    edges: np.ndarray  #: (E, 2) int32, from and to, ascending
    seconds: np.ndarray  #: (E,) float32, cost of each edge [s]
    radius: float  #: of a node
    speed: float  #: of a fast robot [latent distance per second]
    gap_limit: float  #: a latent farther from every node is unlike anything recorded

    def __post_init__(self) -> None:
        nodes, edges, seconds = self.nodes, self.edges, self.seconds
        if nodes.ndim != 2 or not len(nodes) or not np.isfinite(nodes).all():
            raise ModelError(f'nodes of a roadmap have shape {nodes.shape}: expected finite (M, D)')
        if edges.shape != (len(seconds), 2) or seconds.ndim != 1:
            raise ModelError(
                f'edges of a roadmap have shape {edges.shape}, their seconds {seconds.shape}: '
                'expected (E, 2) and (E,)'
            )
        if len(edges) and not (
            edges.min() >= 0 and edges.max() < len(nodes) and (np.diff(edges[:, 0]) >= 0).all()
        ):
            raise ModelError(
                f'edges of a roadmap are not sorted, or not within its {len(nodes)} nodes'
            )
        if not (np.isfinite(seconds).all() and (seconds > 0).all()):
            raise ModelError('seconds of a roadmap: expected finite numbers above 0')
        for key in ('radius', 'speed', 'gap_limit'):
            if not (np.isfinite(getattr(self, key)) and getattr(self, key) > 0):
                raise ModelError(f'{key} of a roadmap is {getattr(self, key)}: expected above 0')

    def price(self, gap: Any) -> Any:
        """Return the time [s] that a gap between latents costs.

        It is a fast robot's time, and steeply more if the gap is wider than a node's diameter:
        latent distances saturate, so a wide gap says little about the time.
        """
        return gap / self.speed * (1 + (gap / (2 * self.radius)) ** 4)

    def gaps(self, latents: np.ndarray) -> np.ndarray:
        """Distance of latents (n, D) to their nearest nodes, (n,) float32."""
        return assign(latents, self.nodes)[1]

    def field(self, goal: np.ndarray) -> Field:
        """Return the time to a goal latent (D,) from everywhere, by Bellman-Ford over the edges."""
        return Field(self, np.asarray(goal, dtype=np.float32))


class Field:
    """The time to one goal.

    Attributes:
        gap: distance of the goal to its nearest node.
        times: (M,) float32, time to the goal from each node [s].
        arrays: the other arguments of :func:`field_cost`, with the points in order of their times.

    """

    def __init__(self, roadmap: Roadmap, goal: np.ndarray) -> None:
        self.roadmap, self.goal = roadmap, goal
        distance = _distances(goal[None], roadmap.nodes)[0]
        self.gap = float(distance.min())
        last = roadmap.price(distance).astype(np.float32)
        # Over recorded edges only, to the nodes around the goal: inf where there is no path.
        about = distance <= max(roadmap.gap_limit, self.gap)
        self._recorded = self._relax(np.where(about, last, np.float32(np.inf)))
        self.times = self._relax(np.minimum(last, self._recorded))
        points, times = np.concatenate([roadmap.nodes, goal[None]]), np.append(self.times, 0)
        order = np.argsort(times)
        self.arrays = _lifted(points[order], times[order], roadmap)

    def value(self, latents: np.ndarray) -> np.ndarray:
        """Time to the goal from latents (..., D), (...) float32 [s]."""
        return time_to_goal(np.asarray(latents, dtype=np.float32), *self.arrays)

    def within(self, seconds: float) -> tuple[np.ndarray, ...]:
        """Return :attr:`arrays` of only the points whose time to the goal is at most this [s].

        Longer times come out too long; all others are the same as with all points.
        """
        lift, one, table, times, unit = self.arrays
        count = max(1, int(np.searchsorted(times, seconds / unit, 'right')))
        return lift, one, table[:, :count], times[:count], unit

    def locate(self, latent: np.ndarray) -> tuple[float, bool]:
        """Return the gap of a latent (D,) and whether recordings lead to the goal from near it."""
        distances = _distances(latent[None], self.roadmap.nodes)[0]
        gap = float(distances.min())
        about = distances <= max(self.roadmap.gap_limit, gap)
        return gap, bool(np.isfinite(self._recorded[about]).any())

    def path(self, latent: np.ndarray) -> list[tuple[int, float]]:
        """Return the nodes on the path from a latent (D,) to the goal, with the times left [s]."""
        roadmap, times = self.roadmap, self.times
        distance = _distances(latent[None], roadmap.nodes)[0]
        node = int(np.argmin(roadmap.price(distance) + times))
        way = [(node, float(times[node]))]
        while True:
            here = slice(*np.searchsorted(roadmap.edges[:, 0], (node, node + 1)))
            targets = roadmap.edges[here, 1]
            after = roadmap.seconds[here] + times[targets]
            if not len(after) or times[node] < after.min():
                return way  # from here straight to the goal
            node, before = int(targets[np.argmin(after)]), times[node]
            if not times[node] < before:
                return way  # an edge that is lost in rounding
            way.append((node, float(times[node])))

    def ahead(self, latent: np.ndarray, seconds: float) -> np.ndarray:
        """Return the point (D,) ``seconds`` [s] along the path from a latent (D,), or the goal."""
        left = float(self.value(latent)) - seconds
        for node, time in self.path(latent):
            if time <= left:
                return self.roadmap.nodes[node]
        return self.goal

    def _relax(self, times: np.ndarray) -> np.ndarray:
        """Shorten times (M,) over the edges until nothing changes (Bellman and Ford)."""
        sources, targets = self.roadmap.edges.T
        seconds, times, changed = self.roadmap.seconds, times.copy(), np.isfinite(times)
        while changed.any():
            tried = np.flatnonzero(changed[targets])
            after = seconds[tried] + times[targets[tried]]
            better = after < times[sources[tried]]
            shorter = sources[tried[better]]
            np.minimum.at(times, shorter, after[better])
            changed[:] = False
            changed[shorter] = True
        return times


def _lifted(points: np.ndarray, times: np.ndarray, roadmap: Roadmap) -> tuple[np.ndarray, ...]:
    """Arrays of :func:`time_to_goal` for points (P, D) and their times to the goal (P,) [s].

    The unit of length is a node's diameter, the unit of time a fast robot's time for it. This
    minimises the operations on the array of all latents by all points.
    """
    diameter = 2 * roadmap.radius
    unit = diameter / roadmap.speed
    points = points / diameter
    size = points.shape[1]
    lift = np.eye(size, size + 2) / diameter
    one = np.zeros(size + 2)
    one[-2] = 1
    squares = np.square(points).sum(axis=1)
    squares += SLACK * squares.max()
    table = np.stack([squares, np.ones(len(points))])
    table = np.concatenate([-2 * points.T, table])
    arrays = lift, one, table, times / unit, unit
    return tuple(np.array(a, dtype=np.float32, order='C') for a in arrays)


def time_to_goal(latents: Any, lift: Any, one: Any, table: Any, times: Any, unit: Any) -> Any:
    """Return the time to a field's goal: the minimum over points of gap price plus time from there.

    Accepts numpy arrays and torch tensors, so that an engine can evaluate it on a GPU.

    Args:
        latents: (..., D) float32.
        lift: (D, D + 2), scales latents and makes room for 1 and their squared norm.
        one: (D + 2,), adds the 1.
        table: (D + 2, P); lifted latents times this are squared distances to P points.
        times: (P,) from the points to the goal, in ``unit``.
        unit: () [s].

    Returns:
        (...) [s]; NaN where a latent is not finite.

    """
    lifted = latents @ lift
    squares = (lifted * lifted).sum(-1)
    lifted += one
    lifted[..., -1] = squares
    # Two axes: with three, numpy would multiply once per sample. Working in chunks bounds the
    # memory.
    lifted, shape = lifted.reshape(-1, lifted.shape[-1]), squares.shape
    least = squares.reshape(-1)
    for start in range(0, len(lifted), _ROWS):
        here = slice(start, start + _ROWS)
        costs = lifted[here] @ table
        gaps = costs**0.5
        costs *= costs
        costs += 1
        costs *= gaps
        costs += times
        cheapest = costs.min(-1)
        least[here] = getattr(cheapest, 'values', cheapest)
    return least.reshape(shape) * unit


def field_cost(latents: Any, weights: Any, *field: Any) -> Any:
    """Time to the goal of predicted latents (S, N, D), weighted over the last steps, (S,) [s].

    ``weights`` (N',) are of the last N' ≤ N steps; ``field`` is :attr:`Field.arrays`.
    """
    return time_to_goal(latents[:, -len(weights) :], *field) @ weights


def build(
    episodes: Sequence[Recorded], block: float, frameskip: int, cap: int
) -> tuple[Roadmap, dict[str, float]]:
    """Build a roadmap from recorded latents.

    One episode in ten is held out at first. The gap limit and the shares 'covered' and 'connected'
    are measured on these episodes, with a map of the others.

    Args:
        episodes: stamps (n,) int64 [ns] and latents (n, D) of each, without gaps.
        block: of the model [s].
        frameskip: k, control ticks in a block.
        cap: largest number of nodes.

    Returns:
        The roadmap of all episodes, and the shares 'covered' and 'connected' of
        :class:`lewm_ros.bundle.RoadmapEntry`.

    Raises ModelError where there are fewer than 2 episodes or nothing moves.

    """
    if len(episodes) < 2:
        raise ModelError(
            f'{len(episodes)} episode: a roadmap needs at least 2, one of them held out'
        )
    every = min(round(1 / HELD_OUT), len(episodes))
    rest = [e for i, e in enumerate(episodes) if i % every != every // 2]
    test = np.concatenate([z for i, (_, z) in enumerate(episodes) if i % every == every // 2])
    speed = _fast(rest, block / frameskip)
    partial = extend(None, rest, speed, block, cap)
    limit = float(np.quantile(partial.gaps(test), GAP_QUANTILE))
    # Held-out frames fall into holes of the map too, which tells nothing about other images.
    whole = extend(None, episodes, speed, block, cap)
    usual = RADIUS_SPREAD * _spread(np.concatenate([z for _, z in episodes]))
    if whole.radius > GROWTH * usual:
        log.warning(
            '%d nodes are few for these recordings: their radius is %.2f, expected at most %.2f; '
            'the time to the goal is coarse, and images unlike the recordings may not be noticed; '
            'allow more with --nodes',
            len(whole.nodes),
            whole.radius,
            usual,
        )
    narrowest, widest = (factor * whole.radius for factor in LIMITS)
    limit = min(max(limit, narrowest), widest)
    return replace(whole, gap_limit=limit), measure(replace(partial, gap_limit=limit), test)


def measure(roadmap: Roadmap, latents: np.ndarray) -> dict[str, float]:
    """Measure which shares of unseen latents (n, D) a map covers and connects.

    'covered' is the share within two radii of a node, 'connected' the share of pairs of
    latents that the edges connect in one direction.
    """
    pairs = np.random.default_rng(0).choice(latents, (2, min(PAIRS, len(latents))))
    connected = [roadmap.field(a).locate(b)[1] for a, b in zip(*pairs)]
    return {
        'covered': float(np.mean(roadmap.gaps(latents) <= 2 * roadmap.radius)),
        'connected': float(np.mean(connected)),
    }


def extend(
    roadmap: Roadmap | None, episodes: Sequence[Recorded], speed: float, block: float, cap: int
) -> Roadmap:
    """Add episodes to a roadmap, or make the first one; see :func:`build` for other arguments.

    Raises ModelError if the nodes of an existing roadmap leave no room for new ones.
    """
    latents = np.concatenate([z for _, z in episodes]).astype(np.float32)
    if roadmap is None:
        radius = min(RADIUS_BLOCKS * block * speed, RADIUS_SPREAD * _spread(latents))
        nodes, radius = _cover(latents, radius, cap)
        empty = np.empty((0, 2), np.int32), np.empty(0, np.float32)
        roadmap = Roadmap(nodes, *empty, radius, speed, gap_limit=radius)
    else:
        found = _choose(latents, roadmap.radius, max(cap, len(roadmap.nodes)), roadmap.nodes)
        if found is None:
            raise ModelError(
                f'the roadmap has {len(roadmap.nodes)} nodes and would have more than {cap}: allow '
                'more with --nodes, or build it anew from all data'
            )
        nodes = found
    cells, off = assign(latents, nodes)
    keys, costs = _pieces(episodes, cells, roadmap.price(off), EDGE_BLOCKS * block, len(nodes))
    keys.append(roadmap.edges[:, 0].astype(np.int64) * len(nodes) + roadmap.edges[:, 1])
    costs.append(roadmap.seconds)
    key, cost = np.concatenate(keys), np.concatenate(costs)
    order = np.lexsort((cost, key))
    key, cheapest = np.unique(key[order], return_index=True)
    edges = np.stack(np.divmod(key, len(nodes)), axis=1).astype(np.int32)
    return replace(roadmap, nodes=nodes, edges=edges, seconds=cost[order][cheapest])


def _fast(episodes: Sequence[Recorded], span: float) -> float:
    """Latent distance that a fast robot moves in a second, measured over ``span`` [s]."""
    speeds = [np.zeros(1)]
    for stamps, latents in episodes:
        if len(stamps) < 2:
            continue
        lag = frames_in(span, stamps)
        elapsed = (stamps[lag:] - stamps[:-lag]) / NS_PER_S
        speeds.append(np.linalg.norm(latents[lag:] - latents[:-lag], axis=1) / elapsed)
    speed = float(np.quantile(np.concatenate(speeds), FAST))
    if not speed > 0:
        raise ModelError('the latents of the recordings do not change: a roadmap needs movement')
    return speed


def _spread(latents: np.ndarray) -> float:
    """Return the root mean square distance between two random latents of (n, D)."""
    return float(np.sqrt(2 * latents.var(axis=0, dtype=float).sum()))


def _cover(latents: np.ndarray, radius: float, cap: int) -> tuple[np.ndarray, float]:
    """Return nodes (M ≤ cap, D) that cover latents (n, D), and their radius, enlarged if needed."""
    while (nodes := _choose(latents, radius, cap, latents[:0])) is None:
        radius *= GROWTH
    return nodes, radius


def _choose(latents: np.ndarray, radius: float, cap: int, nodes: np.ndarray) -> np.ndarray | None:
    """Add nodes until all latents (n, D) are within a radius of one; None if more than ``cap``.

    Latents are taken in order; each one that is not covered yet becomes a node.
    """
    chosen = np.empty((cap, latents.shape[1]), dtype=np.float32)
    count = len(nodes)
    chosen[:count] = nodes
    for start in range(0, len(latents), _CHUNK):
        rest = latents[start : start + _CHUNK]
        if count:
            rest = rest[assign(rest, chosen[:count])[1] > radius]
        while len(rest):
            if count == cap:
                return None
            chosen[count] = rest[0]
            rest = rest[np.linalg.norm(rest - chosen[count], axis=1) > radius]
            count += 1
    return chosen[:count].copy()


def assign(latents: np.ndarray, nodes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Nearest node of each latent (n, D): its index (n,) int64 and distance (n,) float32."""
    index = np.empty(len(latents), dtype=np.int64)
    for start in range(0, len(latents), _CHUNK):
        here = slice(start, start + _CHUNK)
        index[here] = _distances(latents[here], nodes).argmin(axis=1)
    return index, np.linalg.norm(latents - nodes[index], axis=1).astype(np.float32)


def _distances(latents: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Distance of latents (n, D) from nodes (M, D), (n, M) float32."""
    products = np.asarray(latents, np.float32) @ nodes.T
    squares = np.square(latents).sum(axis=1)[:, None] + np.square(nodes).sum(axis=1)
    return np.sqrt(np.maximum(squares - 2 * products, 0, dtype=np.float32))


def _pieces(
    episodes: Sequence[Recorded], cells: np.ndarray, prices: np.ndarray, span: float, count: int
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Return the recorded segments between nodes: from · count + to, and cost [s], unordered.

    Args:
        episodes: as of :func:`build`.
        cells: (n,) node of each frame of all episodes.
        prices: (n,) of the gap between the frame and its node [s].
        span: longest segment [s].
        count: number of nodes.

    """
    keys, costs, first = [], [], 0
    for stamps, _ in episodes:
        here = slice(first, first + len(stamps))
        cell, price, first = cells[here], prices[here], here.stop
        for lag in range(1, len(stamps)):
            elapsed = (stamps[lag:] - stamps[:-lag]) / NS_PER_S
            short = elapsed <= span * 1.001  # stamps are rounded
            if not short.any():
                break
            used = short & (cell[lag:] != cell[:-lag])
            keys.append((cell[:-lag] * count + cell[lag:])[used])
            costs.append((elapsed + price[:-lag] + price[lag:])[used].astype(np.float32))
    return keys, costs
