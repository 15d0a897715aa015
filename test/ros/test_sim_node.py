# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""sim_node in a process of its own: camera, motion, goals, perturbations, resets."""

from __future__ import annotations

from geometry_msgs.msg import Twist, Vector3
from harness import Bench
import numpy as np
import pytest
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String, UInt32
from std_srvs.srv import Trigger

from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.messages import stamp_of, to_ns
from lewm_ros.nodes.sim import RealtimeSimulation
from lewm_ros.robot.imaging import from_message
from lewm_ros.sim import make_task
from lewm_ros.time import NS_PER_S


@pytest.fixture
def sim(bench: Bench):
    """Return a running simulator with everything that talks to it."""
    with bench.nodes('sim_node', camera_rate=20.0, image_size=48, image_width=64) as process:
        yield Sim(bench, process)


class Sim:
    """Publishers and subscriptions around a simulator."""

    def __init__(self, bench, process):
        self.bench, self.process = bench, process
        self.images = bench.listen(Image, 'camera/image')
        self.joints = bench.listen(JointState, 'joint_states')
        self.episodes = bench.listen(UInt32, 'episode', LATCHED)
        self.goals = bench.listen(Image, 'goal_image', LATCHED)
        self.perturbed = bench.listen(Header, 'sim/perturbed')
        bench.until(lambda: self.images and self.joints, 'no frames')
        self.action = bench.publisher(Float64MultiArray, 'action')

    def drive(self, command, seconds):
        """Send a command every 50 ms."""
        for _ in range(round(seconds / 0.05)):
            self.action.publish(Float64MultiArray(data=command))
            self.bench.spin(0.05)

    def velocity(self):
        """Return the newest joint velocities (2,) [rad/s]."""
        return np.array(self.joints[-1][1].velocity)


def test_its_contract_is_in_the_diagnostics(sim, reacher_contract):
    """They have the hash of the contract, as for every node."""
    sim.bench.active('sim_node')
    assert sim.bench.figures('sim_node')['contract'] == reacher_contract.hash[:12]


def test_a_wrong_override_is_one_error(bench: Bench):
    """The failed activation ends cleanly: its reason is not followed by another one."""
    wrong = 'qos_overrides./lewm/sim/goal.subscription.depth:=0'
    with bench.program('sim', '-p', 'task:=reacher', '-p', wrong) as process:
        bench.says('sim_node', 'qos_overrides of /lewm/sim/goal are wrong')
        assert 'Traceback' not in process.output


def test_frames_come_at_the_camera_rate_with_the_simulated_time(sim):
    """20 frames a second of 64 x 48 px, rgb8, stamps in step with the clock, first episode 1."""
    first = len(sim.images)
    sim.bench.spin(3.0)
    frames = [m for _, m in sim.images[first:]]
    assert 56 <= len(frames) <= 64
    assert from_message(frames[-1]).shape == (48, 64, 3)
    assert frames[-1].encoding == 'rgb8'
    assert frames[-1].header.frame_id == 'camera_optical'
    steps = np.diff([stamp_of(m) for m in frames])
    assert (steps > 0).all()
    assert abs(np.median(steps) - 0.05 * NS_PER_S) < 0.011 * NS_PER_S
    assert abs(stamp_of(frames[-1]) - sim.bench.now()) < 0.2 * NS_PER_S
    assert [m.data for _, m in sim.episodes] == [1]


def test_the_arm_moves_under_commands_and_stops_without(sim):
    """Full torque turns the shoulder; a command not renewed for half a second counts as zero."""
    sim.drive([1.0, 0.0], 1.0)
    assert sim.velocity()[0] > 1.0
    sim.bench.spin(0.3)
    assert sim.velocity()[0] > 1.0  # still held
    sim.bench.spin(1.7)
    assert abs(sim.velocity()[0]) < 0.2


def test_a_perturbation_is_in_the_frame_that_it_names(sim):
    """sim/perturbed has the stamp of the first frame after the jump; unknown names are refused."""
    perturb = sim.bench.publisher(String, 'sim/perturb')
    perturb.publish(String(data='earthquake'))
    sim.bench.spin(0.3)
    assert not sim.perturbed
    assert "perturbation 'earthquake' is unknown" in sim.process.output
    perturb.publish(String(data='teleport'))
    sim.bench.until(lambda: sim.perturbed, 'no perturbation')
    sim.bench.spin(0.3)
    head = sim.perturbed[0][1]
    assert head.frame_id == 'teleport'
    poses = {stamp_of(m): np.array(m.position) for _, m in sim.joints}
    stamps = sorted(poses)
    at = stamps.index(to_ns(head.stamp))
    assert np.abs(poses[stamps[at]] - poses[stamps[at - 1]]).min() > 0.5
    assert np.abs(poses[stamps[at + 1]] - poses[stamps[at]]).max() < 0.1


