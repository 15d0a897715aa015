# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Starts and goals from recorded episodes of a simulated task, as in the paper."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import numpy as np

from lewm_ros.bags.episodes import Episode
from lewm_ros.bundle import Bundle
from lewm_ros.errors import BagError
from lewm_ros.evaluation.bags import read_marked
from lewm_ros.evaluation.closed_loop import PlannerPolicy
from lewm_ros.robot.history import frame_period, nearest
from lewm_ros.sim import Task
from lewm_ros.sim.collect import START, Policy
from lewm_ros.time import NS_PER_S


@dataclass(frozen=True)
class Pair:
    """A start and a goal.

    The simulator replays what was recorded before the start, to fill the planner's history.
    """

    state: np.ndarray  #: (2 J,) in which the replay begins
    held: np.ndarray  #: (A,) command in effect then, contract units
    commands: np.ndarray  #: (n, A) up to the start, one per control period
    phase: float  #: from the state to the first of them [s]
    lead: int  #: from the state to the start [ns]
    goal: np.ndarray  #: pose (J,)


class Resumed:
    """Replays the commands before a pair's start, then lets a policy drive.

    A planner receives the frames during the replay. It gets its goal a block before the start,
    knowing the commands until then, so that its first plan begins there.
    """

    def __init__(self, policy: Policy, pair: Pair) -> None:
        self._policy, self._pair = policy, pair
        self._start = START + pair.lead
        self._next = 0

    def reset(self) -> None:
        """Begin the replay."""
        self._policy.reset()
        self._next = 0
        if isinstance(self._policy, PlannerPolicy):
            begin = START + round(self._pair.phase * NS_PER_S)
            self._policy.resume(begin, self._pair.held, self._pair.commands, self._start)

    def observe(self, stamp: int, image: np.ndarray) -> None:
        """Pass the frame to the policy."""
        self._policy.observe(stamp, image)

    def act(self, stamp: int) -> np.ndarray:
        """Return the recorded command (A,) before the start, the policy's from the start on."""
        if stamp >= self._start:
            return self._policy.act(stamp)
        commands = self._pair.commands
        command = commands[min(self._next, len(commands) - 1)]
        self._next += 1
        if isinstance(self._policy, PlannerPolicy):
            self._policy.follow(command, stamp)
        return command


def lead_of(bundle: Bundle) -> float:
    """Return how long before a start the replay begins [s]: a block, its context, a command."""
    return bundle.manifest.history * bundle.block + bundle.contract.period


def read_recorded(bundle: Bundle, bags: Sequence[Path], task: Task) -> list[Episode]:
    """Read the episodes that the bundle was not trained on, without their images.

    Raises BagError where there are none, or they hold no full state of the task.
    """
    width, found = len(task.state()), []
    if not width:
        raise BagError(
            f'{task.name} does not tell its state: no episode can begin in a recorded one'
        )
    for episode, fresh in read_marked(bundle, bags):
        states = episode.states
        if states is None or states.shape[1] != width:
            raise BagError(
                f'the state in {[str(b) for b in bags]} has '
                f'{0 if states is None else states.shape[1]} numbers: expected {width}, '
                f'{task.state_text}, to start where an episode was'
            )
        if fresh:
            found.append(replace(episode, images=episode.images[:0]))
    if not found:
        raise BagError(
            f'{[str(b) for b in bags]} have no episode that {bundle.path} was not trained on'
        )
    return found


def draw_pairs(
    episodes: Sequence[Episode],
    task: Task,
    offset: float | None,
    lead: float,
    count: int,
    seed: int,
) -> tuple[list[Pair], int]:
    """Draw starts and goals, equally many from each episode that is long enough.

    Args:
        episodes: recordings of the task, with states.
        task: decides which starts are already at their goal; these are left out.
        offset: from start to goal in the same episode [s]; None: any state of another episode.
        lead: recorded time before a start that is replayed [s].
        count: of pairs.
        seed: of the draw.

    Returns:
        The pairs, and how many others were left out.

    Raises:
        BagError: there are fewer than ``count`` pairs.

    """
    rng = np.random.default_rng(seed)
    states = [episode.states for episode in episodes if episode.states is not None]
    leads = [_shifted(e.stamps, -lead) for e in episodes]
    starts = [_repeatable(e, begin) for e, begin in zip(episodes, leads)]
    if offset is not None:
        ends = [_shifted(e.stamps, offset) for e in episodes]
        starts = [start[end[start] >= 0] for start, end in zip(starts, ends)]
    solved = 0

    def unsolved() -> Iterator[Pair]:
        nonlocal solved
        for number, start in _rounds(starts, rng):
            if offset is not None:
                end = states[number][ends[number][start]]
            else:
                other = (number + int(rng.integers(1, len(episodes)))) % len(episodes)
                end = rng.choice(states[other])
            goal = task.goal_of(end)
            if task.achieves(task.goal_of(states[number][start]), goal):
                solved += 1
            else:
                begin = leads[number][start]
                yield _pair(episodes[number], begin, start, states[number][begin], goal)

    enough = offset is not None or len(episodes) > 1
    drawn = list(islice(unsolved(), count)) if enough else []
    if len(drawn) < count:
        where = 'in two episodes' if offset is None else f'{offset:g} s apart in one episode'
        raise BagError(
            f'{len(drawn)} pairs of states {where} in {len(episodes)} episodes, with the start at '
            f'least {lead:g} s into its episode and not yet at the goal: expected {count}; record '
            'more or longer episodes, or lower --goals'
        )
    return drawn, solved


def _shifted(stamps: np.ndarray, by: float) -> np.ndarray:
    """Index of the frame ``by`` [s] after each (n,), -1 where there is none."""
    wanted = stamps + round(by * NS_PER_S)
    index = nearest(stamps, wanted)
    return np.where(np.abs(stamps[index] - wanted) <= frame_period(stamps) / 2, index, -1)


def _rounds(starts: Sequence[np.ndarray], rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Yield (episode, index) of all starts in random order, one of each episode at a time."""
    orders = [rng.permutation(index) for index in starts]
    for place in range(max(map(len, orders))):
        for number in rng.permutation(len(orders)):
            if place < len(orders[number]):
                yield int(number), int(orders[number][place])


def _repeatable(episode: Episode, begin: np.ndarray) -> np.ndarray:
    """Indices of the frames whose commands are known from the frames ``begin`` (n,) on.

    The first frame of an episode may lie before its first regular command.
    """
    before, after = (
        np.searchsorted(episode.action_stamps, stamps)
        for stamps in (episode.stamps[begin], episode.stamps)
    )
    return np.flatnonzero((begin > 0) & (before > 0) & (after > before))


def _pair(episode: Episode, begin: int, start: int, state: np.ndarray, goal: np.ndarray) -> Pair:
    """Return the pair that replays frames ``begin`` to ``start``, beginning in ``state``."""
    since, until = episode.stamps[begin], episode.stamps[start]
    # At equal times the frame was taken before the command.
    first, end = np.searchsorted(episode.action_stamps, [since, until])
    return Pair(
        state=state,
        held=episode.actions[first - 1],
        commands=episode.actions[first:end],
        phase=float(episode.action_stamps[first] - since) / NS_PER_S,
        lead=int(until - since),
        goal=goal,
    )
