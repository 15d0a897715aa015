# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""recorder_node in a process of its own: topics, episodes, losses, kill -9, the terminal."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
import json
import os
from pathlib import Path
import pty
import signal
import subprocess
import sys
import termios
import time
from typing import Any

from geometry_msgs.msg import WrenchStamped
from harness import ROOT, Bench
from mcap.records import Message
from mcap.stream_reader import StreamReader
import numpy as np
import pytest
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosbags.highlevel import AnyReader
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, String, UInt32
from std_srvs.srv import Trigger
import yaml

from lewm_ros.bags.repair import repair
from lewm_ros.bags.session import SUMMARY
from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import header, image_message, stamp_of

LARGE = np.random.default_rng(0).integers(0, 256, (480, 640, 3), dtype=np.uint8)
LARGE[:240] = 0  # about as compressible as an image
#: Messages that a publisher keeps until they have arrived, however busy the machine is.
KEPT = 500


def recorded(bag: Path) -> dict[str, list[tuple[int, bytes]]]:
    """Receive times [ns] and bytes in a bag, by topic."""
    found: dict[str, list[tuple[int, bytes]]] = {}
    with AnyReader([bag]) as reader:
        for connection, stamp, data in reader.messages():
            found.setdefault(connection.topic, []).append((stamp, bytes(data)))
    return found


def summary(bag: Path) -> dict[str, Any]:
    """The recorder's own summary of a bag."""
    about = yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    return json.loads(about['custom_data'][SUMMARY])


class Robot:
    """Publishes a camera, joint states and commands from the test."""

    def __init__(self, bench: Bench, qos: Any = KEPT) -> None:
        self.bench, self.sent = bench, 0
        self.camera = bench.node.create_publisher(Image, 'camera/image', qos)
        self.action = bench.node.create_publisher(Float64MultiArray, 'action', KEPT)
        self.joints = bench.node.create_publisher(JointState, 'joint_states', KEPT)

    def wait(self) -> None:
        """Wait until all three topics have a subscriber."""
        for publisher in (self.camera, self.action, self.joints):
            self.bench.until(
                lambda p=publisher: p.get_subscription_count() > 0, f'{publisher.topic} unheard'
            )
        self.bench.active('recorder_node')

    def run(self, seconds: float, image: np.ndarray, rate: float = 30.0) -> None:
        """Publish frames with their number as frame_id, and the rest, at ``rate`` [Hz].

        Stamps are evenly spaced, however busy the machine is.
        """
        message = image_message(image, header(1))
        began, first = time.monotonic(), self.bench.now()
        for index in range(round(seconds * rate)):
            self.bench.spin(max(began + index / rate - time.monotonic(), 0.0))
            message.header = header(first + round(index / rate * 1e9), str(self.sent))
            self.camera.publish(message)
            self.action.publish(Float64MultiArray(data=[0.1, float(self.sent)]))
            self.joints.publish(JointState(header=message.header, position=[1.0, 2.0]))
            self.sent += 1


@pytest.fixture
def call(bench: Bench):
    """Return a function that calls a Trigger service of the recorder."""

    def ask(name: str) -> tuple[bool, str]:
        answer = bench.call(Trigger, f'recorder_node/{name}')
        return answer.success, answer.message

    return ask


