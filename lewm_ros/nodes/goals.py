# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The topic ``goal_status``, warnings about goals and plans, and image files of goals."""

from __future__ import annotations

from array import array
from pathlib import Path
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from sensor_msgs.msg import CompressedImage, Image

from lewm_ros.errors import ObservationError
from lewm_ros.files import read_limited
from lewm_ros.nodes.diagnostics import OK, WARN, values_of
from lewm_ros.nodes.messages import header
from lewm_ros.planning.goal import Goal, GoalState
from lewm_ros.planning.receding_horizon import Outlook
from lewm_ros.robot.contract import Camera
from lewm_ros.robot.imaging import decode_compressed, from_message, prepare
from lewm_ros.time import NS_PER_S

#: Largest image file of a goal [bytes].
IMAGE_FILE_LIMIT = 1 << 26


def goal_message(goal: Goal, outlook: Outlook | None, robot: str, stamp: int) -> DiagnosticArray:
    """Make the goal status message of a robot; ``robot`` is its contract's name.

    It has one status 'goal' whose message is the state; ``stamp`` is the time of the message [ns].
    The outlook of the newest plan adds ``time_to_goal`` [s], ``reachable`` (true, false or unknown)
    and ``reason``, empty if it is true.
    """
    values = {
        'goal_stamp': str(goal.stamp),
        'frame_stamp': str(goal.frame),
        'distance': f'{goal.distance:.6g}',
        'seconds': f'{goal.age(time.monotonic()):.3f}',
    }
    if outlook is not None:
        words = {True: 'true', False: 'false', None: 'unknown'}
        values['time_to_goal'] = f'{outlook.time_to_goal:.3f}'
        values['reachable'] = words[outlook.reachable]
        values['reason'] = outlook.problem or ''
    status = DiagnosticStatus(
        level=WARN if goal.state is GoalState.TIMEOUT else OK,
        name='goal',
        message=goal.state.value,
        hardware_id=robot,
        values=[KeyValue(key=k, value=v) for k, v in values.items()],
    )
    return DiagnosticArray(header=header(stamp), status=[status])


def time_to_goal(message: DiagnosticArray) -> float:
    """Return the time to the goal [s] in a message of :func:`goal_message`; NaN if it has none."""
    told = [values_of(status).get('time_to_goal', 'nan') for status in message.status]
    return float(told[0]) if told else float('nan')


def roadmap_text(outlook: Outlook | None) -> str | None:
    """Describe the roadmap's problem with the goal or the newest frame; None if there is none."""
    if outlook is None or outlook.on_map:
        return None if outlook is None else outlook.problem
    return f'{outlook.problem}: planning by the latent distance alone'


def timeout_text(goal: Goal) -> str | None:
    """Report that a goal timed out; None if it did not."""
    if goal.state is not GoalState.TIMEOUT:
        return None
    return (
        f'goal not reached in time (distance '
        f'{goal.distance:.3g}, goal_tolerance {goal.tolerance:g}): no plans until '
        'a new goal arrives'
    )


def late_text(due: int, frame: int, began: int, published: int, policy: str) -> str | None:
    """Explain why a plan was late, and the remedy; None if it was in time.

    All times [ns]: when its first command is sent, stamp of its newest frame, start of the search,
    publication. ``policy`` is that of the planner. If the search began after the first command, no
    search is fast enough: the frames are delayed, or the camera's clock is behind.
    """
    if published <= due:
        return None
    remedy = 'free the processor'
    if policy == 'search':
        remedy = f'lower samples or iterations, or {remedy}'
    if began > due:
        remedy = (
            'synchronise the clock that stamps the frames, or reduce their delay or action.delay'
        )
    return (
        f'the last plan was published {(published - due) / NS_PER_S:.3f} s too late, its '
        f'newest frame was {(began - frame) / NS_PER_S:.3f} s old when planning began: {remedy}'
    )


def encoding_text(
    goal: Image | CompressedImage, frame: Image | CompressedImage, topic: str
) -> str | None:
    """Warn that a goal may have other colours than the frames of the camera's topic.

    None where both messages have the same encoding, or each has one that names its channels.
    """
    of_goal, of_frame = (
        m.encoding if isinstance(m, Image) else m.format or 'compressed' for m in (goal, frame)
    )
    bare = [e for e in (of_goal, of_frame) if e.startswith('8UC')]
    if not bare or of_goal == of_frame or {of_goal, of_frame} == {'8UC1', 'mono8'}:
        return None
    return (
        f'goal image is {of_goal}, frames on {topic} are {of_frame}: {bare[0]} does not define '
        'its channels (8UC3 is read as RGB, or as camera.order says); publish both with encodings '
        'that do'
    )


def read_image_file(name: str, what: str = 'goal image') -> CompressedImage:
    """Read a PNG or JPEG, stamped with the time of its last change.

    Raises ObservationError, which says ``what`` it is.
    """
    path = Path(name).expanduser()
    try:
        data = read_limited(path, IMAGE_FILE_LIMIT)
        decode_compressed(data, scale=65535.0)  # of 16 bits only the contract knows the scale
        return CompressedImage(header=header(path.stat().st_mtime_ns), data=array('B', data))
    except OSError as error:
        raise ObservationError(
            f"{what} '{name}': {error.strerror}; expected a PNG or JPEG"
        ) from error
    except ObservationError as error:
        raise ObservationError(f"{what} '{name}': {error}") from error


def read_goal_file(name: str, camera: Camera, size: int) -> CompressedImage:
    """Read the image of parameter goal_file; it has to give a model's image of ``size`` pixels.

    Raises ObservationError.
    """
    message = read_image_file(name, 'goal_file')
    try:
        prepare(from_message(message, camera), size, camera.crop)
    except ObservationError as error:
        raise ObservationError(f"goal_file '{name}': {error}") from error
    return message
