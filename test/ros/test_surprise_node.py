# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""surprise_node in a process of its own: its scores against the model's own, and its events."""

from __future__ import annotations

from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Float64MultiArray, String

from lewm_ros.bundle import Bundle, rewrite_manifest
from lewm_ros.engines import load_engine
from lewm_ros.nodes.anomalies import ENDED, EVENTS
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, stamp_of, vector, vector_message
from lewm_ros.surprise.score import score
from lewm_ros.time import NS_PER_S

TICK = NS_PER_S // 20
SIZE = 8
COMMAND = [0.1, -0.2]


class Robot:
    """Stands in for the encoder and the controller around a surprise node."""

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

    def edges(self, kind: str = 'surprise') -> list[dict[str, str]]:
        """Values of the edges heard of this kind."""
        found = [{v.key: v.value for v in s.values} for _, m in self.anomalies for s in m.status]
        return [values for values in found if values['kind'] == kind]

    def see(self, latent: np.ndarray, frames: int, commands: tuple = (COMMAND,)) -> None:
        """Send the latent every 50 ms, with these commands in turn."""
        for index in range(frames):
            self.action.publish(Float64MultiArray(data=commands[index % len(commands)]))
            stamp = self.bench.now()
            self.sent[stamp] = latent
            self.latent.publish(vector_message(latent, header(stamp)))
            self.bench.spin(0.05)


def test_scores_are_the_normalised_error_of_the_prediction_one_block_back(
    bench: Bench, tiny_bundle
):
    """Each score is the model's; the contributions sum to it and carry the frame's stamp."""
    with bench.nodes('surprise_node', bundle=tiny_bundle.path):
        robot = Robot(bench, tiny_bundle)
        latent = np.linspace(-1, 1, SIZE, dtype=np.float32)
        robot.see(latent, 25)
        bench.spin(0.2)
        assert len(robot.scores) == len(robot.parts) >= 5
        manifest = tiny_bundle.manifest
        past = tiny_bundle.spec.normalise_block(np.tile(COMMAND, 5)).astype(np.float32)
        predicted = load_engine(tiny_bundle).rollout(
            np.tile(latent, (manifest.history, 1)),
            np.tile(past, (manifest.history - 1, 1)),
            past[None, None],
        )[0, 0]
        expected = float(score(predicted, latent, tiny_bundle.surprise_scale()))
        parts = robot.parts[-1][1]
        assert stamp_of(parts) in robot.sent
        assert vector(parts, SIZE).sum() == pytest.approx(expected, rel=1e-3)
        assert robot.scores[-1][1].data == pytest.approx(expected, rel=1e-3)


def test_a_jump_opens_an_event_and_calm_closes_it(bench: Bench, calibrated):
    """Two edges of one event carry its values; a late joiner gets threshold and events."""
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.05):
        robot = Robot(bench, calibrated)
        calm = np.zeros(SIZE, dtype=np.float32)
        robot.see(calm, 20)
        assert not robot.edges()
        before = bench.now()
        robot.see(np.full(SIZE, 40, dtype=np.float32), 4)
        robot.see(calm, 40)
        edges = robot.edges()
        assert [bool(e['end']) for e in edges] == [False, True]
        opened, closed = edges
        assert opened['id'] == closed['id']
        assert int(opened['start']) == int(opened['frame_stamp']) >= before
        assert float(opened['score']) > 50.0
        assert float(opened['threshold']) == 50.0
        assert float(opened['alpha']) == 0.05
        assert float(closed['peak_score']) >= float(opened['score'])
        assert int(closed['start']) <= int(closed['peak']) < int(closed['end'])
        assert int(opened['start']) in [stamp_of(m) for _, m in robot.anomalies]
        late = bench.listen(Float32, 'surprise/threshold', LATCHED)
        heard = len(robot.edges())
        robot.anomalies.clear()
        bench.node.create_subscription(
            DiagnosticArray, 'anomaly', lambda m: robot.anomalies.append((0.0, m)), EVENTS
        )
        bench.until(
            lambda: late and len(robot.edges()) >= heard, 'threshold or events are not latched'
        )
        assert late[0][1].data == 50.0
        assert bench.report('surprise_node')['events: surprise'] == '1'
        assert '200 windows of 10 s' in bench.figures('surprise_node')['calibration']


def test_without_a_calibration_scores_come_and_no_event(bench: Bench, calibrated):
    """An alpha that the bundle has no threshold for gives scores and a warning with both."""
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.02):
        robot = Robot(bench, calibrated)
        robot.see(np.zeros(SIZE, dtype=np.float32), 20)
        robot.see(np.full(SIZE, 100, dtype=np.float32), 5)
        assert max(m.data for _, m in robot.scores) > 50
        assert [(len(m.status), m.header.frame_id) for _, m in robot.anomalies] == [(0, ENDED)]
        bench.says('surprise_node', 'not calibrated', '[0.05]', '0.02')


