# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""view_node in a process of its own: what it draws, and that it idles without subscribers."""

from __future__ import annotations

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from harness import ROOT, Bench
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float32, Header
from visualization_msgs.msg import MarkerArray
import yaml

from lewm_ros.nodes.anomalies import EVENTS
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, image_message, stamp_of, to_time, vector_message
from lewm_ros.robot.imaging import from_message
from lewm_ros.view import canvas
from lewm_ros.view.trace import Level

FRAME_ID = 'wrist_camera_optical'
OUTPUTS = ('image', 'plot', 'marker')  #: drawn continuously while subscribed
OTHERS = ('plan', 'expected')  #: drawn when there is something new
GREEN = np.full((48, 64, 3), (0, 200, 0), np.uint8)
BLUE = np.full((48, 64, 3), (0, 0, 200), np.uint8)


class Robot:
    """Publishes what camera, encoder and surprise_node would publish."""

    def __init__(self, bench: Bench, threshold: float | None = 16.0) -> None:
        node, self.bench = bench.node, bench
        self.camera = node.create_publisher(Image, 'image', 5)
        self.latent = node.create_publisher(Image, 'latent', 10)
        self.goal = node.create_publisher(Image, 'goal_image/accepted', LATCHED)
        self.parts = node.create_publisher(Image, 'surprise/contributions', 10)
        self.threshold = node.create_publisher(Float32, 'surprise/threshold', LATCHED)
        self.anomaly = node.create_publisher(DiagnosticArray, 'anomaly', EVENTS)
        self.diagnostics = node.create_publisher(DiagnosticArray, '/diagnostics', 10)
        self.goal.publish(image_message(BLUE, header(1, FRAME_ID)))
        if threshold is not None:
            self.threshold.publish(Float32(data=threshold))

    def wait(self) -> None:
        """Wait until the scores have a subscriber."""
        self.bench.until(lambda: self.parts.get_subscription_count(), 'nobody listens')

    def frame(self, score: float) -> int:
        """Publish a frame with its latent and its score in eight equal parts; return its stamp."""
        stamp = self.bench.now()
        self.camera.publish(image_message(GREEN, header(stamp, FRAME_ID)))
        self.latent.publish(vector_message(np.linspace(-1, 1, 8), header(stamp, FRAME_ID)))
        self.parts.publish(vector_message(np.full(8, score / 8), header(stamp)))
        return stamp

    def see(self, score: float, frames: int = 10) -> int:
        """Publish frames at 20 Hz; return the stamp of the last one."""
        for _ in range(frames):
            stamp = self.frame(score)
            self.bench.spin(0.05)
        return stamp

    def event(self, start: int, end: int | str = '', **values: object) -> None:
        """Publish one edge of an anomaly."""
        told = {'id': 1, 'start': start, 'end': end, 'peak_score': 99.0, **values}
        pairs = [KeyValue(key=k, value=str(v)) for k, v in told.items()]
        head = Header(stamp=to_time(start))
        self.anomaly.publish(DiagnosticArray(header=head, status=[DiagnosticStatus(values=pairs)]))

    def report(self, **values: object) -> None:
        """Publish what the surprise node reports of itself, and another node's beside it."""
        pairs = [KeyValue(key=k, value=str(v)) for k, v in values.items()]
        other = DiagnosticStatus(name='lewm/other_node', values=[KeyValue(key='alpha', value='9')])
        own = DiagnosticStatus(name='lewm/surprise_node', values=pairs)
        self.diagnostics.publish(DiagnosticArray(status=[own, other]))


def rendered(bench: Bench) -> dict[str, int]:
    """Images drawn so far, by output."""
    figures = bench.report('view_node')
    return {name: int(figures[f'rendered: {name}']) for name in (*OUTPUTS, *OTHERS)}


def kind_of(name: str) -> type:
    return MarkerArray if name == 'marker' else Image


