# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The tutorial's robot and scripts, with an untrained model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import signal
import sys

from harness import ROOT, Bench, Process
import pytest
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import CompressedImage, JointState

from lewm_ros.bags.draft import draft
from lewm_ros.bundle import FILES, Bundle, write_bundle
from lewm_ros.nodes.messages import stamp_of
from lewm_ros.robot.contract import Contract
from lewm_ros.time import NS_PER_S

ROBOT = ROOT / 'examples' / 'own_robot'


def script(bench: Bench, name: str, *arguments: str) -> Process:
    """Start one of the tutorial's scripts."""
    return Process(
        [sys.executable, str(ROBOT / f'{name}.py'), *arguments], bench.domain, bench.folder
    )


@pytest.fixture
def bundle(tiny_bundle: Bundle, tmp_path: Path) -> Bundle:
    """Return the tiny bundle with the contract of the tutorial's arm."""
    manifest = replace(tiny_bundle.manifest, contract=Contract.load(ROBOT / 'arm.yaml'))
    return write_bundle(tmp_path / 'bundle', manifest, {f: tiny_bundle.path / f for f in FILES})


def test_the_arm_is_recorded_drafted_and_driven_to_goals(
    bench: Bench, bundle: Bundle, tmp_path: Path
):
    """The tutorial without the training: a bag, a draft contract of it, goals, pushes."""
    frames = bench.listen(CompressedImage, '/camera/image_raw/compressed', qos_profile_sensor_data)
    states = bench.listen(JointState, '/joint_states')
    bag, contract = tmp_path / 'bag', ROBOT / 'arm.yaml'
    with script(bench, 'driver') as driver:
        bench.until(lambda: frames, 'no frames', 20.0)
        age = bench.now() - stamp_of(frames[-1][1])
        assert 0.05 <= age / NS_PER_S < 0.5
        with bench.lewm('record', '--all', '--out', str(bag)) as recorder:
            bench.active('recorder_node')
            with script(bench, 'wander', '--seconds', '6', '--seed', '1') as wander:
                bench.until(lambda: not wander.running, 'it moves for ever', 30.0)
                assert wander.end() == 0
            assert recorder.end(signal.SIGTERM) == 0
        assert 'episode 1 started' in recorder.output
        text, lacking = draft(bag)
        assert not lacking
        assert '/camera/image_raw/compressed' in text
        assert '/arm/commands' in text
        fits = bench.lewm('check', str(contract), '--data', str(bag))
        assert fits.wait() == 0, fits.output

        with bench.lewm('up', 'plan', '--bundle', str(bundle.path)) as nodes:
            bench.active('encoder_node', 'planner_node', 'controller_node')
            before = list(states[-1][1].position)
            goals = ('--data', str(bag), '--goals', '2', '--seconds', '2', '--push')
            with script(bench, 'goals', *goals) as operator:
                bench.until(lambda: not operator.running, 'it does not end', 40.0)
            assert operator.wait() == 0, operator.output
            assert nodes.end() == 0
        assert list(states[-1][1].position) != pytest.approx(before, abs=0.05)
        assert 'goals reached and held: ' in operator.output
        assert 'pushes noticed within 1 s: ' in operator.output
        assert driver.end(signal.SIGTERM) == 0