def test_a_goal_pose_becomes_a_goal_image(sim):
    """The image is latched, and the arm does not move; an invalid pose is reported."""
    before = np.array(sim.joints[-1][1].position)
    goal = sim.bench.publisher(Float64MultiArray, 'sim/goal')
    goal.publish(Float64MultiArray(data=[float('nan'), 0.0]))
    sim.bench.says('sim_node', 'expected 2 numbers [rad], of shoulder, elbow')
    goal.publish(Float64MultiArray(data=[before[0] + 1.5, 0.5]))
    sim.bench.until(lambda: sim.goals, 'no goal image')
    late = sim.bench.listen(Image, 'goal_image', LATCHED)
    sim.bench.until(lambda: late, 'the goal image is not latched')
    image, camera = from_message(sim.goals[-1][1]), from_message(sim.images[-1][1])
    assert np.abs(image.astype(int) - camera).max() > 50
    np.testing.assert_allclose(sim.joints[-1][1].position, before, atol=1e-3)


def test_a_reset_starts_the_next_episode(sim):
    """sim/reset answers with the episode's number and announces it."""
    before = np.array(sim.joints[-1][1].position)
    answer = sim.bench.call(Trigger, 'sim/reset')
    assert answer.success and answer.message == 'episode 2'
    sim.bench.spin(0.3)
    assert sim.episodes[-1][1].data == 2
    assert np.abs(np.array(sim.joints[-1][1].position) - before).max() > 0.05


def test_the_pusher_moves_under_twists(bench):
    """The push task has its own contract, and reports pusher and puck under their names."""
    with bench.nodes('sim_node', task='push'):
        joints = bench.listen(JointState, 'joint_states')
        command = bench.publisher(Twist, 'cmd_vel')
        bench.until(lambda: joints, 'no state')
        first = joints[-1][1]
        assert list(first.name) == ['pusher_x', 'pusher_y', 'puck_x', 'puck_y']
        way = -0.1 if first.position[0] > 0 else 0.1
        for _ in range(20):
            command.publish(Twist(linear=Vector3(x=way, y=0.0)))
            bench.spin(0.05)
        moved = np.array(joints[-1][1].position) - first.position
        assert 0.05 < moved[0] / way < 1.2
        assert joints[-1][1].velocity[0] == pytest.approx(way, abs=0.02)


@pytest.mark.parametrize(
    ('options', 'says'),
    [
        (
            {'task': 'hexapod'},
            "task 'hexapod' is unknown: expected reacher, push, two_room, ",
        ),
        (
            {'contract': 'push.yaml'},
            'the reacher task has actions shoulder, elbow, contract push has x, y: expected the',
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(bench, options, says):
    """An unknown task, or a contract of another robot: status 2, no traceback."""
    with bench.nodes('sim_node', **options) as process:
        assert process.wait() == 2
        assert says in process.output
        assert 'Traceback' not in process.output


def test_a_slow_camera_lets_the_robot_move():
    """Frames a second and more apart show a robot that moved all the time between them."""
    task = make_task('reacher', 32)
    simulation = RealtimeSimulation(task, 2, 0, 2 * NS_PER_S)
    for frame in range(4):
        for tick in range(40):
            simulation.command(2 * frame * NS_PER_S + tick * NS_PER_S // 20, np.array([0.5, 0.0]))
        simulation.advance(2 * (frame + 1) * NS_PER_S)
    assert simulation.re_anchors == 0 and task.time == pytest.approx(8.0)
    task.close()


def test_a_driver_of_positions_holds_the_last_one():
    """It is held however old it is; before the first command the world stands still."""
    task, step = make_task('reacher', 32), NS_PER_S // 10
    simulation = RealtimeSimulation(task, 2, 0, NS_PER_S // 20, hold=True)
    for tick in range(1, 5):
        simulation.advance(tick * step)
    assert task.time == 0 and simulation.time == 4 * step
    simulation.command(4 * step, np.array([0.5, 0.0]))
    for tick in range(5, 21):
        simulation.advance(tick * step)
    assert task.time == pytest.approx(1.6)
    assert task.data.ctrl.tolist() == [0.5, 0.0]
    task.close()