def test_nothing_is_drawn_and_no_frame_received_while_nobody_looks(bench: Bench):
    """Without subscribers there is no rendering and no camera subscription."""
    with bench.nodes('view_node', contract='reacher'):
        robot = Robot(bench)
        bench.active('view_node')
        robot.wait()
        robot.see(1.0, 30)
        assert rendered(bench) == dict.fromkeys((*OUTPUTS, *OTHERS), 0)
        assert robot.camera.get_subscription_count() == 0
        assert robot.goal.get_subscription_count() == 0
        assert robot.latent.get_subscription_count() == 0  # one was enough for the frame id
        heard: list[Image] = []
        looking = bench.node.create_subscription(Image, 'view/plot', heard.append, 1)
        robot.see(1.0, 30)
        counts = rendered(bench)
        assert len(heard) > 5
        assert counts.pop('plot') > 0
        assert set(counts.values()) == {0}
        assert robot.camera.get_subscription_count() == 0
        # The first plot already shows the scores received before the subscription.
        early = from_message(heard[0])
        assert (early[..., 2].astype(int) - early[..., 0] > 40).any()
        bench.node.destroy_subscription(looking)
        bench.spin(1.5)
        before = rendered(bench)
        robot.see(1.0, 30)
        assert rendered(bench) == before
        images = bench.listen(Image, 'view/image')
        bench.until(lambda: robot.camera.get_subscription_count() == 1, 'no camera subscription')
        robot.see(1.0, 20)
        assert images


def test_a_cleared_goal_is_not_shown_any_more(bench: Bench):
    """An empty goal image replaces the blue one, and the camera is still drawn."""
    with bench.nodes('view_node', contract='reacher'):
        robot = Robot(bench)
        robot.wait()
        bench.active('view_node')
        images = bench.listen(Image, 'view/image')

        def goal_shown(shown: bool) -> bool:
            robot.see(1.0, 5)
            drawn = from_message(images[-1][1]) if images else np.zeros((1, 1, 3), np.uint8)
            return bool((drawn == BLUE[0, 0]).all(axis=-1).sum() > 1000) is shown

        bench.until(lambda: goal_shown(True), 'no goal')
        robot.goal.publish(image_message(BLUE[:0, :0], header(2, FRAME_ID)))
        images.clear()
        bench.until(lambda: images and goal_shown(False), 'still there')


@pytest.mark.parametrize('name', OUTPUTS)
def test_each_output_comes_in_the_frame_of_the_camera_at_a_bounded_rate(bench: Bench, name):
    """RViz needs no transform with the camera's frame id, which is never empty."""
    with bench.nodes('view_node', contract='reacher', rate=5.0):
        robot = Robot(bench)
        robot.wait()
        bench.active('view_node')
        robot.see(1.0, 5)
        heard = bench.listen(kind_of(name), f'view/{name}')
        robot.see(2.0, 40)
        assert 4 <= len(heard) <= 14
        message = heard[-1][1]
        heads = [m.header for m in message.markers] if name == 'marker' else [message.header]
        assert {h.frame_id for h in heads} == {FRAME_ID}
        age = bench.now() - stamp_of(message.markers[0] if name == 'marker' else message)
        assert 0 <= age < 2e9
        counts = rendered(bench)
        assert counts[name] > 0
        assert sum(counts.values()) == counts[name]
        if name != 'marker':
            assert from_message(message).shape[1] == canvas.WIDTH