def test_a_recording_has_every_message_and_its_episodes(bench: Bench, call, tmp_path):
    """Services start and stop episodes; SIGINT during one leaves a complete bag."""
    bag = tmp_path / 'bag'
    robot = Robot(bench)
    model = bench.node.create_publisher(String, 'model', LATCHED)
    model.publish(String(data='a' * 64))  # before the recorder is there
    episodes = bench.listen(UInt32, 'episode', LATCHED)
    with bench.nodes('recorder_node', contract='reacher', out=bag) as process:
        robot.wait()
        assert call('stop_episode') == (False, 'no episode of this recorder is running')
        robot.run(0.5, LARGE[:48, :64])
        assert call('start_episode') == (True, 'episode 1 started')
        assert call('start_episode') == (False, 'episode 1 is running: stop it first')
        robot.run(0.5, LARGE[:48, :64])
        assert call('stop_episode') == (True, 'episode 1 stopped')
        robot.run(0.5, LARGE[:48, :64])
        assert call('start_episode') == (True, 'episode 2 started')
        robot.run(0.5, LARGE[:48, :64])
        bench.until(lambda: len(episodes) == 3, 'episodes are not announced')
        bench.until(
            lambda: bench.figures('recorder_node')['messages: /lewm/camera/image'] == '60',
            lambda: str(bench.figures('recorder_node')),
        )
        assert process.end(signal.SIGINT, signal.SIGINT) == 0
        assert f'{bag}: ' in process.output
        assert '/lewm/camera/image: 60 messages at ' in process.output

    found = recorded(bag)
    assert Counter({n: len(m) for n, m in found.items()}) == {
        '/lewm/camera/image': 60,
        '/lewm/action': 60,
        '/lewm/joint_states': 60,
        '/lewm/model': 1,
        '/lewm/episode': 4,
    }
    numbers = [deserialize_message(m, UInt32).data for _, m in found['/lewm/episode']]
    assert numbers == [1, 0, 2, 0]
    frames = [(t, deserialize_message(m, Image)) for t, m in found['/lewm/camera/image']]
    assert [int(f.header.frame_id) for _, f in frames] == list(range(60))
    assert (np.frombuffer(frames[0][1].data, np.uint8) == LARGE[:48, :64].ravel()).all()
    assert max(abs(t - stamp_of(f)) for t, f in frames) < 2e9  # received when they came
    said = summary(bag)
    assert said['episodes'] == 2
    assert '/lewm/latent' in said['never_published']
    for figures in said['topics'].values():
        assert not (figures['dropped'] or figures['lost'])


def test_a_recording_of_all_topics_has_its_episodes(bench: Bench, call, tmp_path):
    """With --all the recorder's own topic is recorded too; images are asked for as it says."""
    bag = tmp_path / 'bag'
    with bench.nodes(
        'recorder_node', all=True, out=bag, image_reliability='best_effort'
    ) as process:
        bench.active('recorder_node')
        robot = Robot(bench)
        robot.wait()
        (offer,) = bench.node.get_subscriptions_info_by_topic('/lewm/camera/image')
        assert offer.qos_profile.reliability.name == 'BEST_EFFORT'
        assert call('start_episode') == (True, 'episode 1 started')
        robot.run(0.5, LARGE[:48, :64])
        assert call('stop_episode') == (True, 'episode 1 stopped')
        bench.until(
            lambda: bench.figures('recorder_node').get('messages: /lewm/episode') == '2',
            lambda: str(bench.figures('recorder_node')),
        )
        assert process.end(signal.SIGINT) == 0
    numbers = [deserialize_message(m, UInt32).data for _, m in recorded(bag)['/lewm/episode']]
    assert numbers == [1, 0]


def test_a_recording_without_camera_or_commands_is_an_error(bench: Bench, call, tmp_path):
    """It ends with status 1 and names the topics; nobody may start an episode without a camera.

    The publisher of the camera was there once, but is gone: that was enough for an episode.
    """
    bag = tmp_path / 'bag'
    camera = '/lewm/camera/image'
    with bench.nodes('recorder_node', contract='reacher', out=bag) as process:
        robot = Robot(bench)
        robot.wait()
        assert call('start_episode') == (True, 'episode 1 started')
        assert call('stop_episode')[0]
        bench.node.destroy_publisher(robot.camera)
        bench.until(lambda: not bench.node.count_publishers(camera), 'the camera is still there')
        refused = (False, f'nobody publishes {camera}: the episode would be empty')
        bench.until(lambda: call('start_episode') == refused, 'started without a camera', 5.0)
        assert process.end() == 1
        said = f'bag {bag}: no messages of {camera}, /lewm/action: no model can be trained on it'
        assert said in process.output
    assert summary(bag)['episodes'] == 1


