# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""sim_node: a simulated robot with a camera, in real time, behind the contract's topics.

The physics is integrated lazily: commands are noted with their time, and each camera tick
advances the simulation up to now under the command that was held at every physics step.
"""

from __future__ import annotations

from collections import deque
from typing import Any

import numpy as np
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Float64MultiArray, Header, String, UInt32
from std_srvs.srv import Trigger

from lewm_ros.bags.messages import JOINT_STATE
from lewm_ros.errors import ConfigError
from lewm_ros.files import find
from lewm_ros.nodes.base import LATCHED, NEWEST, STREAM, LewmNode
from lewm_ros.nodes.messages import header, image_message, message_class
from lewm_ros.nodes.parameters import Parameter
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.fields import read_fields, write_fields
from lewm_ros.sim import NAMES, check_actions, make_task
from lewm_ros.sim.collect import refuse_delay, refuse_reports
from lewm_ros.time import NS_PER_S

FRAME_ID = 'camera_optical'
#: A command counts as zero when it is not renewed for this long: a driver's timeout [ns].
COMMAND_TIMEOUT = NS_PER_S // 2
#: Longest lag that the simulation catches up with, or two periods; it skips longer ones [ns].
BEHIND = NS_PER_S // 2


class RealtimeSimulation:
    """A simulated task driven along real time by stamped commands.

    Args:
        task: of :mod:`lewm_ros.sim`.
        size: A.
        now: the time of the simulation [ns].
        period: between the calls of :meth:`advance` [ns].
        hold: True: the driver holds the last command, as for positions, and stands still before
            the first one. False: zero follows once a command times out.

    """

    def __init__(self, task: Any, size: int, now: int, period: int, hold: bool = False) -> None:
        self.time = now
        self.re_anchors = 0
        self._task = task
        self._hold = hold
        self._rest = None if hold else np.zeros(size)
        self._step = round(task.timestep * NS_PER_S)
        self._behind = max(BEHIND, 2 * period)
        self._commands: deque[tuple[int, np.ndarray]] = deque()

    def command(self, stamp: int, values: np.ndarray) -> None:
        """Note a command (A,) that is held from ``stamp`` [ns] on."""
        if not self._commands or stamp > self._commands[-1][0]:
            self._commands.append((stamp, values))

    def set_time(self, now: int) -> None:
        """Set the time to ``now`` [ns] without simulating what lies between."""
        self.time = now
        self._commands.clear()

    def advance(self, now: int) -> None:
        """Integrate up to ``now`` [ns], in whole physics steps."""
        if not 0 <= now - self.time <= self._behind:
            self.re_anchors += 1
            self.set_time(now)
        while now - self.time >= self._step:
            command, until = self._held()
            steps = -(-(until - self.time) // self._step)
            steps = max(1, min(steps, (now - self.time) // self._step))
            if command is not None:
                self._task.step(command, steps)
            self.time += steps * self._step

    def _held(self) -> tuple[np.ndarray | None, int]:
        """Return the command held at this time, and until when [ns] it is."""
        while len(self._commands) > 1 and self._commands[1][0] <= self.time:
            self._commands.popleft()
        forever = self.time + BEHIND
        if not self._commands:
            return self._rest, forever
        stamp, values = self._commands[0]
        if stamp > self.time:
            return self._rest, stamp
        until = self._commands[1][0] if len(self._commands) > 1 else forever
        if self._hold:
            return values, until
        if self.time - stamp >= COMMAND_TIMEOUT:
            return self._rest, until
        return values, min(stamp + COMMAND_TIMEOUT, until)


class SimNode(LewmNode):
    """Camera, joint states and episodes of a simulated task."""

    PARAMETERS = (
        Parameter('task', 'reacher', f'Simulated task: {NAMES}.'),
        Parameter('seed', 0, 'Seed of the task.', low=0, high=2**31 - 1),
        Parameter(
            'camera_rate',
            20.0,
            'Frames per second [Hz]; at most one in each step of the task.',
            low=0.5,
            high=200.0,
        ),
        Parameter('image_size', 64, 'Height of a frame [px].', low=16, high=1024),
        Parameter('image_width', 0, 'Width of a frame [px]; 0: as its height.', low=0, high=1280),
    )

    _task: Any = None

    def configure(self) -> None:
        """Build the task and the publishers of the robot."""
        params = self.params
        size = (params['image_size'], params['image_width'] or params['image_size'])
        self._task = make_task(params['task'], size, params['seed'])
        self._episode = 0  # continues over deactivation: numbers are never reused
        self._contract = self._load_contract()
        self.note_loaded(self._contract)
        state = self._contract.state
        self._image = self.publisher(Image, self._contract.camera.topic, STREAM)
        kind, topic = JointState, 'joint_states'
        if state is not None:
            kind, topic = message_class(state.type), state.topic
        self._states = self.publisher(kind, topic, STREAM)
        self._episodes = self.publisher(UInt32, 'episode', LATCHED)
        self._goal_image = self.publisher(Image, 'goal_image', LATCHED)
        self._perturbed = self.publisher(Header, 'sim/perturbed', STREAM)

    def activate(self) -> None:
        """Begin the first episode and start the simulation."""
        action = self._contract.action
        hold = self._contract.stop.mode == 'hold'
        period = max(1 / self.params['camera_rate'], self._task.timestep)
        self._simulation = RealtimeSimulation(
            self._task, action.size, self.now(), round(period * NS_PER_S), hold
        )
        self._perturbations: list[str] = []
        self._frames = 0
        self._reset_service = self.create_service(Trigger, 'sim/reset', self._on_reset)
        self.subscribe(message_class(action.type), action.topic, self._on_action, NEWEST)
        self.subscribe(Float64MultiArray, 'sim/goal', self._on_goal, STREAM)
        self.subscribe(String, 'sim/perturb', self._on_perturb, STREAM)
        self._begin_episode()
        self.every(period, self._tick)

    def deactivate(self) -> None:
        """Stop the simulation."""
        self.destroy_service(self._reset_service)

    def cleanup(self) -> None:
        """Free the renderer."""
        if self._task is not None:
            self._task.close()
            self._task = None

    def report(self) -> dict[str, Any]:
        """Figures of the simulation."""
        return {
            'task': self.params['task'],
            'frames': self._frames,
            'episode': self._episode,
            're_anchors': self._simulation.re_anchors,
        }

    def _load_contract(self) -> Contract:
        name = self.params['contract']
        contract = Contract.load(find('contract', name)) if name else self._task.robot()
        if contract.camera.type != 'sensor_msgs/msg/Image':
            raise ConfigError(
                f'camera.type is {contract.camera.type}: the simulator publishes '
                'sensor_msgs/msg/Image'
            )
        check_actions(self._task, contract, f'contract {contract.name}')
        refuse_delay(contract)
        refuse_reports(contract)
        state, told = contract.state, len(self._task.state())
        if state is not None and state.type != JOINT_STATE and len(state.fields) != told:
            raise ConfigError(
                f'state.fields are {len(state.fields)}: expected {told}, {self._task.state_text}'
            )
        return contract

    def _begin_episode(self) -> None:
        self._episode += 1
        self._episodes.publish(UInt32(data=self._episode))

    def _on_action(self, message: Any, received: int) -> None:
        self._simulation.command(received, read_fields(message, self._contract.action.fields))

    def _on_goal(self, message: Float64MultiArray, received: int) -> None:
        image = self._task.set_goal(np.array(message.data))
        self._goal_image.publish(image_message(image, header(received, FRAME_ID)))

    def _on_perturb(self, message: String, received: int) -> None:
        self._perturbations.append(message.data)

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Any:
        self._task.reset()
        self._simulation.set_time(self.now())
        self._begin_episode()
        response.success = True
        response.message = f'episode {self._episode}'
        return response

    def _tick(self) -> None:
        self._simulation.advance(self.now())
        stamp = self._simulation.time
        kinds, self._perturbations = self._perturbations, []
        for kind in kinds:
            try:
                self._task.perturb(kind)
            except ConfigError as error:
                self.get_logger().error(str(error))
            else:
                self._perturbed.publish(header(stamp, kind))
        image = self._task.render()
        self._image.publish(image_message(image, header(stamp, FRAME_ID)))
        self._publish_state(stamp, self._task.state())
        self._frames += 1

    def _publish_state(self, stamp: int, state: np.ndarray) -> None:
        channel = self._contract.state
        if not state.size:
            return
        if channel is not None and channel.type != JOINT_STATE:
            message = message_class(channel.type)()
            write_fields(message, channel.fields, state)
            if hasattr(message, 'header'):
                message.header = header(stamp)
        else:
            message = JointState(header=header(stamp), name=list(self._task.joints))
            position, velocity = np.split(state, 2)
            message.position, message.velocity = position.tolist(), velocity.tolist()
        self._states.publish(message)
