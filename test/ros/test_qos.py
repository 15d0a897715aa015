# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Quality of service: what users can set, and what is reported on a mismatch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from harness import Bench
import numpy as np
import pytest
from rcl_interfaces.srv import GetParameters
import rclpy.logging
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import Image
import yaml

from lewm_ros.nodes.diagnostics import Conditions
from lewm_ros.nodes.messages import header, image_message
from lewm_ros.nodes.qos import Endpoints

BEST_EFFORT = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
#: A mismatch is reported, and cleared, within this time [s].
SOON = 5.0


def frames_arrive(bench: Bench, camera: Any, seconds: float = 10.0) -> bool:
    """Publish frames until the encoder reports one, or time is up; return whether it did."""
    before = int(bench.figures('encoder_node')['frames'])
    image = np.zeros((64, 64, 3), np.uint8)
    for _ in range(round(20 * seconds)):
        camera.publish(image_message(image, header(bench.now())))
        bench.spin(0.05)
        if int(bench.figures('encoder_node')['frames']) > before:
            return True
    return False


@pytest.mark.parametrize('asked', ['best_effort', 'reliable'])
def test_a_camera_that_offers_too_little_is_named_with_the_remedy(bench: Bench, tiny_bundle, asked):
    """For all pairs of publisher and setting, frames arrive or the mismatch is reported."""
    with bench.nodes('encoder_node', bundle=tiny_bundle.path, image_reliability=asked) as process:
        bench.active('encoder_node')
        for offered, profile in (('reliable', RELIABLE), ('best_effort', BEST_EFFORT)):
            camera = bench.node.create_publisher(Image, 'camera/image', profile)
            if asked == 'reliable' and offered == 'best_effort':
                text = (
                    '/lewm/camera/image: /lewm/bench offers best effort, we ask for reliable: '
                    'set parameter image_reliability to best_effort'
                )
                bench.says('encoder_node', text, timeout=SOON)
                assert not frames_arrive(bench, camera, 2.5)
                bench.says('encoder_node', text)
            else:
                assert frames_arrive(bench, camera)
                assert 'offers' not in bench.text('encoder_node')
            bench.node.destroy_publisher(camera)
            bench.until(lambda: 'offers' not in bench.text('encoder_node'), 'not over', SOON)
        assert process.output.count('offers best effort') == (2 if asked == 'reliable' else 0)
        assert 'incompatible' not in process.output.lower()  # rclpy's own words


def test_every_side_of_a_mismatch_is_named(bench: Bench, tiny_bundle):
    """Our subscription, our publisher, and a durability that no parameter can fix."""
    latents = '/lewm/latent'
    overrides = ('-p', f'qos_overrides.{latents}.publisher.reliability:=best_effort')
    with bench.program('encoder', '-p', f'bundle:={tiny_bundle.path}', *overrides):
        bench.active('encoder_node')
        bench.node.create_subscription(Image, latents, lambda m: None, RELIABLE)
        bench.node.create_publisher(DiagnosticArray, 'goal_status', RELIABLE)  # volatile
        expected = (
            f'{latents}: /lewm/bench asks for reliable, we offer best effort: set parameter '
            f'qos_overrides.{latents}.publisher.reliability to reliable',
            '/lewm/goal_status: /lewm/bench offers volatile, we ask for transient local: publish '
            'with durability transient_local',
        )
        bench.says('encoder_node', *expected, timeout=SOON)


def test_a_report_waits_for_the_name_of_the_other_node(monkeypatch):
    """A mismatch is reported once the node has a name, or without it after 2.5 s.

    Endpoints are discovered before their nodes: `_NODE_NAME_UNKNOWN_` once stood in the log.
    """
    clock = SimpleNamespace(now=100.0)
    monkeypatch.setattr('time.monotonic', lambda: clock.now)
    camera = SimpleNamespace(
        node_namespace='_NODE_NAMESPACE_UNKNOWN_',
        node_name='_NODE_NAME_UNKNOWN_',
        qos_profile=BEST_EFFORT,
        topic_type='sensor_msgs/msg/Image',
    )
    node = SimpleNamespace(
        resolve_topic_name=lambda topic: topic,
        get_topic_names_and_types=lambda: [('/cam', ['sensor_msgs/msg/Image'])],
        get_publishers_info_by_topic=lambda topic: [camera],
        create_subscription=lambda *_, event_callbacks, **__: event_callbacks,
        get_logger=lambda: rclpy.logging.get_logger('test'),
    )
    for named, seconds in ((False, 3.0), (True, 0.5)):
        conditions = Conditions(node)
        endpoints = Endpoints(node, conditions)
        endpoints.subscription(Image, '/cam', print, RELIABLE, 'none').incompatible_qos(None)
        endpoints.look()
        assert conditions.text == 'ok'
        if named:
            camera.node_namespace, camera.node_name = '/robot', 'camera'
        clock.now += seconds
        endpoints.look()
        name = '/robot/camera' if named else 'a node of unknown name'
        said = f'/cam: {name} offers best effort, we ask for reliable: none'
        assert conditions.text == said


