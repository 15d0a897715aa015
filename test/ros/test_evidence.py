# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What surprise_node saves of an event, and when it stops saving."""

from __future__ import annotations

from harness import Bench
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Float64MultiArray, String, UInt32

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, image_message, vector_message


def test_an_event_leaves_a_bag_of_the_seconds_before_it(bench: Bench, calibrated, tmp_path):
    """The bag holds frames, commands, latents and scores; training and inspection read it.

    The second event exceeds evidence_per_hour: it is reported, and no bag is written.
    """
    folder = tmp_path / 'evidence'
    options = {'evidence_folder': folder, 'evidence_seconds': 1.5, 'evidence_per_hour': 1}
    parameters = {'alpha': 0.05, 'gap_seconds': 10.0, 'hold': 0.2, **options}
    with bench.nodes('surprise_node', bundle=calibrated.path, **parameters):
        bench.active('surprise_node')
        camera = bench.publisher(Image, 'camera/image')
        latent = bench.publisher(Image, 'latent')
        action = bench.publisher(Float64MultiArray, 'action')
        bench.publisher(UInt32, 'episode', LATCHED).publish(UInt32(data=7))
        bench.publisher(String, 'model', LATCHED).publish(String(data=calibrated.hash))
        images = {}

        def see(value: float, frames: int) -> None:
            for _ in range(frames):
                action.publish(Float64MultiArray(data=[0.1, -0.2]))
                stamp = bench.now()
                images[stamp] = np.full((32, 32, 3), len(images) % 256, np.uint8)
                camera.publish(image_message(images[stamp], header(stamp)))
                latent.publish(vector_message(np.full(8, value, dtype=np.float32), header(stamp)))
                bench.spin(0.05)

        see(0, 50)
        see(40, 3)

        def bags():
            return [p for p in folder.iterdir() if not p.name.startswith('.')]

        bench.until(lambda: bags(), 'no evidence')
        see(0, 30)
        see(40, 3)
        bench.says('surprise_node', 'evidence_per_hour')
    (bag,) = bags()
    assert bag.name.endswith('_surprise')
    assert not list((folder / '.unfinished').iterdir())
    (episode,) = read_episodes([bag], calibrated.contract, 32)
    span = (episode.stamps[-1] - episode.stamps[0]) / 1e9
    assert 1.0 <= span <= 1.6
    for stamp, image in zip(episode.stamps.tolist(), episode.images):
        assert (image == images[stamp]).all()
    assert len(episode.actions) >= 15
    with bench.lewm('inspect', str(bag), '--contract', 'reacher') as inspect:
        assert inspect.wait(60.0) == 0, inspect.output
        for name in ('surprise', 'surprise/contributions', 'latent', 'anomaly'):
            assert f'/lewm/{name}' in inspect.output


def test_a_bag_that_cannot_be_written_is_reported_and_counted(bench: Bench, calibrated, tmp_path):
    """An event whose evidence is lost is an error of the node, and counts as skipped."""
    folder = tmp_path / 'evidence'
    parameters = {'alpha': 0.05, 'gap_seconds': 0.5, 'evidence_folder': folder}
    with bench.nodes('surprise_node', bundle=calibrated.path, **parameters):
        bench.active('surprise_node')
        (folder / '.unfinished').rmdir()
        (folder / '.unfinished').write_text('')
        latent = bench.publisher(Image, 'latent')
        bench.publisher(String, 'model', LATCHED).publish(String(data=calibrated.hash))
        for _ in range(20):
            latent.publish(vector_message(np.zeros(8, np.float32), header(bench.now())))
            bench.spin(0.05)
        bench.says('surprise_node', 'cannot be created')
        figures = bench.figures('surprise_node')
        assert (figures['evidence_written'], figures['evidence_skipped']) == ('0', '1')


def test_a_folder_that_cannot_be_is_refused_at_the_start(bench: Bench, calibrated, tmp_path):
    """It is refused at startup; at the first event it would be too late."""
    (tmp_path / 'file').write_text('')
    folder = tmp_path / 'file' / 'evidence'
    with bench.nodes('surprise_node', bundle=calibrated.path, evidence_folder=folder) as process:
        assert process.wait() == 2
        assert f'evidence folder {folder}: cannot be created' in process.output
        assert 'Traceback' not in process.output
