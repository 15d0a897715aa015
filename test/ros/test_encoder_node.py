# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""encoder_node in a process of its own, fed with real images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import re
import time

import cv2
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from harness import Bench
from lifecycle_msgs.msg import Transition
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import String
from std_srvs.srv import Trigger

from lewm_ros.bundle import FILES, Bundle, write_bundle
from lewm_ros.engines import load_engine
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, image_message, stamp_of, to_ns, vector
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.imaging import from_message, prepare

SIZE = 8  # of the tiny bundle's latent


@pytest.fixture
def image() -> np.ndarray:
    """Return an image with structure, 60 x 80 px."""
    y, x = np.mgrid[:60, :80]
    return np.stack([3 * x, 4 * y, (x * y) % 256], axis=-1).astype(np.uint8)


@pytest.fixture
def goal_file(image: np.ndarray, tmp_path: Path) -> Path:
    """Write the image as a PNG file and return its path."""
    path = tmp_path / 'goal.png'
    cv2.imwrite(str(path), image[..., ::-1])
    return path


def expected(bundle: Bundle, image: np.ndarray) -> np.ndarray:
    """Return the latent that the training reader's transform and the engine give."""
    return load_engine(bundle).encode(prepare(image, bundle.manifest.image_size))


def send_until(bench, publisher, message, heard):
    """Publish until there is an answer: best-effort messages may be lost."""

    def answered():
        publisher.publish(message)
        return heard

    bench.until(answered, 'no answer')


def test_a_frame_becomes_its_latent_under_its_own_header(bench: Bench, tiny_bundle, image):
    """The latent equals that of the training reader's image to 1e-5, with stamp and frame_id."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        latents = bench.listen(Image, 'latent')
        models = bench.listen(String, 'model', LATCHED)
        camera = bench.publisher(Image, 'camera/image')
        send_until(bench, camera, image_message(image, header(12_345, 'wrist')), latents)
        latent = latents[0][1]
        assert to_ns(latent.header.stamp) == 12_345
        assert latent.header.frame_id == 'wrist'
        np.testing.assert_allclose(
            vector(latent, SIZE), expected(tiny_bundle, image), rtol=1e-5, atol=1e-6
        )
        bench.until(lambda: models, 'no model announced')
        assert models[0][1].data == tiny_bundle.hash


def test_a_goal_image_becomes_a_latched_goal_latent(bench: Bench, tiny_bundle, image):
    """A goal published before the encoder starts is used; late subscribers get its latent."""
    goal = bench.node.create_publisher(Image, 'goal_image', LATCHED)
    goal.publish(image_message(image, header(7)))
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        camera = bench.publisher(Image, 'camera/image')
        late = goals_while_filming(bench, camera, image)
        assert stamp_of(late[0][1]) == 7
        np.testing.assert_allclose(
            vector(late[0][1], SIZE), expected(tiny_bundle, image), rtol=1e-5, atol=1e-6
        )


def goals_while_filming(bench, camera, image) -> list:
    """Publish frames until a goal is encoded; return what is heard on goal_latent then."""

    def encoded():
        camera.publish(image_message(image, header(bench.now())))
        bench.spin(0.1)
        return bench.figures('encoder_node').get('goals', '0') != '0'

    bench.until(encoded, 'goal not encoded')
    late = bench.listen(Image, 'goal_latent', LATCHED)
    bench.until(lambda: late, 'goal latent is not latched')
    return late


def test_bad_frames_are_named_and_counted_and_good_ones_still_encoded(
    bench: Bench, tiny_bundle, image
):
    """An unknown encoding and a truncated image give no latent; /diagnostics has the reasons."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path) as process:
        latents = bench.listen(Image, 'latent')
        camera = bench.publisher(Image, 'camera/image')
        unknown, cut = (image_message(image, header(i)) for i in (1, 2))
        unknown.encoding = 'rgb12'
        cut.height += 1

        def refused(message, reason):
            camera.publish(message)
            return reason in bench.text('encoder_node')

        bench.until(lambda: refused(unknown, "encoding 'rgb12' is not supported"), 'not named')
        bench.until(lambda: refused(cut, 'height 61 x step 240 needs'), 'not named')
        assert not latents
        # Without a stamp the receive time is used, with one warning.
        send_until(bench, camera, image_message(image, header(0)), latents)
        assert abs(stamp_of(latents[0][1]) - bench.now()) < 5e9
        assert 'refused' in bench.text('encoder_node')  # it does not flicker with each frame

        def calm():
            camera.publish(image_message(image, header(bench.now())))
            bench.spin(0.1)
            return bench.text('encoder_node') == 'ok'

        bench.until(calm, 'still complains')
        assert int(bench.figures('encoder_node')['bad_frames']) >= 2
        assert process.output.count('have no stamp') == 1