def test_further_topics_are_recorded_by_name(bench: Bench, tmp_path):
    """--topics adds topics of any type, with their publishers' QoS; missing ones are reported."""
    bag = tmp_path / 'bag'
    sensor = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
    wrench = bench.node.create_publisher(WrenchStamped, '/wrench', sensor)
    setup = bench.node.create_publisher(String, 'setup', LATCHED)
    setup.publish(String(data='gripper'))  # before the recorder is there
    other = bench.node.create_publisher(String, 'other', 10)
    robot = Robot(bench)
    asked = ('--topics', '/wrench', 'setup', '/nobody')
    with bench.lewm('record', '--contract', 'reacher', '--out', str(bag), *asked) as process:
        robot.wait()
        bench.until(lambda: wrench.get_subscription_count() > 0, '/wrench is not recorded')
        robot.run(0.5, LARGE[:48, :64])
        message = WrenchStamped(header=header(bench.now()))
        message.wrench.force.z = 9.5
        wrench.publish(message)
        bench.says('recorder_node', 'nobody publishes /nobody')
        bench.until(
            lambda: bench.figures('recorder_node').get('messages: /wrench') == '1',
            lambda: str(bench.figures('recorder_node')),
        )
        assert other.get_subscription_count() == 0
        assert process.end() == 0
    found = recorded(bag)
    ((_, data),) = found['/wrench']
    assert deserialize_message(data, WrenchStamped).wrench.force.z == 9.5
    assert [deserialize_message(m, String).data for _, m in found['/lewm/setup']] == ['gripper']
    assert '/nobody' in summary(bag)['never_published']


def test_further_topics_are_names(bench: Bench, tmp_path):
    """A wrong name, or one text in place of a list, is refused in one line."""
    for given, text in (
        ("['5/x']", "parameter 'topics' has '5/x', which is no topic"),
        ('/tf', "parameter 'topics' has the wrong type: expected a list of strings"),
    ):
        options = {'contract': 'reacher', 'out': tmp_path / 'bag', 'topics': given}
        with bench.nodes('recorder_node', **options) as process:
            assert process.wait() == 2
            assert text in process.output
            assert 'Traceback' not in process.output


def test_everything_that_the_nodes_say_is_recorded(bench: Bench, tiny_bundle, call, tmp_path):
    """The episodes are those of a running simulator, so the services refuse to start one."""
    bag = tmp_path / 'bag'
    nodes = ('sim_node', 'encoder_node', 'surprise_node')
    heard = bench.listen(Image, 'latent')
    with bench.nodes(*nodes, bundle=tiny_bundle.path):
        bench.active(*nodes)
        with bench.lewm('record', '--contract', 'reacher', '--out', str(bag)) as process:
            bench.until(
                lambda: int(bench.figures('recorder_node').get('messages: /lewm/latent', 0)) > 0,
                'no latents',
            )
            done, text = call('start_episode')
            assert not done
            assert text == 'episodes are announced by /lewm/sim_node: start them there'
            bench.spin(2.0)
            assert process.end() == 1  # nobody sent a command
    found = recorded(bag)
    counts = {n.removeprefix('/lewm/'): len(m) for n, m in found.items()}
    assert {'camera/image', 'joint_states', 'latent', 'model', 'episode'} <= set(counts)
    assert counts['model'] == counts['episode'] == 1
    stamps = [stamp_of(deserialize_message(m, Image)) for _, m in found['/lewm/latent']]
    between = {stamp_of(m) for _, m in heard if stamps[0] <= stamp_of(m) <= stamps[-1]}
    assert len(between) > 10
    assert between <= set(stamps)
    for figures in summary(bag)['topics'].values():
        assert not (figures['dropped'] or figures['lost'])


def test_kill_9_at_30_hz_640x480_loses_at_most_the_last_seconds(bench: Bench, tmp_path):
    """mcap reads what was on the disk as it is, and rosbags after a repair."""
    bag = tmp_path / 'bag'
    robot = Robot(bench)
    with bench.nodes('recorder_node', contract='reacher', out=bag) as process:
        robot.wait()
        robot.run(4.0, LARGE)
        process.end(signal.SIGKILL)
    saved = []
    # Cut anywhere: the reader raises at the end of what is there.
    with (bag / 'bag_0.mcap').open('rb') as stream, suppress(Exception):
        for record in StreamReader(stream, validate_crcs=True).records:
            if isinstance(record, Message) and len(record.data) > LARGE.size:
                saved.append(int(deserialize_message(record.data, Image).header.frame_id))
    assert saved == list(range(len(saved)))
    lost = (robot.sent - len(saved)) / 30.0
    assert lost <= 5.0, f'{lost:.1f} s'
    assert lost <= 1.8, f'{lost:.1f} s: expected one flush period'

    (report,) = repair(bag)
    assert not report.whole
    assert len(recorded(bag)['/lewm/camera/image']) == len(saved)


