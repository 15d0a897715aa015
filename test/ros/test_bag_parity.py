# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A frame of a bag gives the same latent in training and on the robot."""

from __future__ import annotations

from harness import Bench
import numpy as np
import pytest
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image

from lewm_ros.bags.episodes import read_episodes
from lewm_ros.engines import load_engine
from lewm_ros.nodes.messages import stamp_of, vector


def test_a_bag_frame_has_one_latent(bench: Bench, tiny_bundle, tmp_path):
    """encoder_node on raw messages of a bag equals torch on the reader's frames, to 1e-5.

    Frames have 48 px, so that resizing is part of it.
    """
    pytest.importorskip('torch')
    bag = tmp_path / 'bag'
    options = ['--episodes', '1', '--seconds', '1', '--image-size', '48']
    with bench.lewm('collect', 'reacher', '--out', str(bag), *options) as collect:
        assert collect.wait(60.0) == 0, collect.output
    (episode,) = read_episodes([bag], tiny_bundle.contract, tiny_bundle.manifest.image_size)
    engine = load_engine(tiny_bundle, 'torch')
    expected = {
        stamp: engine.encode(image) for stamp, image in zip(episode.stamps.tolist(), episode.images)
    }
    with AnyReader([bag]) as reader:
        camera = [c for c in reader.connections if c.topic.endswith('camera/image')]
        frames = [raw for _, _, raw in reader.messages(camera)]
    assert len(frames) == len(expected) == 20

    with bench.nodes('encoder_node', bundle=tiny_bundle.path):
        heard = bench.listen(Image, 'latent')
        camera_topic = bench.publisher(Image, 'camera/image')
        bench.active('encoder_node')
        for raw in frames:
            camera_topic.publish(bytes(raw))
            bench.spin(0.05)
        bench.until(lambda: len(heard) >= 15, lambda: f'{len(heard)} latents of 20 frames')
    for _, message in heard:
        latent = vector(message, tiny_bundle.manifest.latent_size)
        np.testing.assert_allclose(latent, expected[stamp_of(message)], atol=1e-5)
    assert np.std(list(expected.values()), axis=0).max() > 1e-3  # frames do differ
