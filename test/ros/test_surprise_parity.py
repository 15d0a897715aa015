# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""A recorded episode gives the same surprise scores on the robot as offline."""

from __future__ import annotations

from harness import Bench
import numpy as np
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image, JointState

from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.bags.episodes import read_episodes
from lewm_ros.engines import load_engine
from lewm_ros.evaluation.scoring import score_episode
from lewm_ros.nodes.messages import stamp_of, vector
from lewm_ros.robot.contract import Contract
from lewm_ros.sim import make_task
from lewm_ros.sim.collect import START, RandomPolicy, simulate, write_image


def record(bag, contract: Contract) -> None:
    """Record 5 s of the arm under random efforts, in stamped commands with a phase of 13 ms."""
    task = make_task('reacher', 48, seed=1)
    policy = RandomPolicy(contract, np.random.default_rng(0))
    with BagWriter(bag, 'test') as writer:
        for kind, stamp, value in simulate(task, contract, policy, 5.0, 20.0, 0.013, START):
            if kind == 'image':
                write_image(writer, contract, stamp, value)
            elif kind == 'action':
                writer.write(
                    '/lewm/motors',
                    'sensor_msgs/msg/JointState',
                    stamp,
                    header=writer.header(stamp),
                    name=[],
                    position=np.empty(0),
                    velocity=np.empty(0),
                    effort=value,
                )
    task.close()


def test_a_replayed_bag_scores_as_offline(bench: Bench, tiny_bundle, tmp_path, contract_file):
    """Raw messages of a bag through both nodes give the offline scores to 1e-5, 2 blocks ahead."""
    fields = ['effort[0]', 'effort[1]']
    action = {'topic': 'motors', 'type': 'sensor_msgs/msg/JointState', 'fields': fields}
    path = contract_file(action=action)
    contract = Contract.load(path)
    bag = tmp_path / 'bag'
    record(bag, contract)
    (episode,) = read_episodes([bag], contract, tiny_bundle.manifest.image_size)
    offline = score_episode(tiny_bundle, load_engine(tiny_bundle), episode, horizon=2)
    expected = dict(zip(offline.stamps.tolist(), offline.contributions))
    assert len(expected) >= 75
    with AnyReader([bag]) as reader:
        messages = [(c.topic, bytes(raw)) for c, _, raw in reader.messages()]

    nodes = ('encoder_node', 'surprise_node')
    with bench.nodes(*nodes, bundle=tiny_bundle.path, contract=path, horizon=2):
        heard = bench.listen(Image, 'surprise/contributions')
        latents = bench.listen(Image, 'latent')
        camera = bench.publisher(Image, 'camera/image')
        motors = bench.publisher(JointState, 'motors')
        bench.active(*nodes)
        bench.spin(2.0)  # latents count once the model hash is received, which is not in the report
        for topic, raw in messages:
            if topic.endswith('motors'):
                motors.publish(raw)
                bench.spin(0.01)
                continue
            seen = len(latents)
            camera.publish(raw)
            # Wait for each latent: the encoder keeps the newest frame only, and none may be lost.
            bench.until(lambda seen=seen: len(latents) > seen, 'a frame was lost')
        bench.until(
            lambda: len(heard) >= len(expected),
            lambda: f'{len(heard)} of {len(expected)} scores: {bench.figures("surprise_node")}',
        )
    found = {stamp_of(m): vector(m, tiny_bundle.manifest.latent_size) for _, m in heard}
    assert found.keys() == expected.keys()
    for stamp, parts in found.items():
        np.testing.assert_allclose(parts, expected[stamp], rtol=1e-5, atol=1e-5)
    assert np.std(offline.scores) > 0.01  # they do differ
