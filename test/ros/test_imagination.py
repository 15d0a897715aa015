# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the model imagines, from real nodes: plans as strips, anomalies as expected and seen."""

from __future__ import annotations

from dataclasses import replace

import cv2
from harness import Bench
import numpy as np
import pytest
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray

from lewm_ros.bundle import Bundle, write_bundle
from lewm_ros.files import find
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, image_message, stamp_of, vector_message, vectors
from lewm_ros.robot.imaging import from_message
from lewm_ros.sim import make_task
from lewm_ros.view.imagination import Imagination


@pytest.fixture(scope='module')
def bundle() -> Bundle:
    """Return the bundle of the arm, which has a decoder."""
    return Bundle.load(find('bundle', 'reacher'))


@pytest.fixture(scope='module')
def poses() -> list[np.ndarray]:
    """Return frames of the arm at rest in three poses."""
    task, frames = make_task('reacher', 64, 1), []
    for _ in range(3):
        task.reset()
        frames.append(task.render())
    task.close()
    return frames


class Robot:
    """Stands in for camera and controller; view_node reads the camera from another topic here."""

    def __init__(self, bench: Bench, stamped: bool = True) -> None:
        self.bench, self.stamped = bench, stamped
        self.camera = bench.publisher(Image, 'camera/image')
        self.viewed = bench.node.create_publisher(Image, 'image', 5)
        self.action = bench.publisher(Float64MultiArray, 'action')

    def see(self, frame: np.ndarray, seconds: float) -> None:
        """Show a frame at 20 Hz, while nothing is commanded."""
        for _ in range(round(20 * seconds)):
            stamp = self.bench.now() if self.stamped else 0
            message = image_message(frame, header(stamp, 'camera_optical'))
            self.action.publish(Float64MultiArray(data=[0.0, 0.0]))
            self.camera.publish(message)
            self.viewed.publish(message)
            self.bench.spin(0.05)


def drawn(bench: Bench, name: str) -> int:
    return int(bench.report('view_node')[f'rendered: {name}'])


def test_a_plan_is_drawn_only_while_somebody_looks(bench: Bench, bundle, poses):
    """Strips come at most twice a second, and only while subscribed; so do the latents."""
    names = ('view_node', 'encoder_node', 'planner_node')
    with bench.nodes(*names, bundle=bundle.path, threads=1):
        bench.active(*names)
        robot = Robot(bench)
        bench.publisher(Image, 'goal_image', LATCHED).publish(image_message(poses[1], header(1)))
        robot.see(poses[0], 3.0)
        assert float(bench.report('planner_node')['plans']) > 3
        assert bench.node.count_subscribers('plan/latents') == 0
        assert drawn(bench, 'plan') == 0
        strips = bench.listen(Image, 'view/plan')
        latents = bench.listen(Image, 'plan/latents')
        robot.see(poses[0], 3.0)
        assert 3 <= len(strips) <= 7
        said = {stamp_of(m): vectors(m, bundle.spec.latent_size) for _, m in latents}
        image = strips[-1][1]
        assert image.header.frame_id == 'camera_optical'
        rows = said[stamp_of(image)]
        assert len(rows) == 1 + 6 + 1  # now, the blocks of the plan, the goal
        assert (from_message(image) == Imagination(bundle).plan(rows)).all()


@pytest.mark.parametrize('stamped', [True, False])
def test_an_anomaly_is_shown_as_expected_and_seen(bench: Bench, bundle, poses, tmp_path, stamped):
    """It is an image, latched for late joiners, and saved with the evidence of the event.

    Frames without a stamp count as of the time of their arrival, which differs between nodes.
    """
    names = ('view_node', 'encoder_node', 'surprise_node')
    options = {'evidence_folder': tmp_path / 'evidence', 'evidence_seconds': 1.0}
    with bench.nodes(*names, bundle=bundle.path, threads=1, **options):
        bench.active(*names)
        robot = Robot(bench, stamped)
        images = bench.listen(Image, 'view/expected')
        latents = bench.listen(Image, 'surprise/expected', LATCHED)
        robot.see(poses[0], 2.0)
        assert not latents and not images
        robot.see(poses[1], 0.5)
        bench.until(lambda: images and latents, 'no image')
        both = vectors(latents[0][1], bundle.spec.latent_size)
        expected = Imagination(bundle).expected(both, poses[1])
        assert (from_message(images[0][1]) == expected).all()
        assert stamp_of(images[0][1]) == stamp_of(latents[0][1])
        # The seen latent decodes to something like the frame, the expected one to the other pose.
        decoded = Imagination(bundle).decoder(both).astype(float)
        apart = [[np.abs(image - pose).mean() for pose in poses[:2]] for image in decoded]
        assert apart[0][0] < apart[0][1] and apart[1][1] < apart[1][0]
        late = bench.listen(Image, 'view/expected', LATCHED)
        bench.until(lambda: late, 'nothing for who looks later')
        bench.until(lambda: list(tmp_path.glob('evidence/2*')), 'no evidence')
        (saved,) = tmp_path.glob('evidence/2*_surprise/expected.png')
        assert (cv2.imread(str(saved))[..., ::-1] == expected).all()
        # Who looks again gets the same image, though the frame is no longer kept.
        for looking in [s for s in bench.node.subscriptions if s.topic_name.endswith('/expected')]:
            bench.node.destroy_subscription(looking)
        bench.until(lambda: not bench.node.count_subscribers('surprise/expected'), 'still asked')
        again = bench.listen(Image, 'view/expected', LATCHED)
        robot.see(poses[1], 1.5)
        assert again and all((from_message(image) == expected).all() for _, image in again)


def test_without_a_decoder_the_image_says_what_to_do(bench: Bench, tiny_bundle):
    """A missing decoder is no fault: the level of the node stays OK."""
    with bench.nodes('view_node', bundle=tiny_bundle.path):
        bench.active('view_node')
        strips = bench.listen(Image, 'view/plan')
        latents = bench.publisher(Image, 'plan/latents', 1)
        latents.publish(vector_message(np.zeros((7, 8)), header(1)))
        bench.until(lambda: strips, 'no image')
        bench.says('view_node', 'has no decoder.onnx: run `lewm decoder')
        assert bench.diagnostics['lewm/view_node'][0] == 0


def test_a_decoder_of_another_model_costs_the_image_not_the_evidence(
    bench: Bench, bundle, poses, tmp_path
):
    """The bag of the event is saved without an image, and the log names the other model."""
    folder = tmp_path / 'bundle'
    other = replace(bundle.manifest.decoder, model_hash='a' * 64)
    files = {name: bundle.path / name for name in bundle.manifest.hashes}
    write_bundle(folder, replace(bundle.manifest, decoder=other), files)
    names = ('encoder_node', 'surprise_node')
    options = {'evidence_folder': tmp_path / 'evidence', 'evidence_seconds': 1.0}
    with bench.nodes(*names, bundle=folder, threads=1, **options) as process:
        bench.active(*names)
        robot = Robot(bench)
        robot.see(poses[0], 2.0)
        robot.see(poses[1], 0.5)
        bench.until(lambda: list(tmp_path.glob('evidence/2*_surprise/*.mcap')), 'no evidence')
        assert not list(tmp_path.glob('evidence/2*/expected.png'))
        assert 'decoder.onnx is of model aaaaaaaaaaaa' in process.output