def test_level_threshold_and_events_reach_image_and_marker(bench: Bench):
    """They show scores, the threshold with alpha, an event, its end, and silence."""
    with bench.nodes('view_node', contract='reacher'):
        robot = Robot(bench)
        robot.wait()
        markers = bench.listen(MarkerArray, 'view/marker')
        images = bench.listen(Image, 'view/image')

        def badge() -> tuple[int, ...]:
            """Colour of the headline in the newest image."""
            return tuple(from_message(images[-1][1])[3, 3]) if images else ()

        def label() -> str:
            return markers[-1][1].markers[-1].text if markers else ''

        def shown(level: Level, *texts: str) -> None:
            bench.until(
                lambda: (
                    label().startswith(level.value)
                    and all(t in label() for t in texts)
                    and badge() == canvas.LEVELS[level]
                ),
                lambda: f'{level}: {label()!r}, {badge()}',
            )
            mark = next(m for m in markers[-1][1].markers if m.ns == 'score')
            colour = [mark.color.r, mark.color.g, mark.color.b]
            assert colour == pytest.approx([c / 255 for c in canvas.LEVELS[level]], abs=0.01)

        robot.see(1.0)
        robot.report(alpha=0.01, threshold=16.0)
        shown(Level.NORMAL, 'surprise 1\n', 'threshold 16 (alpha 0.01)')
        image = from_message(images[-1][1])
        assert (image[150, 100] == GREEN[0, 0]).all()
        assert (image[150, 500] == BLUE[0, 0]).all()
        stamp = robot.see(1.0, 3)
        robot.event(stamp, kind='frozen_camera')
        robot.see(1.0, 3)
        shown(Level.ANOMALY, 'frozen_camera')
        robot.event(stamp, stamp + 1, kind='frozen_camera')
        robot.see(1.0, 3)
        shown(Level.NORMAL)
        robot.event(robot.see(99.0, 2))  # no kind: surprise
        robot.see(99.0, 2)
        shown(Level.ANOMALY, 'surprise 99', ': surprise')
        # The node that raised it has died; another one begins.
        robot.anomaly.publish(DiagnosticArray(header=header(robot.see(1.0, 2))))
        robot.see(1.0, 3)
        shown(Level.NORMAL)
        robot.report(alpha=0.05, threshold='nan')  # another bundle, not calibrated
        robot.see(1.0, 3)
        shown(Level.UNCALIBRATED, 'no threshold, no events')
        shown(Level.SILENT, 'no scores for 2 s')


def test_scores_that_are_no_numbers_are_drawn_not_fatal(bench: Bench):
    """NaN is shown as raised; a malformed message is named and skipped."""
    with bench.nodes('view_node', contract='reacher'):
        robot = Robot(bench)
        robot.wait()
        markers = bench.listen(MarkerArray, 'view/marker')
        robot.see(float('nan'), 5)
        bench.until(lambda: markers and markers[-1][1].markers[-1].text[:6] == 'raised', 'not seen')
        robot.parts.publish(image_message(GREEN, header(bench.now())))
        bench.says('view_node', 'cut short')
        robot.see(1.0, 5)
        bench.until(lambda: markers[-1][1].markers[-1].text[:6] == 'normal', 'it did not go on')


def test_a_camera_without_a_frame_id_is_said(bench: Bench):
    """RViz would silently show nothing; the warning names the parameter that helps."""
    with bench.nodes('view_node', contract='reacher'):
        latent = bench.publisher(Image, 'latent')
        plots = bench.listen(Image, 'view/plot')
        bench.until(lambda: plots, 'no image before the first score')
        latent.publish(vector_message(np.zeros(8), header(bench.now())))
        bench.says('view_node', 'set parameter frame_id')
    with bench.nodes('view_node', contract='reacher', frame_id='map'):
        plots.clear()
        bench.until(lambda: plots and plots[-1][1].header.frame_id == 'map', 'not used')


def test_rviz_configuration_asks_for_what_is_published(bench: Bench):
    """Topics, types and QoS of each display match a publisher; the fixed frame is the demo's."""
    from lewm_ros.nodes.sim import FRAME_ID as simulated

    data = yaml.safe_load((ROOT / 'config' / 'rviz' / 'lewm.rviz').read_text())
    manager = data['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == simulated
    types = {
        'rviz_default_plugins/Image': 'sensor_msgs/msg/Image',
        'rviz_default_plugins/MarkerArray': 'visualization_msgs/msg/MarkerArray',
    }
    with bench.nodes('view_node', contract='reacher'):
        bench.active('view_node')
        offered = {f'/lewm/view/{name}' for name in (*OUTPUTS, *OTHERS)}
        asked = {d['Topic']['Value']: d for d in manager['Displays']}
        assert set(asked) == {*offered, '/lewm/goal_image/accepted'}
        Robot(bench)
        for topic, display in asked.items():
            (offer,) = bench.node.get_publishers_info_by_topic(topic)
            assert offer.topic_type == types[display['Class']]
            wanted = display['Topic']
            assert wanted['Reliability Policy'] == offer.qos_profile.reliability.name.title()
            latched = offer.qos_profile.durability.name == 'TRANSIENT_LOCAL'
            assert wanted['Durability Policy'] == ('Transient Local' if latched else 'Volatile')
            assert display['Enabled']
