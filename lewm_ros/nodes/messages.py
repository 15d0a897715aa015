# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""ROS messages to numpy and back. Stamps are int nanoseconds everywhere else."""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from importlib import import_module
from operator import itemgetter
from typing import Any, TypeVar

from builtin_interfaces.msg import Duration, Time
import numpy as np
from sensor_msgs.msg import Image
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from lewm_ros.errors import ObservationError
from lewm_ros.robot.contract import Action
from lewm_ros.robot.fields import (
    POINT_FIELD,
    JointOrder,
    entry_names,
    read_command,
    write_fields,
)
from lewm_ros.time import NS_PER_S

LATENT_ENCODING = '32FC1'
T = TypeVar('T')
#: Nodes receive the same frame within this time [ns]; less than half a period of most cameras.
RECEIVED_APART = NS_PER_S // 70


def stamp_of(message: Any) -> int:
    """Header stamp [ns]; 0 where the message has no header or a zero stamp."""
    header = getattr(message, 'header', None)
    return 0 if header is None else to_ns(header.stamp)


def frame_of(stamp: int, frames: Iterable[tuple[int, T]]) -> T | None:
    """Return the frame that the latent of ``stamp`` [ns] was computed from; None if it is missing.

    Frames come with their stamps [ns]. Receive times, where they replace stamps, differ from node
    to node.
    """
    apart, frame = min(
        ((abs(stamp - s), f) for s, f in frames), key=itemgetter(0), default=(0, None)
    )
    return frame if apart <= RECEIVED_APART else None


def to_ns(stamp: Any) -> int:
    """builtin_interfaces Time or Duration → [ns]."""
    return stamp.sec * NS_PER_S + stamp.nanosec


def to_time(stamp: int) -> Time:
    """[ns] → builtin_interfaces/Time."""
    seconds, rest = divmod(stamp, NS_PER_S)
    return Time(sec=seconds, nanosec=rest)


def header(stamp: int, frame_id: str = '') -> Header:
    """Make a header from a stamp [ns]."""
    return Header(stamp=to_time(stamp), frame_id=frame_id)


def message_class(name: str) -> type:
    """Import the class of a type name such as sensor_msgs/msg/Image."""
    package, _, kind = name.rpartition('/')
    return getattr(import_module(package.replace('/', '.')), kind)


def image_message(image: np.ndarray, head: Header) -> Image:
    """RGB (H, W, 3) uint8 → sensor_msgs/Image, rgb8."""
    height, width = image.shape[:2]
    return Image(
        header=head,
        height=height,
        width=width,
        encoding='rgb8',
        step=3 * width,
        data=_bytes(image),
    )


def vector_message(vector: np.ndarray, head: Header) -> Image:
    """Numbers (D,) or (n, D) → sensor_msgs/Image 32FC1 of 1 or n rows: latents, contributions."""
    data = np.atleast_2d(np.ascontiguousarray(vector, dtype='<f4'))
    return Image(
        header=head,
        height=data.shape[0],
        width=data.shape[1],
        encoding=LATENT_ENCODING,
        step=4 * data.shape[1],
        data=_bytes(data),
    )


def vector(message: Image, size: int) -> np.ndarray:
    """sensor_msgs/Image of :func:`vector_message` → (size,) float32.

    Raises ObservationError for another shape or encoding, or numbers that are not finite.
    """
    if message.encoding != LATENT_ENCODING or message.height != 1 or message.width != size:
        raise ObservationError(
            f'latent is {message.height}x{message.width} {message.encoding}: expected 1x{size} '
            f'{LATENT_ENCODING} from an encoder with the same bundle'
        )
    data = numbers(message)
    if not np.isfinite(data).all():
        raise ObservationError(f'latent of {size} numbers is not finite')
    return data


def vectors(message: Image, size: int) -> np.ndarray:
    """sensor_msgs/Image of :func:`vector_message` → (n, size) float32; errors as :func:`vector`."""
    found = [message.encoding, message.width, len(message.data)]
    if not message.height or found != [LATENT_ENCODING, size, 4 * size * message.height]:
        raise ObservationError(
            f'latents are {message.height}x{message.width} {message.encoding}: expected rows of '
            f'{size} {LATENT_ENCODING} from a node with the same bundle'
        )
    data = _floats(message).reshape(-1, size)
    if not np.isfinite(data).all():
        raise ObservationError(f'latents of {size} numbers are not finite')
    return data


