# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Recorded MuJoCo trajectories, rendered into the same kind of bag as a robot's.

An image shows the newest recorded state at or before its time; states are not interpolated.
Commands of a row are held from the row's time on: ``command``, in the contract's units and order,
or ``ctrl`` where each actuator is a dimension of the contract.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
import logging
from pathlib import Path
import re
from typing import Any
import zipfile
import zlib

import numpy as np

from lewm_ros.bags import messages
from lewm_ros.bags.episode_writer import BagWriter
from lewm_ros.bags.message_types import has_header
from lewm_ros.bags.messages import JOINT_STATE
from lewm_ros.errors import ConfigError
from lewm_ros.progress import progress
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.fields import write_fields
from lewm_ros.sim.collect import REST, START, topic_name, write_episode, write_image
from lewm_ros.sim.rendering import Camera, load_mujoco
from lewm_ros.time import NS_PER_S

#: Tolerance when comparing times of rows and frames [ns], for times stored as float32.
SLACK = 100_000
log = logging.getLogger('lewm')


@dataclass(frozen=True)
class Trajectory:
    """The T rows of one recorded episode."""

    stamps: np.ndarray  #: (T,) int64 [ns] since the first row, ascending
    qpos: np.ndarray  #: (T, nq) float64
    qvel: np.ndarray  #: (T, nv) float64
    commands: np.ndarray  #: (T, A) float64, held from the row's stamp on


def collect_trajectories(
    mjcf: Path,
    camera: str,
    paths: Sequence[Path],
    contract: Contract,
    out: Path,
    size: int | tuple[int, int],
    rate: float,
    command: str = '',
) -> None:
    """Render every episode of some .npz files into one bag.

    Args:
        mjcf: MuJoCo model.
        camera: name of one of its cameras.
        paths: files as :func:`load_trajectories` reads them.
        contract: names the topics, types and fields.
        out: bag folder to create.
        size: height and width of the images [px], or one number for both.
        rate: of the images [Hz].
        command: stored in the bag's metadata.

    Raises:
        ConfigError: the input is invalid or inconsistent; no bag is created.

    """
    model = load_model(mjcf)
    _check_camera(mjcf, model, camera, contract, size)
    has_state = _has_state(model, contract)
    names = contract.action.names
    episodes = [e for path in paths for e in load_trajectories(path, model, rate, names)]
    _check_limits(contract, episodes)
    with closing(Camera(model, camera, size)) as renderer, BagWriter(out, command) as bag:
        writer = _EpisodeWriter(bag, model, contract, has_state)
        start = START + writer.lead
        for number, episode in enumerate(progress(episodes, desc='render', unit='episode'), 1):
            write_episode(bag, start - writer.lead, number)
            _render(model, episode, rate, renderer, writer, start)
            start += int(episode.stamps[-1]) + REST


def load_model(path: Path) -> Any:
    """Load a MuJoCo model. Raises ConfigError naming the file."""
    mujoco = load_mujoco()
    if not path.is_file():
        raise ConfigError(f'MuJoCo model {path}: no such file')
    try:
        model = mujoco.MjModel.from_xml_path(str(path))
    except ValueError as error:
        text = ' '.join(str(error).split())
        raise ConfigError(f'MuJoCo model {path}: cannot be loaded ({text})') from error
    if model.nmocap:
        log.warning('%s: mocap bodies are not in qpos, so they are drawn at rest', path)
    return model


def load_trajectories(
    path: Path, model: Any, rate: float, names: Sequence[str]
) -> list[Trajectory]:
    """Read the episodes of an .npz file, without pickle.

    It holds ``qpos`` (T, nq), ``qvel`` (T, nv), ``time`` (T,) [s], ``command`` (T, A) or else
    ``ctrl`` (T, A) and, optionally, ``episode`` (T,) integers; ``names`` are those of the A
    dimensions. An episode ends where its number changes; without numbers, where time jumps back.

    Raises:
        ConfigError: naming the file, the array, the row and what would be right.

    """
    arrays = _read(path)
    rows = arrays['time'].shape[0] if arrays['time'].ndim == 1 else None
    if rows is None or rows < 2:
        raise ConfigError(
            f'{path}: time has shape {arrays["time"].shape}: expected (T,), at least 2 rows'
        )
    told = 'command' if 'command' in arrays else 'ctrl'
    dimensions = f'a column for each of the action dimensions {list(names)} of the contract'
    for name, expected, columns in (
        ('qpos', (rows, model.nq), 'nq of the model as columns'),
        ('qvel', (rows, model.nv), 'nv of the model as columns'),
        (told, (rows, len(names)), dimensions),
        ('episode', (rows,), ''),
    ):
        if name in arrays and arrays[name].shape != expected:
            shape = f'{name} has shape {arrays[name].shape}: expected {expected}'
            text = f'{path}: {shape}, as many rows as time' + (columns and f' and {columns}')
            if name == 'ctrl':
                text += '; where actuators are others, such as two wheels, save command as well'
            raise ConfigError(text)
    time = arrays['time']
    if 'episode' in arrays:
        numbers = arrays['episode']
        if (numbers != np.round(numbers)).any():
            raise ConfigError(f'{path}: episode has fractions: expected whole numbers')
        cuts = np.flatnonzero(np.diff(numbers)) + 1
        if len(cuts) + 1 != len(np.unique(numbers)):
            raise ConfigError(
                f'{path}: the rows of an episode are not contiguous: expected each episode number '
                'in one block of rows'
            )
    else:
        cuts = np.flatnonzero(np.diff(time) < 0) + 1
    edges = [0, *cuts.tolist(), rows]
    episodes = []
    for first, end in zip(edges, edges[1:]):
        span = slice(first, end)
        stamps = np.round((time[span] - time[first]) * NS_PER_S).astype(np.int64)
        _check_stamps(path, stamps, first, rate)
        kept = (arrays[name][span] for name in ('qpos', 'qvel', told))
        episodes.append(Trajectory(stamps, *kept))
    log.info('%s: %d rows, episodes: %d', path, rows, len(episodes))
    return episodes


