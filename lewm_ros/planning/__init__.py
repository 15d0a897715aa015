# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Planning in latent space: numpy in, numpy out; no ROS, no torch."""

from lewm_ros.planning.config import PlannerConfig
from lewm_ros.planning.costs import goal_cost, weights
from lewm_ros.planning.policy import PlanningAgent
from lewm_ros.planning.receding_horizon import Plan, RecedingHorizonPlanner

__all__ = [
    'Plan',
    'PlannerConfig',
    'PlanningAgent',
    'RecedingHorizonPlanner',
    'goal_cost',
    'weights',
]