def test_a_silent_camera_is_named_within_five_seconds(bench: Bench, tiny_bundle):
    """Topic, publishers and remedy are logged at each change of the latter; a frame clears it.

    The log once ended with "publishers: 0" where a camera had appeared, but none of its frames.
    """
    with bench.nodes('encoder_node', bundle=tiny_bundle.path) as process:
        bench.active('encoder_node')
        said = ('no frames on /lewm/camera/image for', '(publishers: 0): start the camera driver')
        bench.says('encoder_node', *said, timeout=5.0)
        camera = bench.publisher(Image, 'camera/image')
        image = np.zeros((64, 64, 3), np.uint8)
        said = '(publishers: 1): if they are raw images above 512 KiB, set config/fastdds.xml'
        bench.until(lambda: said in process.output, 'not logged', 5.0)
        bench.spin(2.0)
        assert process.output.count(']: no frames on ') == 2

        def seen():
            camera.publish(image_message(image, header(bench.now())))
            return bench.text('encoder_node') == 'ok'

        bench.until(seen, 'not over', 5.0)
        bench.says('encoder_node', '(publishers: 1): restart the camera driver', timeout=5.0)
        bench.until(seen, 'not over', 5.0)


def test_a_camera_slower_than_in_training_is_named_with_both_rates(
    bench: Bench, tiny_bundle, image
):
    """It is logged once while it lasts; jitter and a few lost frames do not trigger it."""
    rng = np.random.default_rng(0)
    with bench.nodes('encoder_node', bundle=tiny_bundle.path) as process:
        camera = bench.publisher(Image, 'camera/image')
        stamp = 1.0

        def film(period: float, seconds: float) -> str:
            """Send frames faster than real time, with a few lost, then wait for diagnostics."""
            nonlocal stamp
            end = stamp + seconds
            while stamp < end:
                stamp += period
                if rng.random() > 0.05:
                    when = stamp + rng.uniform(-0.3, 0.3) * period
                    camera.publish(image_message(image, header(round(when * 1e9))))
                    bench.spin(0.015)
            bench.report('encoder_node')
            return bench.text('encoder_node')

        said = 'Hz on /lewm/camera/image, the bundle was trained at 20.0 Hz: set the camera to'
        text = film(0.05, 8.0)
        assert said not in text
        # Only the clock is wrong.
        assert re.search(r'are stamped \d+\.\d\d s behind this node.s clock \(simulated', text)
        assert said in (text := film(0.1, 8.0))
        assert 8.0 <= float(text.partition('frames at ')[2].split()[0]) <= 10.0
        assert said in film(0.1, 3.0)
        assert said not in film(0.04, 10.0)
        assert process.output.count('] [lewm.encoder_node]: frames at') == 1


@pytest.fixture
def compressed(contract_file):
    """Return the file of a contract whose camera sends compressed images."""
    return contract_file(
        camera={'topic': 'camera/small', 'type': 'sensor_msgs/msg/CompressedImage'}
    )


def png(image: np.ndarray, stamp: int) -> CompressedImage:
    """Return an image as a CompressedImage in PNG format."""
    message = CompressedImage(header=header(stamp), format='png')
    message.data = cv2.imencode('.png', image[..., ::-1])[1].tobytes()
    return message


def test_compressed_images_are_read_where_the_contract_says_so(
    bench: Bench, tiny_bundle, image, compressed
):
    """A PNG gives the same latent as the raw image, and the service makes it the goal."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, contract=compressed):
        latents = bench.listen(Image, 'latent')
        goals = bench.listen(Image, 'goal_latent', LATCHED)
        shown = bench.listen(Image, 'goal_image/accepted', LATCHED)
        camera = bench.publisher(CompressedImage, 'image/compressed')
        send_until(bench, camera, png(image, 5), latents)
        latent = expected(tiny_bundle, image)
        np.testing.assert_allclose(vector(latents[0][1], SIZE), latent, rtol=1e-5, atol=1e-6)
        assert bench.call(Trigger, 'encoder_node/set_goal').success
        bench.until(lambda: goals and shown, 'no goal')
        np.testing.assert_allclose(vector(goals[0][1], SIZE), latent, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(from_message(shown[0][1]), image)
        assert stamp_of(shown[0][1]) == 5


def test_frames_count_by_their_receive_time_where_the_contract_says_so(
    bench: Bench, tiny_bundle, image, contract_file
):
    """With ``stamp: log`` a camera's wrong clock does not matter, and is not reported."""
    contract = contract_file(camera={'stamp': 'log'})
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, contract=contract):
        latents = bench.listen(Image, 'latent')
        camera = bench.publisher(Image, 'camera/image')
        began = time.time_ns()
        send_until(bench, camera, image_message(image, header(5, 'optical')), latents)
        assert began < stamp_of(latents[0][1]) < time.time_ns()
        assert latents[0][1].header.frame_id == 'optical'
        bench.report('encoder_node')
        assert 'clock' not in bench.text('encoder_node')


