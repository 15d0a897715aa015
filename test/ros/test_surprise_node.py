# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""surprise_node in a process of its own, and its scores against the model's own."""

from __future__ import annotations

from dataclasses import replace
import shutil

from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Float64MultiArray, String

from lewm_ros.bundle import Bundle, Calibration, rewrite_manifest
from lewm_ros.engines import load_engine
from lewm_ros.history import NANOSECOND
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, stamp_of, vector, vector_message
from lewm_ros.nodes.surprise import EVENTS
from lewm_ros.surprise.score import score

TICK = NANOSECOND // 20
SIZE = 8
COMMAND = [0.1, -0.2]


@pytest.fixture
def calibrated(tiny_bundle: Bundle, tmp_path) -> Bundle:
    """Return a copy of the tiny bundle with a threshold of 50 for alpha 0.05."""
    folder = tmp_path / 'bundle'
    shutil.copytree(tiny_bundle.path, folder)
    entry = Calibration(0.05, 50.0, 10.0, 200, 'planner', tiny_bundle.hash)
    return rewrite_manifest(folder, replace(tiny_bundle.manifest, calibration=(entry,)))


class Robot:
    """The encoder's and the controller's side of a surprise node."""

    def __init__(self, bench: Bench, bundle: Bundle) -> None:
        self.bench = bench
        bench.active('surprise_node')
        self.scores = bench.listen(Float32, 'surprise')
        self.parts = bench.listen(Image, 'surprise/contributions')
        self.anomalies = bench.listen(DiagnosticArray, 'anomaly', EVENTS)
        self.latent = bench.publisher(Image, 'latent')
        self.action = bench.publisher(Float64MultiArray, 'action')
        bench.publisher(String, 'model', LATCHED).publish(String(data=bundle.hash))
        self.sent: dict[int, np.ndarray] = {}

    def see(self, latent: np.ndarray, frames: int) -> None:
        """Send equal frames and commands every 50 ms."""
        for _ in range(frames):
            self.action.publish(Float64MultiArray(data=COMMAND))
            stamp = self.bench.now()
            self.sent[stamp] = latent
            self.latent.publish(vector_message(latent, header(stamp)))
            self.bench.spin(0.05)


def test_scores_are_the_normalised_error_of_the_prediction_one_block_back(
    bench: Bench, tiny_bundle
):
    """Each score is the model's, its parts sum to it and carry the frame's stamp."""
    with bench.nodes('surprise_node', bundle=tiny_bundle.path):
        robot = Robot(bench, tiny_bundle)
        latent = np.linspace(-1, 1, SIZE, dtype=np.float32)
        robot.see(latent, 25)
        bench.spin(0.2)
        assert len(robot.scores) == len(robot.parts) >= 5
        manifest = tiny_bundle.manifest
        past = tiny_bundle.normalise_block(np.tile(COMMAND, 5)).astype(np.float32)
        predicted = load_engine(tiny_bundle).rollout(
            np.tile(latent, (manifest.history, 1)),
            np.tile(past, (manifest.history - 1, 1)),
            past[None, None],
        )[0, 0]
        expected = float(score(predicted, latent, np.array(manifest.surprise_scale)))
        parts = robot.parts[-1][1]
        assert stamp_of(parts) in robot.sent
        assert vector(parts, SIZE).sum() == pytest.approx(expected, rel=1e-3)
        assert robot.scores[-1][1].data == pytest.approx(expected, rel=1e-3)


def test_a_jump_opens_an_event_and_calm_closes_it(bench: Bench, calibrated):
    """Two edges of one event, with its figures; a late joiner gets threshold and events."""
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.05):
        robot = Robot(bench, calibrated)
        calm = np.zeros(SIZE, dtype=np.float32)
        robot.see(calm, 20)
        assert not robot.anomalies
        before = bench.now()
        robot.see(np.full(SIZE, 40, dtype=np.float32), 4)
        robot.see(calm, 40)
        edges = [{v.key: v.value for v in m.status[0].values} for _, m in robot.anomalies]
        assert [bool(e['end']) for e in edges] == [False, True]
        opened, closed = edges
        assert opened['id'] == closed['id'] == '1'
        assert int(opened['start']) == int(opened['frame_stamp']) >= before
        assert float(opened['score']) > 50.0
        assert float(opened['threshold']) == 50.0
        assert float(opened['alpha']) == 0.05
        assert float(closed['peak_score']) >= float(opened['score'])
        assert int(closed['start']) <= int(closed['peak']) < int(closed['end'])
        assert stamp_of(robot.anomalies[0][1]) == int(opened['start'])
        late = bench.listen(Float32, 'surprise/threshold', LATCHED)
        again = bench.listen(DiagnosticArray, 'anomaly', EVENTS)
        bench.until(lambda: late and len(again) == 2, 'threshold or events are not latched')
        assert late[0][1].data == 50.0
        assert bench.figures('surprise_node')['events'] == '1'
        assert '200 windows of 10 s' in bench.figures('surprise_node')['calibration']


def test_without_a_calibration_scores_come_and_no_event(bench: Bench, calibrated):
    """An alpha that the bundle has no threshold for: scores, a warning that names both."""
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.02):
        robot = Robot(bench, calibrated)
        robot.see(np.zeros(SIZE, dtype=np.float32), 20)
        robot.see(np.full(SIZE, 100, dtype=np.float32), 5)
        assert max(m.data for _, m in robot.scores) > 50
        assert not robot.anomalies
        text = bench.text('surprise_node')
        assert 'not calibrated' in text
        assert '[0.05]' in text
        assert '0.02' in text


def test_a_missing_frame_gives_no_score(bench: Bench, tiny_bundle):
    """A window with a hole is counted, not guessed."""
    with bench.nodes('surprise_node', bundle=tiny_bundle.path):
        robot = Robot(bench, tiny_bundle)
        calm = np.zeros(SIZE, dtype=np.float32)
        robot.see(calm, 25)
        bench.spin(0.4)
        scored = len(robot.scores)
        robot.see(calm, 4)
        bench.spin(1.2)
        assert len(robot.scores) == scored
        assert int(bench.figures('surprise_node')['windows_missing']) >= 4