def _read(path: Path) -> dict[str, np.ndarray]:
    """Read the arrays of an .npz file as finite float64, of any shape."""
    names = ('qpos', 'qvel', 'time')
    try:
        file = np.load(path, allow_pickle=False)
        if not isinstance(file, np.lib.npyio.NpzFile):
            raise ConfigError(f'{path}: holds a single array: expected an .npz with {names}')
        with file:
            told = 'command' if 'command' in file else 'ctrl'
            missing = [name for name in (*names, told) if name not in file]
            if missing:
                raise ConfigError(f'{path}: lacks {missing}; it has {sorted(file.files)}')
            found = {name: file[name] for name in (*names, told, 'episode') if name in file}
    except OSError as error:
        raise ConfigError(f'{path}: {error.strerror or error}') from error
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ConfigError(
            f'{path}: not an .npz of plain arrays ({error}): expected one as np.savez writes it'
        ) from error
    for name, values in found.items():
        if not isinstance(values, np.ndarray) or values.dtype.kind not in 'iuf':
            kind = getattr(values, 'dtype', 'no array')
            raise ConfigError(f'{path}: {name} is of type {kind}: expected real numbers')
        found[name] = values.astype(np.float64)
        bad = np.argwhere(~np.isfinite(found[name]))
        if len(bad):
            row = bad[0, 0] if bad.shape[1] else 0
            raise ConfigError(f'{path}: {name} in row {row} is not finite')
    return found


def _check_stamps(path: Path, stamps: np.ndarray, first: int, rate: float) -> None:
    """Check the times (T,) [ns] of an episode that begins in row ``first``."""
    if len(stamps) < 2:
        raise ConfigError(f'{path}: the episode of row {first} has 1 row: expected 2 or more')
    steps = np.diff(stamps)
    wrong = np.flatnonzero(steps <= 0)
    if len(wrong):
        row = first + int(wrong[0])
        raise ConfigError(
            f'{path}: time in row {row + 1} is not after that in row {row}: expected time to '
            'ascend within an episode'
        )
    if steps.max() > NS_PER_S / rate + SLACK:
        row, step = first + int(steps.argmax()), steps.max() / NS_PER_S
        raise ConfigError(
            f'{path}: rows {row} and {row + 1} are {step:g} s apart, more than a camera period of '
            f'{1 / rate:g} s: expected a --camera-rate of at most {1 / step:g}, or two episodes'
        )


def _check_camera(
    path: Path, model: Any, name: str, contract: Contract, size: int | tuple[int, int]
) -> None:
    names = [model.camera(i).name for i in range(model.ncam) if model.camera(i).name]
    if name not in names:
        raise ConfigError(
            f'{path} has no camera {name!r}: expected one of {names}'
            if names
            else f'{path} has no camera with a name: give one to the camera to look through'
        )
    if contract.camera.scale is not None:
        raise ConfigError(
            f'camera.scale is {contract.camera.scale:g} in the contract, of a depth camera: '
            'images are rendered in colour, so expected null'
        )
    if contract.camera.crop is not None:
        x, y, width, height = contract.camera.crop
        rows, columns = (size, size) if isinstance(size, int) else size
        if x + width > columns or y + height > rows:
            raise ConfigError(
                f'camera.crop {list(contract.camera.crop)} of the contract reaches out of the '
                f'image: expected an --image-size of at least {x + width}x{y + height}'
            )