@pytest.mark.parametrize('kind', [Image, CompressedImage])
def test_a_compressed_goal_is_taken_whatever_the_camera_sends(
    bench: Bench, tiny_bundle, image, compressed, kind
):
    """It gives the expected latent; a raw goal replaces it; a truncated one is refused."""
    own = {'contract': compressed} if kind is CompressedImage else {}
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, **own):
        latents = bench.listen(Image, 'latent')
        goals = bench.listen(Image, 'goal_latent', LATCHED)
        camera = bench.publisher(
            kind, 'image/compressed' if kind is CompressedImage else 'camera/image'
        )
        frame = png(image, 1) if kind is CompressedImage else image_message(image, header(1))
        send_until(bench, camera, frame, latents)
        small = bench.publisher(CompressedImage, 'goal_image/compressed', LATCHED)
        small.publish(png(255 - image, 2))
        bench.until(lambda: len(goals) == 1, 'no goal')
        assert stamp_of(goals[0][1]) == 2
        np.testing.assert_allclose(
            vector(goals[0][1], SIZE), expected(tiny_bundle, 255 - image), rtol=1e-5, atol=1e-6
        )
        cut = png(image, 3)
        cut.data = cut.data[:-30]
        small.publish(cut)
        bench.says('encoder_node', 'goal image refused: compressed image')
        raw = bench.publisher(Image, 'goal_image', LATCHED)
        raw.publish(image_message(image, header(4)))
        bench.until(lambda: len(goals) == 2, 'not replaced')
        assert stamp_of(goals[1][1]) == 4
        np.testing.assert_allclose(
            vector(goals[1][1], SIZE), expected(tiny_bundle, image), rtol=1e-5, atol=1e-6
        )


def test_a_goal_arrives_whatever_the_durability_of_its_publisher(bench: Bench, tiny_bundle, image):
    """A goal of a default publisher is encoded, and one of a latched publisher only once.

    The only subscription was latched, which a default publisher does not reach.
    """
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        latents = bench.listen(Image, 'latent')
        goals = bench.listen(Image, 'goal_latent', LATCHED)
        camera = bench.publisher(Image, 'camera/image')
        send_until(bench, camera, image_message(image, header(1)), latents)
        for stamp, qos in enumerate((10, LATCHED), start=2):
            publisher = bench.publisher(Image, 'goal_image', qos)
            bench.spin(0.5)  # until the second subscription has it too
            publisher.publish(image_message(image, header(stamp)))
            bench.until(lambda stamp=stamp: len(goals) == stamp - 1, 'no goal')
        bench.spin(0.5)
        assert [stamp_of(m) for _, m in goals] == [2, 3]
        assert 'goal_image' not in bench.text('encoder_node')


@pytest.mark.parametrize('newer', ['goal_image', 'goal_image/compressed'])
def test_of_two_latched_goals_the_newer_is_the_first(bench: Bench, tiny_bundle, image, newer):
    """The newer goal wins, whichever topic the middleware delivers first."""
    goals = {
        'goal_image': image_message(image, header(1)),
        'goal_image/compressed': png(255 - image, 2),
    }
    for topic in sorted(goals, key=lambda topic: topic == newer):
        publisher = bench.node.create_publisher(type(goals[topic]), topic, LATCHED)
        publisher.publish(goals[topic])
        bench.spin(0.1)
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        camera = bench.publisher(Image, 'camera/image')
        heard = goals_while_filming(bench, camera, image)
        wanted = stamp_of(goals[newer])
        bench.until(lambda: stamp_of(heard[-1][1]) == wanted, 'the older one')
        bench.spin(0.5)
        assert stamp_of(heard[-1][1]) == wanted