def test_a_missing_frame_gives_no_score(bench: Bench, tiny_bundle):
    """A window with a missing frame is counted, and gives no score."""
    with bench.nodes('surprise_node', bundle=tiny_bundle.path):
        robot = Robot(bench, tiny_bundle)
        calm = np.zeros(SIZE, dtype=np.float32)
        robot.see(calm, 25)
        bench.spin(0.4)
        scored = len(robot.scores)
        robot.see(calm, 4)
        assert int(bench.report('surprise_node')['windows_missing']) >= 4
        assert len(robot.scores) == scored


def test_a_frozen_camera_is_caught_within_a_second(bench: Bench, calibrated):
    """Equal frames under moving commands open an event, until the image changes again.

    Stopping the robot does not end it, and equal frames of a robot at rest do not open one.
    """
    moving = ([0.5, 0.0], [-0.5, 0.3])
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.05):
        robot = Robot(bench, calibrated)
        rng = np.random.default_rng(0)
        calm = np.zeros(SIZE, dtype=np.float32)
        robot.see(calm, 30, commands=([0.0, 0.0],))
        for _ in range(20):
            robot.see(rng.normal(size=SIZE).astype(np.float32), 1, moving)
        assert not robot.edges('frozen_camera')
        frozen = bench.now()
        robot.see(calm, 20, moving)
        bench.until(lambda: robot.edges('frozen_camera'), 'no event')
        (opened,) = robot.edges('frozen_camera')
        assert int(opened['start']) - frozen <= NS_PER_S
        bench.says('surprise_node', 'frozen_camera')
        robot.see(calm, 20, commands=([0.0, 0.0],))
        assert len(robot.edges('frozen_camera')) == 1
        robot.see(calm + 1, 2)
        bench.until(lambda: len(robot.edges('frozen_camera')) == 2, 'it does not end')
        assert robot.edges('frozen_camera')[1]['id'] == opened['id']


def test_missing_frames_are_an_event_of_their_own(bench: Bench, calibrated):
    """An event opens while no frame comes, and where the stamps of the frames have a gap."""
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.05, gap_seconds=1.0):
        robot = Robot(bench, calibrated)
        calm = np.zeros(SIZE, dtype=np.float32)
        robot.see(calm, 5)
        last = max(robot.sent)
        bench.until(lambda: robot.edges('frame_gap'), 'silence is no event', 5.0)
        (opened,) = robot.edges('frame_gap')
        assert int(opened['start']) == last and not opened['end']
        robot.see(calm, 5)
        first = min(s for s in robot.sent if s > last)
        bench.until(lambda: len(robot.edges('frame_gap')) == 2, 'it does not end')
        assert int(robot.edges('frame_gap')[1]['end']) == first
        later = max(robot.sent) + 3 * NS_PER_S
        robot.latent.publish(vector_message(calm, header(later)))
        bench.until(lambda: len(robot.edges('frame_gap')) == 4, 'a hole in the stamps is no event')
        *_, opened, closed = robot.edges('frame_gap')
        assert (int(closed['end']), float(closed['peak_score']) >= 2.5) == (later, True)


def test_a_slow_rise_of_the_score_is_drift(bench: Bench, calibrated):
    """The running mean exceeds its own threshold, though no single score exceeds the other one."""
    entry = replace(calibrated.calibration_for(0.05), drift=0.5)
    raised = replace(calibrated.manifest, calibration=(entry,))
    rewrite_manifest(calibrated.path, raised)
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.05, gap_seconds=5.0):
        robot = Robot(bench, calibrated)
        robot.see(np.full(SIZE, 1, dtype=np.float32), 230)
        bench.until(lambda: robot.edges('drift'), 'no event')
        assert not robot.edges('surprise')
        (opened,) = robot.edges('drift')
        first = min(robot.sent)
        assert int(opened['start']) - first >= 10 * NS_PER_S
        scores = [m.data for _, m in robot.scores]
        assert 0.5 < np.float32(opened['score']) <= max(scores) < 50  # as the messages are rounded


def test_a_horizon_without_thresholds_is_not_calibrated(bench: Bench, calibrated):
    """Scores of three blocks ahead come; the threshold of one block is not used for them."""
    with bench.nodes('surprise_node', bundle=calibrated.path, alpha=0.05, horizon=3):
        robot = Robot(bench, calibrated)
        robot.see(np.zeros(SIZE, dtype=np.float32), 35)
        bench.until(lambda: robot.scores, 'no score')
        bench.says('surprise_node', 'at horizon 3')
        assert not bench.listen(Float32, 'surprise/threshold', LATCHED)
