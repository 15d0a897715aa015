# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Other publishers and subscribers on the nodes' topics: reported within 5 s with a remedy."""

from __future__ import annotations

from geometry_msgs.msg import TwistStamped
from harness import Bench
from sensor_msgs.msg import CompressedImage, Image
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory

NODES = ('encoder_node', 'planner_node', 'controller_node')
#: A difference is reported, and is over, within this long [s].
SOON = 5.0
NO_DRIVER = (
    'nobody subscribes to /lewm/action (std_msgs/msg/Float64MultiArray): start the driver of the '
    'robot, or correct action.topic in the contract'
)
WRONG_DRIVER = (
    '/lewm/action: /lewm/bench subscribes to geometry_msgs/msg/TwistStamped, we publish '
    'std_msgs/msg/Float64MultiArray, so nothing arrives: change the type in the contract'
)
WRONG_CAMERA = (
    '/lewm/camera/image: /lewm/bench publishes sensor_msgs/msg/CompressedImage, we subscribe to '
    'sensor_msgs/msg/Image, so nothing arrives: change the type in the contract'
)
SECONDS = {
    'planner_node': '2 publishers on /lewm/plan (/lewm/bench, /lewm/planner_node), expected one: '
    'end one of them, or give it another namespace',
    'encoder_node': '2 publishers on /lewm/latent (/lewm/bench, /lewm/encoder_node), expected one: '
    'end one of them, or give it another namespace',
}
TWO_DRIVE = (
    '2 publishers on /lewm/action (/lewm/bench, /lewm/controller_node), expected one: end all but '
    'one, or put a multiplexer such as twist_mux in between'
)
TWO_CAMERAS = (
    '2 publishers on /lewm/camera/image (/lewm/bench, /lewm/bench), expected one: end one of them, '
    'or give each camera a topic of its own'
)


def test_who_is_on_the_topic_is_said_with_the_remedy(bench: Bench, tiny_bundle):
    """Commands that nobody receives, mismatched types and duplicate publishers are reported.

    The middleware says nothing of it: it connects equal types only, and any number of publishers.
    """

    def within_five_seconds(texts: dict[str, str], lasting: bool = True) -> None:
        bench.until(
            lambda: all((text in bench.text(node)) is lasting for node, text in texts.items()),
            lambda: f'{texts}: {[bench.text(node) for node in texts]}',
            SOON,
        )

    with bench.nodes(*NODES, bundle=tiny_bundle.path) as process:
        bench.active(*NODES)
        node = bench.node
        camera = node.create_publisher(CompressedImage, 'camera/image', 10)
        within_five_seconds({'controller_node': NO_DRIVER, 'encoder_node': WRONG_CAMERA})
        node.destroy_publisher(camera)
        driver = node.create_subscription(TwistStamped, 'action', lambda m: None, 10)
        crowd = [
            node.create_publisher(kind, topic, 10)
            for kind, topic in (
                (JointTrajectory, 'plan'),
                (Image, 'latent'),
                (Image, 'camera/image'),
                (Image, 'camera/image'),
            )
        ]
        within_five_seconds(SECONDS | {'controller_node': WRONG_DRIVER})
        bench.says('encoder_node', TWO_CAMERAS)
        for publisher in crowd:
            node.destroy_publisher(publisher)
        node.destroy_subscription(driver)
        node.create_subscription(Float64MultiArray, 'action', lambda m: None, 10)
        teleoperation = node.create_publisher(Float64MultiArray, 'action', 10)
        within_five_seconds({'controller_node': TWO_DRIVE})
        node.destroy_publisher(teleoperation)
        for text in ('publishers on', 'nothing arrives', 'nobody subscribes'):
            within_five_seconds(dict.fromkeys(NODES, text), lasting=False)
        said = (NO_DRIVER, WRONG_DRIVER, WRONG_CAMERA, TWO_CAMERAS, TWO_DRIVE, *SECONDS.values())
        for text in said:
            assert process.output.count(f']: {text}') == 1