def test_a_killed_recorder_that_is_started_again_records_beside_its_bag(bench: Bench, tmp_path):
    """It records into the next free name, and says so; both bags can be read."""
    bags = [tmp_path / name for name in ('bag', 'bag_3')]
    (tmp_path / 'bag_2').mkdir()
    robot = Robot(bench)
    up = ('up', 'record', '--contract', 'reacher', '--processes', '--respawn')
    with bench.lewm(*up, '-p', f'recorder_node.out:={bags[0]}') as process:
        for bag in bags:
            bench.until(lambda bag=bag: bench.figures('recorder_node').get('bag') == str(bag), bag)
            while bench.figures('recorder_node').get('messages: /lewm/camera/image', '0') == '0':
                robot.run(0.2, LARGE[:48, :64])
            if bag == bags[0]:
                bench.spin(1.5)  # flush_seconds
                os.kill(process.nodes()['recorder_node'], signal.SIGKILL)
        assert process.end() == 0
        assert process.output.count(f'bag {bags[0]}: exists already; recording to {bags[1]}') == 1
    (report,) = repair(bags[0])
    assert not report.whole
    for bag in bags:
        assert recorded(bag)['/lewm/camera/image']


def test_frames_lost_on_the_way_are_counted_and_said(bench: Bench, tmp_path):
    """Large best-effort images do not fit into Fast DDS's segment: /diagnostics says so."""
    bag = tmp_path / 'bag'
    robot = Robot(bench, QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT))
    with bench.nodes('recorder_node', contract='reacher', out=bag) as process:
        robot.wait()
        robot.run(0.5, LARGE[:48, :64])  # without a first frame, losses are not counted
        process.send(signal.SIGSTOP)  # far too slow a recorder
        robot.run(1.0, LARGE)
        process.send(signal.SIGCONT)
        robot.run(0.5, LARGE[:48, :64])  # what is missing is noticed when the next frame comes
        bench.says('recorder_node', 'messages lost in transport (large')
        assert process.end() == 0
    camera = summary(bag)['topics']['/lewm/camera/image']
    assert camera['lost'] > 0
    assert camera['lost'] + camera['messages'] <= robot.sent


def test_a_gap_is_said_once_in_an_episode_and_counted(bench: Bench, call, tmp_path):
    """It is reported while it lasts and after it; so is a camera without a publisher."""
    bag = tmp_path / 'bag'
    with bench.nodes('recorder_node', contract='reacher', out=bag, gap=0.3) as process:
        bench.says('recorder_node', 'nobody publishes /lewm/camera/image')
        robot = Robot(bench)
        robot.wait()
        assert call('start_episode')[0]
        for _ in range(3):
            robot.run(0.5, LARGE[:48, :64])
            bench.spin(0.7)
        silent, camera = '/lewm/camera/image: silent for', '/lewm/camera/image: '
        bench.says('recorder_node', silent)
        counted = '/lewm/camera/image: 3 gaps, the longest of '
        robot.run(1.5, LARGE[:48, :64])
        bench.says('recorder_node', counted)
        said = process.output.split('episode 1 started')[1]
        assert said.count(camera) == 1
        assert call('stop_episode')[0]
        assert call('start_episode')[0]
        bench.until(lambda: counted not in bench.text('recorder_node'), 'still the old gaps', 2.0)
        assert process.end() == 0
    camera = summary(bag)['topics']['/lewm/camera/image']
    assert camera['gaps'] == 3
    assert 0.6 < camera['longest_pause'] < 1.5


def test_joints_in_two_orders_are_said_while_they_are_recorded(bench: Bench, tmp_path):
    """A contract that reads joints by index gives a warning until the order is constant."""
    with bench.nodes('recorder_node', contract='reacher', out=tmp_path / 'bag') as process:
        robot = Robot(bench)
        robot.wait()
        names = ['shoulder', 'elbow']

        def publish(joints: list[str]) -> None:
            robot.joints.publish(JointState(name=joints, position=[1.0, 2.0], velocity=[0.0, 0.0]))
            bench.spin(0.1)

        def orders(wanted: bool) -> bool:
            publish(names)
            if wanted:
                publish(names[::-1])
            said = 'listed as elbow, shoulder, before as shoulder, elbow: name them in the contract'
            return (said in bench.text('recorder_node')) is wanted

        publish(names)
        bench.until(lambda: orders(True), 'not said')
        bench.until(lambda: orders(False), 'not over')
        assert process.output.count('listed as elbow') <= 3
        assert process.end() == 1  # neither frames nor commands


