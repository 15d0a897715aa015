# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""encoder_node in a process of its own, fed with real images."""

from __future__ import annotations

import cv2
from harness import Bench
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
import yaml

from lewm_ros.bundle import Bundle
from lewm_ros.engines import load_engine
from lewm_ros.imaging import prepare
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, image_message, stamp_of, to_ns, vector

SIZE = 8  # of the tiny bundle's latent


@pytest.fixture
def picture() -> np.ndarray:
    """Return a picture with structure, 60 x 80 px."""
    y, x = np.mgrid[:60, :80]
    return np.stack([3 * x, 4 * y, (x * y) % 256], axis=-1).astype(np.uint8)


def expected(bundle: Bundle, picture: np.ndarray) -> np.ndarray:
    """Return the latent that the training reader's transform and the engine give."""
    return load_engine(bundle).encode(prepare(picture, bundle.manifest.image_size))


def send_until(bench, publisher, message, heard):
    """Publish until there is an answer: best-effort messages may be lost."""

    def answered():
        publisher.publish(message)
        return heard

    bench.until(answered, 'no answer')


def test_a_frame_becomes_its_latent_under_its_own_header(bench: Bench, tiny_bundle, picture):
    """Equal to the engine on the training reader's image to 1e-5, with stamp and frame_id."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        latents = bench.listen(Image, 'latent')
        models = bench.listen(String, 'model', LATCHED)
        camera = bench.publisher(Image, 'camera/image')
        send_until(bench, camera, image_message(picture, header(12_345, 'wrist')), latents)
        latent = latents[0][1]
        assert to_ns(latent.header.stamp) == 12_345
        assert latent.header.frame_id == 'wrist'
        np.testing.assert_allclose(
            vector(latent, SIZE), expected(tiny_bundle, picture), rtol=1e-5, atol=1e-6
        )
        bench.until(lambda: models, 'no model announced')
        assert models[0][1].data == tiny_bundle.hash


def test_a_goal_image_becomes_a_latched_goal_latent(bench: Bench, tiny_bundle, picture):
    """A goal published before the encoder listens, and read after it answered, arrives."""
    goal = bench.node.create_publisher(Image, 'goal_image', LATCHED)
    goal.publish(image_message(picture, header(7)))
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        bench.active('encoder_node')
        bench.until(lambda: bench.figures('encoder_node')['goals'] == '1', 'goal not encoded')
        late = bench.listen(Image, 'goal_latent', LATCHED)
        bench.until(lambda: late, 'goal latent is not latched')
        np.testing.assert_allclose(
            vector(late[0][1], SIZE), expected(tiny_bundle, picture), rtol=1e-5, atol=1e-6
        )


def test_bad_frames_are_named_and_counted_and_good_ones_still_encoded(
    bench: Bench, tiny_bundle, picture
):
    """An unknown encoding and a cut image give no latent, their reasons are on /diagnostics."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path) as process:
        latents = bench.listen(Image, 'latent')
        camera = bench.publisher(Image, 'camera/image')
        unknown, cut = (image_message(picture, header(i)) for i in (1, 2))
        unknown.encoding = 'rgb12'
        cut.height += 1

        def refused(message, reason):
            camera.publish(message)
            return reason in bench.text('encoder_node')

        bench.until(lambda: refused(unknown, "encoding 'rgb12' is not supported"), 'not named')
        bench.until(lambda: refused(cut, 'height 61 x step 240 needs'), 'not named')
        assert not latents
        # No stamp either: the receive time stands in, said once.
        send_until(bench, camera, image_message(picture, header(0)), latents)
        assert abs(stamp_of(latents[0][1]) - bench.now()) < 5e9
        bench.until(lambda: bench.text('encoder_node') == 'ok', 'still complains')
        assert int(bench.figures('encoder_node')['bad_frames']) >= 2
        assert process.output.count('have no stamp') == 1


def test_a_silent_camera_is_named_within_five_seconds(bench: Bench, tiny_bundle):
    """The topic after remapping and the number of its publishers."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        bench.active('encoder_node')
        bench.until(lambda: 'no frames' in bench.text('encoder_node'), 'not named', 5.0)
        assert 'no frames on /lewm/camera/image for' in bench.text('encoder_node')
        assert '(publishers: 0)' in bench.text('encoder_node')


def test_compressed_images_are_read_where_the_contract_says_so(
    bench: Bench, tiny_bundle, picture, tmp_path
):
    """A PNG gives the same latent as the raw image."""
    data = tiny_bundle.contract.to_dict()
    data['camera'] |= {'topic': 'camera/small', 'type': 'sensor_msgs/msg/CompressedImage'}
    contract = tmp_path / 'robot.yaml'
    contract.write_text(yaml.safe_dump(data))
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, contract=contract):
        latents = bench.listen(Image, 'latent')
        camera = bench.publisher(CompressedImage, 'image/compressed')
        message = CompressedImage(header=header(5), format='png')
        message.data = cv2.imencode('.png', picture[..., ::-1])[1].tobytes()
        send_until(bench, camera, message, latents)
        np.testing.assert_allclose(
            vector(latents[0][1], SIZE), expected(tiny_bundle, picture), rtol=1e-5, atol=1e-6
        )


def test_a_missing_bundle_is_one_line_and_status_2(bench: Bench):
    """The name, and the names that there are; no traceback."""
    with bench.nodes('encoder_node', bundle='nowhere') as process:
        assert process.wait() == 2
        assert "bundle 'nowhere': no such path" in process.output
        assert 'Traceback' not in process.output
