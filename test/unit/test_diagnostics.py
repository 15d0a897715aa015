# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Conditions of a node, with the real logger of rclpy."""

from __future__ import annotations

from types import SimpleNamespace

import rclpy.logging

from lewm_ros.nodes.diagnostics import ERROR, WARN, Conditions


def test_warnings_and_errors_can_take_turns():
    """A foreign latent once ended a process with all its nodes.

    rclpy refuses a second severity from the same line of code, and the exception came out of the
    handler of exceptions: a warning before it was enough.
    """
    conditions = Conditions(SimpleNamespace(get_logger=lambda: rclpy.logging.get_logger('test')))
    conditions.set('a gap', 'a gap of 2 s', WARN)
    conditions.set('the disk', 'the disk is full', ERROR)
    conditions.set('another gap', 'a gap of 3 s', WARN)
    assert conditions.level == ERROR[0]
    assert conditions.text == 'the disk is full; a gap of 2 s; a gap of 3 s'
    conditions.set('the disk', None)
    assert conditions.level == WARN[0]