def test_a_quiet_start_is_no_lasting_warning(bench: Bench, tmp_path):
    """A publisher counts as silent only until its first message."""
    silent = '/lewm/camera/image: silent for'
    with bench.nodes('recorder_node', contract='reacher', out=tmp_path / 'bag', gap=0.3) as process:
        robot = Robot(bench)
        robot.wait()
        bench.says('recorder_node', silent)
        robot.run(3.0, LARGE[:48, :64])
        assert 'camera/image: ' not in bench.text('recorder_node')
        assert process.end() == 0


def test_a_user_without_a_home_can_record(bench: Bench, tmp_path, monkeypatch):
    """Recording works without HOME, as under systemd and in containers."""
    for name in ('HOME', 'ROS_HOME', 'ROS_LOG_DIR'):
        monkeypatch.delenv(name, raising=False)
    with bench.lewm('record', '--contract', 'reacher', '--out', str(tmp_path / 'bag')) as process:
        bench.until(lambda: (tmp_path / 'bag').exists(), lambda: process.output)
        bench.spin(1.0)
        assert process.end() == 1  # neither frames nor commands
        assert 'Traceback' not in process.output


def test_a_parameter_file_names_the_folder(bench: Bench, tmp_path):
    """What the command line does not give is taken from the file."""
    file, bag = tmp_path / 'params.yaml', tmp_path / 'bag'
    file.write_text(f'/**/recorder_node: {{ros__parameters: {{out: {bag}, all: true}}}}')
    with bench.lewm('record', '--contract', 'reacher', '--params-file', str(file)) as process:
        bench.until(bag.exists, lambda: process.output)
        process.end()


def test_an_existing_folder_is_refused_in_one_line(bench: Bench, tmp_path):
    """Nothing is overwritten; status 2, no traceback."""
    with bench.lewm('record', '--contract', 'reacher', '--out', str(tmp_path)) as process:
        assert process.wait() == 2
        assert 'exists already; choose another name or remove it' in process.output
        assert 'Traceback' not in process.output


def test_a_disk_that_is_nearly_full_is_refused(bench: Bench, tmp_path):
    """The error has the free space and min_free_gb; no bag is created."""
    bag = tmp_path / 'bag'
    full = ('-p', 'min_free_gb:=100000.0')
    with bench.lewm('record', '--contract', 'reacher', '--out', str(bag), *full) as process:
        assert process.wait() == 2
        assert 'GB of the disk are free, min_free_gb is 100000' in process.output
        assert 'Traceback' not in process.output
    assert not bag.exists()


def log_in(terminal: int) -> None:
    """Give a child a controlling terminal; under nohup SIGHUP would stay ignored in it."""
    os.login_tty(terminal)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_keys_start_and_stop_episodes_and_the_terminal_is_as_before(bench: Bench, tmp_path):
    """Space starts and stops an episode, q ends; the terminal is restored after signals too."""
    robot = Robot(bench)
    command = [sys.executable, '-m', 'lewm_ros.cli', 'record', '--contract', 'reacher']
    for name, ending in (
        ('by_key', b'q'),
        ('by_signal', signal.SIGTERM),
        ('hung_up', signal.SIGHUP),
    ):
        bag = tmp_path / name
        master, slave = pty.openpty()
        before = termios.tcgetattr(slave)
        process = subprocess.Popen(
            [*command, '--out', str(bag)],
            cwd=ROOT,
            env=os.environ | {'ROS_DOMAIN_ID': str(bench.domain)},
            preexec_fn=lambda slave=slave: log_in(slave),
            pass_fds=(slave,),
        )
        try:
            robot.wait()
            bench.until(lambda m=master: b'q ends' in os.read(m, 4096), 'no word of the keys')
            assert termios.tcgetattr(slave)[3] != before[3]
            os.write(master, b' ')
            robot.run(0.5, LARGE[:48, :64])
            os.write(master, b'x ')
            robot.run(0.3, LARGE[:48, :64])
            if isinstance(ending, bytes):
                os.write(master, ending)
            else:
                process.send_signal(ending)
            assert process.wait(10) == 0
            assert termios.tcgetattr(slave) == before
        finally:
            process.kill()
            os.close(master)
            os.close(slave)
        bench.diagnostics.clear()
        episodes = [deserialize_message(m, UInt32).data for _, m in recorded(bag)['/lewm/episode']]
        assert episodes == [1, 0]