def test_set_goal_needs_a_frame_that_is_fresh_and_readable(bench: Bench, tiny_bundle, image):
    """Otherwise the service fails with the reason, and the old goal stays."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        latents = bench.listen(Image, 'latent')
        goals = bench.listen(Image, 'goal_latent', LATCHED)

        def answer():
            response = bench.call(Trigger, 'encoder_node/set_goal')
            return response.success, response.message

        no_frame = 'no frame on /lewm/camera/image was encoded in the last 2 s'
        assert answer() == (False, no_frame)
        camera = bench.publisher(Image, 'camera/image')
        bad = image_message(image, header(1))
        bad.encoding = 'rgb12'

        def named():
            camera.publish(bad)
            bench.spin(0.1)
            success, text = answer()
            assert not success and text.startswith(no_frame)
            return "'rgb12' is not supported" in text

        bench.until(named, 'not named')

        def taken():
            camera.publish(image_message(image, header(2 * 10**9)))
            bench.spin(0.1)
            return answer() == (True, 'the frame of 2.000 s is the goal')

        bench.until(taken, 'not taken')
        bench.until(lambda: goals, 'no goal')
        assert stamp_of(goals[0][1]) == 2 * 10**9
        np.testing.assert_array_equal(goals[0][1].data, latents[0][1].data)
        bench.spin(2.2)
        assert answer() == (False, no_frame)
        bench.spin(0.5)
        assert len(goals) == 1


def test_a_goal_file_is_the_first_goal_and_a_goal_image_replaces_it(
    bench: Bench, tiny_bundle, image, goal_file
):
    """An unreadable goal image is refused by name, and changes neither latent nor image."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, goal_file=goal_file):
        camera = bench.publisher(Image, 'camera/image')
        goals = goals_while_filming(bench, camera, image)
        shown = bench.listen(Image, 'goal_image/accepted', LATCHED)
        bench.until(lambda: shown, 'no goal')
        latent = expected(tiny_bundle, image)
        np.testing.assert_allclose(vector(goals[0][1], SIZE), latent, rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(from_message(shown[0][1]), image)
        publisher = bench.publisher(Image, 'goal_image', LATCHED)
        wrong = image_message(image, header(8))
        wrong.step += 1
        publisher.publish(wrong)
        bench.says('encoder_node', 'goal image refused: image has')
        bench.until(lambda: int(bench.figures('encoder_node')['bad_frames']) == 1, 'not counted')
        late = bench.listen(Image, 'goal_image/accepted', LATCHED)
        bench.until(lambda: late, 'not latched')
        assert (len(goals), len(shown)) == (1, 1)
        np.testing.assert_array_equal(from_message(late[0][1]), image)
        publisher.publish(image_message(255 - image, header(9)))
        bench.until(lambda: len(goals) == 2 and len(shown) == 2, 'not replaced')
        assert stamp_of(goals[1][1]) == stamp_of(shown[1][1]) == 9
        np.testing.assert_array_equal(from_message(shown[1][1]), 255 - image)
        bench.until(lambda: 'goal image' not in bench.text('encoder_node'), 'still complains')


def test_a_cleared_goal_leaves_empty_messages_and_does_not_come_back(
    bench: Bench, tiny_bundle, image, goal_file
):
    """Neither the latched goal, nor the file, nor a latched image counts after activation."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, goal_file=goal_file):
        camera = bench.publisher(Image, 'camera/image')
        goals = goals_while_filming(bench, camera, image)
        bench.publisher(Image, 'goal_image', LATCHED).publish(image_message(image, header(9)))
        bench.until(lambda: len(goals) == 2, 'no second goal')
        assert bench.call(Trigger, 'encoder_node/clear_goal').success
        bench.until(lambda: len(goals) == 3, 'not cleared')
        bench.change('encoder_node', Transition.TRANSITION_DEACTIVATE)
        bench.change('encoder_node', Transition.TRANSITION_ACTIVATE)
        for _ in range(20):  # longer than goals from before the activation wait
            camera.publish(image_message(image, header(bench.now())))
            bench.spin(0.1)
        assert bench.report('encoder_node')['goals'] == '0'
        for topic in ('goal_latent', 'goal_image/accepted'):
            late = bench.listen(Image, topic, LATCHED)
            bench.until(lambda late=late: late, 'not latched')
            assert [len(m.data) for _, m in late] == [0]


def test_clearing_drops_a_goal_that_waits_for_a_frame(bench: Bench, tiny_bundle, image):
    """It does not become active with the first frame."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        goals = bench.listen(Image, 'goal_latent', LATCHED)
        latents = bench.listen(Image, 'latent')
        bench.publisher(Image, 'goal_image').publish(image_message(image, header(1)))
        bench.spin(0.5)
        assert bench.call(Trigger, 'encoder_node/clear_goal').success
        camera = bench.publisher(Image, 'camera/image')
        send_until(bench, camera, image_message(image, header(2)), latents)
        bench.spin(0.5)
        assert [m.width for _, m in goals] == [0]


def test_a_goal_that_timed_out_is_not_latched_any_more(bench: Bench, tiny_bundle, image):
    """An empty latent with its stamp replaces it; a timeout of an older goal does nothing."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        status = bench.publisher(DiagnosticArray, 'goal_status', LATCHED)
        goals = bench.listen(Image, 'goal_latent', LATCHED)
        latents = bench.listen(Image, 'latent')
        camera = bench.publisher(Image, 'camera/image')
        send_until(bench, camera, image_message(image, header(1)), latents)
        bench.publisher(Image, 'goal_image').publish(image_message(image, header(7)))
        bench.until(lambda: goals, 'no goal')
        for stamp in (6, 7, 7):
            values = [KeyValue(key='goal_stamp', value=str(stamp))]
            timeout = DiagnosticStatus(name='goal', message='timeout', values=values)
            status.publish(DiagnosticArray(status=[timeout]))
            bench.spin(0.5)
        assert [(stamp_of(m), m.width) for _, m in goals] == [(7, SIZE), (7, 0)]


def test_a_goal_that_does_not_name_its_colours_is_taken_with_a_warning(
    bench: Bench, tiny_bundle, image
):
    """Both encodings are reported until a goal names its own, in any order of channels."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        camera = bench.publisher(Image, 'camera/image')
        latents = bench.listen(Image, 'latent')
        goals = bench.listen(Image, 'goal_latent', LATCHED)
        send_until(bench, camera, image_message(image, header(1)), latents)
        publisher = bench.publisher(Image, 'goal_image', LATCHED)
        said = 'goal image is 8UC3, frames on /lewm/camera/image are rgb8: 8UC3 does not define'
        bare, swapped = image_message(image, header(2)), image_message(image, header(3))
        bare.encoding, swapped.encoding = '8UC3', 'bgr8'
        publisher.publish(bare)
        bench.says('encoder_node', said)
        bench.until(lambda: goals, 'not taken')
        np.testing.assert_allclose(
            vector(goals[0][1], SIZE), expected(tiny_bundle, image), rtol=1e-5, atol=1e-6
        )
        publisher.publish(swapped)
        bench.until(lambda: said not in bench.text('encoder_node'), 'still named')
        bench.until(lambda: len(goals) == 2, 'not taken')
        np.testing.assert_allclose(
            vector(goals[1][1], SIZE),
            expected(tiny_bundle, image[..., ::-1]),
            rtol=1e-5,
            atol=1e-6,
        )


def test_a_goal_waits_for_the_first_frame_and_has_to_agree_with_it(
    bench: Bench, tiny_bundle, image, tmp_path
):
    """A goal file from another camera is refused by name; a goal set meanwhile is accepted."""
    path = tmp_path / 'goal.png'
    cv2.imwrite(str(path), image[:40])
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, goal_file=path):
        goals = bench.listen(Image, 'goal_latent', LATCHED)
        bench.active('encoder_node')
        assert bench.report('encoder_node')['bad_frames'] == '0'
        camera = bench.publisher(Image, 'camera/image')
        said = 'goal image refused: image is 80x40 pixels, frames were 80x60'

        def named():
            camera.publish(image_message(image, header(bench.now())))
            return said in bench.text('encoder_node')

        bench.until(named, 'not named')
        assert 'activate' not in bench.text('encoder_node')  # that remedy is for frames
        assert not goals
        publisher = bench.publisher(Image, 'goal_image', LATCHED)
        publisher.publish(image_message(image, header(9)))
        bench.until(lambda: goals, 'no goal')
        assert [stamp_of(m) for _, m in goals] == [9]