def numbers(message: Image) -> np.ndarray:
    """sensor_msgs/Image of :func:`vector_message` → (D,) float32 of any size, NaN and inf too.

    Raises ObservationError for another shape or encoding.
    """
    if (
        message.encoding != LATENT_ENCODING
        or message.height != 1
        or len(message.data) != 4 * message.width
    ):
        raise ObservationError(
            f'image is {message.height}x{message.width} {message.encoding} of '
            f'{len(message.data)} bytes: cut short, or not one row of {LATENT_ENCODING}'
        )
    return _floats(message)


def _floats(message: Image) -> np.ndarray:
    """All numbers of a 32FC1 image, of either byte order."""
    dtype = '>f4' if message.is_bigendian else '<f4'
    return np.frombuffer(message.data, dtype=dtype).astype(np.float32)


def plan_message(start: int, period: int, actions: np.ndarray, action: Action) -> JointTrajectory:
    """Commands (n, A) in contract units, one per tick from ``start`` [ns] on → a plan.

    ``period`` [ns] is the duration of a tick.
    """
    name = POINT_FIELD[action.kind]
    points = []
    for index, command in enumerate(actions):
        seconds, rest = divmod(index * period, NS_PER_S)
        point = JointTrajectoryPoint(time_from_start=Duration(sec=seconds, nanosec=rest))
        setattr(point, name, [float(v) for v in command])
        points.append(point)
    return JointTrajectory(header=header(start), joint_names=list(action.names), points=points)


def read_plan(message: JointTrajectory, action: Action, period: int) -> tuple[int, int, np.ndarray]:
    """Plan → start [ns], duration of a tick [ns], commands (n, A) float64 in contract units.

    ``period`` [ns] is the duration of a single command. Raises ObservationError for other
    names, sizes, times or numbers than a plan may have.
    """
    if tuple(message.joint_names) != action.names:
        raise ObservationError(
            f'plan has names {list(message.joint_names)}: expected {list(action.names)}'
        )
    if not message.points:
        raise ObservationError('plan has no points: expected one per control tick')
    field = POINT_FIELD[action.kind]
    rows = [getattr(point, field) for point in message.points]
    sizes = sorted({len(row) for row in rows})
    if sizes != [action.size]:
        raise ObservationError(f'plan has points with {sizes} {field}: expected {action.size} each')
    commands = np.array(rows, dtype=float)
    if not np.isfinite(commands).all():
        raise ObservationError('plan has commands that are not finite')
    start = stamp_of(message)
    if start <= 0:
        raise ObservationError('plan has no start: expected header.stamp to be set')
    offsets = np.array([to_ns(p.time_from_start) for p in message.points], dtype=np.int64)
    if len(offsets) > 1:
        period = int(offsets[-1] - offsets[0]) // (len(offsets) - 1)
    even = offsets[0] + period * np.arange(len(offsets))
    if offsets[0] < 0 or period <= 0 or (np.abs(offsets - even) > period // 10).any():
        raise ObservationError(
            'plan has points that are not evenly spaced in time_from_start: expected one per '
            'control tick'
        )
    return start + int(offsets[0]), period, commands


def action_message(values: np.ndarray, action: Action, stamp: int, period: int = 0) -> Any:
    """Command (A,) in contract units → a message of the contract's action type.

    A trajectory has one point, to be reached ``period`` [ns] after its start: a controller of
    trajectories refuses one that ends as it begins.
    """
    message = message_class(action.type)()
    if isinstance(message, JointTrajectory):
        seconds, rest = divmod(period, NS_PER_S)
        message.points = [JointTrajectoryPoint(time_from_start=Duration(sec=seconds, nanosec=rest))]
        message.joint_names = entry_names(action.paths, action.names)
    write_fields(message, action.paths, action.numbers(values))
    if hasattr(message, 'header'):
        message.header.stamp = to_time(stamp)
    if action.type == 'sensor_msgs/msg/JointState':
        message.name = entry_names(action.paths, action.names)
    return message


def read_action(
    message: Any, action: Action, received: int, order: JointOrder | None = None
) -> tuple[int, np.ndarray]:
    """Message of ``action.applied`` → when it takes effect [ns], command (A,) float64.

    The stamp is the header's, or the receive time plus ``action.delay`` where there is none or
    the contract says so: the training reader does the same. Raises ObservationError where a
    number is not finite, and where the joints are not those of the messages before by ``order``.
    """
    if order is not None:
        order.check(message)
    applied = action.applied
    values = read_command(message, applied.fields)
    stamp = 0 if applied.stamp == 'log' else stamp_of(message)
    return stamp or received + action.delay_ns, values


def _bytes(values: np.ndarray) -> array:
    """Return the uint8[] type that the message classes of all distributions take without a copy."""
    data = array('B')
    data.frombytes(np.ascontiguousarray(values).tobytes())
    return data