def _has_state(model: Any, contract: Contract) -> bool:
    """Whether qpos and qvel can fill the state channel; warns if not."""
    state, applied = contract.state, contract.action.applied
    if state is None:
        return False
    if state.topic == applied.topic and state.type == applied.type:
        both = sorted(set(state.fields) & set(applied.fields))
        if both:
            raise ConfigError(
                f'{state.topic} {both[0]} is state and command at once in the contract: expected '
                'fields of their own, since qpos and ctrl differ'
            )
    if state.type != JOINT_STATE:
        log.warning('state: %s is not written, only JointState can be', state.type)
        return False
    joints = _hinges(model)
    for field in state.fields:
        match = re.fullmatch(r'(position|velocity)\[(.+)\]', field)
        array, entry = ('', '') if match is None else match.groups()
        size = {'position': model.nq, 'velocity': model.nv}.get(array, 0)
        if not (int(entry) < size if entry.isdecimal() else entry in joints):
            log.warning(
                'state is not written: %s is none of position[0..%d] (qpos), velocity[0..%d] '
                '(qvel), and of none of the joints %s of this model',
                *(field, model.nq - 1, model.nv - 1, joints),
            )
            return False
    return True


def _hinges(model: Any) -> list[str]:
    """Names of the joints where each has one position and one velocity, else none."""
    names = [model.joint(i).name for i in range(model.njnt)]
    return names if model.nq == model.nv == model.njnt else []


def _check_limits(contract: Contract, episodes: Sequence[Trajectory]) -> None:
    """Warn of commands beyond the contract's limits, which a planner never sends."""
    action = contract.action
    commands = np.concatenate([episode.commands for episode in episodes])
    for values, name, unit, low, high in zip(
        commands.T, action.names, action.units, action.low, action.high
    ):
        beyond = np.count_nonzero((values < low) | (values > high))
        if beyond:
            log.warning(
                'command of %s reaches from %g to %g, in %d of %d rows beyond the limits of the '
                'contract, %g to %g %s; the bag holds it as it is',
                *(name, values.min(), values.max(), beyond, len(values), low, high, unit),
            )


class _EpisodeWriter:
    """Writes images, states and commands as the contract says.

    Attributes:
        lead: commands are logged this long before they take effect [ns], because messages
            without a header take effect ``action.delay`` after their log time.

    """

    def __init__(self, bag: BagWriter, model: Any, contract: Contract, has_state: bool) -> None:
        self._bag, self._contract = bag, contract
        applied, state = contract.action.applied, contract.state
        self._joints = _hinges(model)
        # One message may hold both: position and velocity of the state, effort as applied.
        same = state is not None and (state.topic, state.type) == (applied.topic, applied.type)
        self._joined = has_state and same
        self._has_state = has_state and not self._joined
        self.lead = 0 if has_header(applied.type) else contract.action.delay_ns

    def frame(self, stamp: int, image: np.ndarray, row: int, episode: Trajectory) -> None:
        """Write an image (S, S, 3) uint8 and the state that it shows."""
        if self._has_state and self._contract.state is not None:
            topic = topic_name(self._contract.state.topic)
            message = self._joint_state(row, episode)
            messages.write(self._bag, topic, JOINT_STATE, message, stamp, stamp)
        write_image(self._bag, self._contract, stamp, image)

    def command(self, stamp: int, row: int, episode: Trajectory) -> None:
        """Write the command of a row, in effect from ``stamp`` [ns] on."""
        applied, names = self._contract.action.applied, list(self._contract.action.names)
        if self._joined:
            message = self._joint_state(row, episode)
            write_fields(message, applied.fields, episode.commands[row])
        else:
            message = messages.command(applied, names, episode.commands[row])
        topic, logged = topic_name(applied.topic), stamp - self.lead
        messages.write(self._bag, topic, applied.type, message, stamp, logged)

    def _joint_state(self, row: int, episode: Trajectory) -> Any:
        message = messages.blank(JOINT_STATE)
        message.name = self._joints
        message.position, message.velocity = episode.qpos[row], episode.qvel[row]
        return message


def _render(
    model: Any, episode: Trajectory, rate: float, camera: Camera, writer: _EpisodeWriter, start: int
) -> None:
    """Write an episode in the order of log times; frames before commands at equal times."""
    mujoco = load_mujoco()
    data = mujoco.MjData(model)
    count = int(episode.stamps[-1] * rate / NS_PER_S + 1e-6) + 1
    frames = np.round(np.arange(count) * (NS_PER_S / rate)).astype(np.int64)
    shown = np.searchsorted(episode.stamps, frames + SLACK, side='right') - 1
    events = [(stamp, 0, i) for i, stamp in enumerate(frames.tolist())]
    events += [(stamp - writer.lead, 1, i) for i, stamp in enumerate(episode.stamps.tolist())]
    for logged, is_command, index in sorted(events):
        if is_command:
            writer.command(start + logged + writer.lead, index, episode)
            continue
        row = int(shown[index])
        data.qpos[:], data.qvel[:] = episode.qpos[row], episode.qvel[row]
        mujoco.mj_forward(model, data)
        writer.frame(start + logged, camera.render(data), row, episode)