@pytest.mark.parametrize(('state', 'repeated'), [('timeout', False), ('none', True)])
def test_an_encoder_that_starts_again_repeats_no_goal_that_a_planner_knows(
    bench: Bench, tiny_bundle, image, goal_file, state, repeated
):
    """If the planner has a goal, neither file nor latched image is repeated; else the image is."""
    status = bench.node.create_publisher(DiagnosticArray, 'goal_status', LATCHED)
    status.publish(DiagnosticArray(status=[DiagnosticStatus(name='goal', message=state)]))
    goal = bench.node.create_publisher(Image, 'goal_image', LATCHED)
    goal.publish(image_message(255 - image, header(0)))
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, goal_file=goal_file):
        goals = bench.listen(Image, 'goal_latent', LATCHED)
        camera = bench.publisher(Image, 'camera/image')

        def decided():
            camera.publish(image_message(image, header(bench.now())))
            return goals if repeated else 'planner_node has one' in bench.text('encoder_node')

        bench.until(decided, 'not decided')
        bench.spin(0.3)
        if repeated:  # the image counts, the file came before it
            (_, latent), *more = goals
            np.testing.assert_allclose(
                vector(latent, SIZE), expected(tiny_bundle, 255 - image), rtol=1e-5, atol=1e-6
            )
            assert not more
        else:
            assert not goals
        goal.publish(image_message(image, header(0)))  # a new request
        bench.until(lambda: len(goals) == 1 + repeated, 'no goal')


