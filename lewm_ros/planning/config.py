# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Settings of the planner and of its goal, see :mod:`lewm_ros.robot.settings`."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.errors import ConfigError
from lewm_ros.planning.cem import CEMConfig
from lewm_ros.planning.costs import KINDS
from lewm_ros.robot.settings import check_settings, setting
from lewm_ros.robot.spec import ModelSpec

#: Time resolution of a candidate: one command per block, or per control tick.
CANDIDATES = ('block', 'tick')
#: What finds a plan.
POLICIES = ('search', 'idm', 'imagined')


@dataclass(frozen=True)
class PlannerConfig:
    """Settings of the planner. A search is cold when there is no plan to start from."""

    horizon: int = setting(6, 'Length of a plan, committed block included [blocks].', 2, 1000)
    samples: int = setting(
        64,
        'Candidates in an iteration of a warm search, which starts from the last plan.',
        1,
        100_000,
        dynamic=True,
    )
    elites: int = setting(
        10, 'Best candidates that the next mean comes from.', 1, 100_000, dynamic=True
    )
    iterations: int = setting(3, 'Iterations of a warm search.', 1, 1000, dynamic=True)
    cold_samples: int = setting(
        128,
        'Candidates in an iteration of a cold search, which has no previous plan.',
        1,
        100_000,
        dynamic=True,
    )
    cold_iterations: int = setting(5, 'Iterations of a cold search.', 1, 1000, dynamic=True)
    std: float = setting(
        1.0,
        'Initial std of a cold search [standard deviations of the training actions].',
        0.01,
        10.0,
        dynamic=True,
    )
    warm_std: float = setting(
        0.5,
        'Initial std of a warm search [standard deviations of the training actions].',
        0.01,
        10.0,
        dynamic=True,
    )
    keep_elites: int = setting(
        5, 'Elites of the last plan that are tried again in the next.', 0, 1000, dynamic=True
    )
    exact_iterations: int = setting(
        2, 'Last iterations in f32 where `precision` is bf16, at most half of them.', 0, 1000
    )
    candidates: str = setting(
        'block',
        'Search variables: one command per block, executed within the step and rate limits, or '
        'one per control tick.',
        choices=CANDIDATES,
    )
    cost: str = setting('ramp', 'Weight of the distance to the goal over the plan.', choices=KINDS)
    policy: str = setting(
        'search',
        'How plans are made: by a search, or directly by a policy of the bundle: its inverse model '
        '(`lewm inverse`) or the policy trained in imagination (`lewm imagine`).',
        choices=POLICIES,
    )
    roadmap: bool = setting(
        True, 'Plan by the roadmap of the bundle, if it has one; false: by the latent distance.'
    )
    execute: int = setting(1, 'Blocks played before a new plan is asked for.', 1, 999, dynamic=True)
    deadline_fraction: float = setting(
        0.7,
        'Planning time limit, as a fraction of a block, from the frame on and less `action.delay`; '
        'then the best plan so far is used.',
        0.01,
        100.0,
        dynamic=True,
    )
    clip: bool = setting(
        True, 'Keep candidates within the limits of the contract: values, steps and rates.'
    )
    seed: int = setting(0, 'Seed of the search.', 0, 2**31 - 1)

    def __post_init__(self) -> None:
        check_settings(self)
        if self.execute >= self.horizon:
            raise ConfigError(
                f'execute is {self.execute} blocks: expected 1 to {self.horizon - 1}, below the '
                'horizon'
            )
        self.search(warm=False)
        self.search(warm=True)

    def search(self, warm: bool) -> CEMConfig:
        """Return the sizes of a cold or a warm search."""
        return CEMConfig(
            samples=self.samples if warm else self.cold_samples,
            elites=self.elites,
            iterations=self.iterations if warm else self.cold_iterations,
            keep=self.keep_elites,
            exact_iterations=self.exact_iterations,
        )

    def rollout_blocks(self, spec: ModelSpec) -> int:
        """Longest rollout that a planner asks its engine for, in blocks.

        Never more than the model's horizon: the constructor of a planner rejects a longer one.
        """
        return min(self.horizon - shares_first(spec), spec.horizon)


@dataclass(frozen=True)
class GoalConfig:
    """When a goal counts as reached, and when it is given up."""

    goal_tolerance: float = setting(
        0.0,
        'Mean squared latent distance per dimension at which a goal counts as reached; 0: the '
        "bundle's.",
        0.0,
        100.0,
        dynamic=True,
    )
    goal_dwell: float = setting(
        0.5,
        'Time at or below `goal_tolerance` after which a goal counts as reached [s].',
        0.0,
        60.0,
        dynamic=True,
    )
    goal_timeout: float = setting(
        0.0,
        'Time after which a goal that is not reached is given up [s]; 0: never.',
        0.0,
        86400.0,
        dynamic=True,
    )
    goal_timeout_factor: float = setting(
        0.0,
        'Multiple of the time that the roadmap predicted at the first plan, but at least 2 s, '
        'after which a goal that is not reached is given up; 0: never.',
        0.0,
        1000.0,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        check_settings(self)


def shares_first(spec: ModelSpec) -> bool:
    """Whether the committed block can be rolled out once for all candidates.

    The context then moves on by one predicted frame. The result is the same only if the context
    fills the model's window before and after.
    """
    return spec.history == spec.window