def test_the_remedy_that_is_named_works(bench: Bench, tiny_bundle):
    """A planner reports best-effort latents by name; with the override it accepts them."""
    override = 'qos_overrides./lewm/latent.subscription.reliability'
    arguments = ('-p', f'bundle:={tiny_bundle.path}')
    bench.node.create_publisher(Image, 'latent', BEST_EFFORT)
    with bench.program('planner', *arguments) as process:
        said = f'set parameter {override} to best_effort'
        bench.says('planner_node', said)
        assert process.end() == 0
    with bench.program('planner', *arguments, '-p', f'{override}:=best_effort'):
        listening = bench.node.create_publisher(Image, 'latent', BEST_EFFORT)
        bench.until(listening.get_subscription_count, 'nobody listens')
        bench.active('planner_node')
        bench.spin(2.0)
        assert 'offers' not in bench.text('planner_node')


def reliability(bench: Bench, topic: str) -> ReliabilityPolicy:
    """Return what the one publisher of a topic offers."""
    find = bench.node.get_publishers_info_by_topic
    bench.until(lambda: find(topic), f'nobody publishes {topic}')
    (found,) = find(topic)
    return found.qos_profile.reliability


def test_overrides_come_from_a_parameter_file_too(bench: Bench, tiny_bundle, tmp_path: Path):
    """It works as for any ROS node, and other topics with the same defaults keep them."""
    path = tmp_path / 'qos.yaml'
    topics = {'/lewm/surprise': {'publisher': {'reliability': 'best_effort', 'depth': 3}}}
    path.write_text(yaml.safe_dump({'/**': {'ros__parameters': {'qos_overrides': topics}}}))
    arguments = ('-p', f'bundle:={tiny_bundle.path}', '--params-file', str(path))
    with bench.program('surprise', *arguments) as process:
        bench.active('surprise_node')
        assert reliability(bench, '/lewm/surprise') == ReliabilityPolicy.BEST_EFFORT
        assert reliability(bench, '/lewm/surprise/contributions') == ReliabilityPolicy.RELIABLE
        response = bench.call(
            GetParameters,
            'surprise_node/get_parameters',
            names=[f'qos_overrides./lewm/{t}.publisher.depth' for t in ('surprise', 'anomaly')],
        )
        assert [v.integer_value for v in response.values] == [3, 32]
        assert 'do not exist' not in process.output


@pytest.mark.parametrize(
    ('policy', 'value'), [('reliability', 'sometimes'), ('depth', '0'), ('history', '7')]
)
def test_an_override_that_makes_no_sense_is_one_line(bench: Bench, tiny_bundle, policy, value):
    """The error names the topic, and the node stays unconfigured."""
    name = f'qos_overrides./lewm/plan.publisher.{policy}'
    arguments = ('-p', f'bundle:={tiny_bundle.path}', '-p', f'{name}:={value}')
    with bench.program('planner', *arguments) as process:
        bench.says('planner_node', 'qos_overrides of /lewm/plan are wrong')
        assert bench.figures('planner_node')['lifecycle'] == 'unconfigured'
        assert process.output.count('[ERROR]') == 1
        assert 'Traceback' not in process.output
        assert process.end() == 0


def test_the_command_line_takes_overrides(bench: Bench, tiny_bundle):
    """`-p node.qos_overrides...` is not taken for an unknown parameter."""
    name = 'planner_node.qos_overrides./lewm/plan.publisher.reliability'
    with bench.lewm(
        'up', 'plan', '--bundle', str(tiny_bundle.path), '-p', f'{name}:=best_effort'
    ) as process:
        bench.active('planner_node')
        assert reliability(bench, '/lewm/plan') == ReliabilityPolicy.BEST_EFFORT
        assert process.end() == 0