@pytest.mark.parametrize(
    ('content', 'reason'),
    [
        (None, 'No such file or directory'),
        (b'not an image', 'compressed image cannot be decoded: expected JPEG or PNG'),
    ],
)
def test_a_goal_file_that_is_no_image_is_one_line_and_status_2(
    bench: Bench, tiny_bundle, tmp_path, content, reason
):
    """The error names the parameter, the path and the cause, without a traceback."""
    path = tmp_path / 'goal.png'
    if content is not None:
        path.write_bytes(content)
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, goal_file=path) as process:
        assert process.wait() == 2
        assert f"goal_file '{path}': {reason}" in process.output
        assert 'Traceback' not in process.output


def test_colours_of_unstated_order_are_named(bench: Bench, tiny_bundle, image):
    """8UC3 is read as RGB, which cv_bridge's images without an encoding are not."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        latents = bench.listen(Image, 'latent')
        camera = bench.publisher(Image, 'camera/image')
        message = image_message(image, header(1))
        message.encoding = '8UC3'
        send_until(bench, camera, message, latents)
        bench.says('encoder_node', 'image encoding 8UC3 does not state the order of its colours')


def test_frames_may_change_their_size_but_not_what_they_show(
    bench: Bench, tiny_bundle, image, tmp_path
):
    """Twice the size is accepted; another aspect ratio, or another size with a crop, is not."""
    data = tiny_bundle.contract.to_dict()
    data['camera']['crop'] = [8, 4, 40, 40]
    manifest = replace(tiny_bundle.manifest, contract=Contract.parse(data))
    files = {name: tiny_bundle.path / name for name in FILES}
    cropped = write_bundle(tmp_path / 'cropped', manifest, files)
    large = np.repeat(np.repeat(image, 2, axis=0), 2, axis=1)
    for bundle, said in (
        (tiny_bundle, 'image is 80x40 pixels, frames were 160x120: expected the same aspect ratio'),
        (cropped, 'image is 160x120 pixels, frames were 80x60: expected the same size'),
    ):
        with bench.nodes('encoder_node', bundle=bundle.path):
            latents = bench.listen(Image, 'latent')
            camera = bench.publisher(Image, 'camera/image')
            send_until(bench, camera, image_message(image, header(1)), latents)
            latents.clear()
            if bundle is tiny_bundle:
                send_until(bench, camera, image_message(large, header(2)), latents)
                np.testing.assert_allclose(
                    vector(latents[0][1], SIZE), expected(bundle, large), rtol=1e-5, atol=1e-6
                )
            refused = image[:40] if bundle is tiny_bundle else large

            def named(refused=refused, said=said, camera=camera):
                camera.publish(image_message(refused, header(3)))
                return said in bench.text('encoder_node')

            bench.until(named, 'not refused')
            latents.clear()
            good = large if bundle is tiny_bundle else image
            send_until(bench, camera, image_message(good, header(4)), latents)
            assert {stamp_of(m) for _, m in latents} == {4}


def test_a_missing_bundle_is_one_line_and_status_2(bench: Bench):
    """The error names the bundle, without a traceback."""
    with bench.nodes('encoder_node', bundle='nowhere') as process:
        assert process.wait() == 2
        assert "bundle 'nowhere': no such path" in process.output
        assert 'Traceback' not in process.output
