# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What a bundle says about its model: sizes, statistics, contract, provenance, thresholds.

Plain data, validated at construction; :mod:`lewm_ros.bundle` writes it to disk.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, fields
import hashlib
import json
import re
from typing import Any

from lewm_ros.errors import one_line, shown
from lewm_ros.robot import checks
from lewm_ros.robot.checks import CheckError
from lewm_ros.robot.contract import Contract

SCHEMA_VERSION = 1
WEIGHTS = 'weights.safetensors'
ENCODER = 'encoder.onnx'
ROLLOUT = 'rollout.onnx'
FILES = (WEIGHTS, ENCODER, ROLLOUT)
ROADMAP = 'roadmap.npz'  #: optional, see :class:`RoadmapEntry`
DECODER = 'decoder.onnx'  #: optional, see :class:`DecoderEntry`
INVERSE = 'inverse.npz'  #: optional, see :class:`PolicyEntry`
IMAGINED = 'imagined.npz'  #: likewise

# Memory is allocated by these numbers of the manifest, so they have limits: far above what a robot
# needs, far below what would exhaust the memory.
MAX_BLOCKS = 64  #: of a context, and of a rollout, whose graph grows with every block
MAX_BLOCK = 4096  #: k·A
MAX_HORIZON = 1000  #: blocks that a frame is predicted ahead
ABOVE_0: dict[str, Any] = {'low': 0, 'above': True}

#: Keys that say where a model comes from or what was measured with it, not what it computes.
DESCRIPTIVE = (
    'name',
    'provenance',
    'calibration',
    'surprise_scale',
    'roadmap',
    'decoder',
    'inverse',
    'imagined',
    'goal_tolerance',
    'camera_size',
    'joints',
)


@dataclass(frozen=True)
class Calibration:
    """Surprise thresholds for one alpha and horizon, and the nominal data and model they hold for.

    ``contract``, ``rate`` and ``data`` are None where they are not known.
    """

    alpha: float  #: probability of a false alarm in a nominal window
    threshold: float  #: of the score
    window: float | None  #: [s]; None: a window is a whole episode
    windows: int  #: nominal windows that it was computed from
    policy: str  #: what drove the robot in them
    model_hash: str  #: :attr:`Manifest.model_hash` of the model that scored them
    horizon: int = 1  #: blocks that each frame was predicted ahead
    drift: float | None = None  #: of the running mean of the score; None: not calibrated
    contract: str | None = None  #: name of the contract of the robot
    rate: float | None = None  #: frames per second of the nominal data [Hz]
    data: tuple[str, ...] | None = None  #: SHA-256 of each file of the nominal data

    def __post_init__(self) -> None:
        alpha = checks.number('calibration.alpha', self.alpha, 0, 1, above=True, below=True)
        object.__setattr__(self, 'alpha', alpha)
        for key in ('threshold', 'window', 'drift', 'rate'):
            value = getattr(self, key)
            if value is not None or key == 'threshold':
                value = checks.number(f'calibration.{key}', value, **ABOVE_0)
                object.__setattr__(self, key, value)
        checks.whole('calibration.windows', self.windows, 1, 10**9)
        checks.whole('calibration.horizon', self.horizon, 1, MAX_HORIZON)
        checks.text('calibration.policy', self.policy)
        if self.contract is not None:
            checks.text('calibration.contract', self.contract)
        _sha256('calibration.model_hash', self.model_hash)
        if self.data is not None:
            object.__setattr__(self, 'data', _hashes('calibration.data', self.data))


@dataclass(frozen=True)
class RoadmapEntry:
    """Metadata of :data:`ROADMAP`, and the data and model that its arrays come from.

    The shares were measured on frames that the map did not contain: held-out episodes, or those
    added last.
    """

    sha256: str  #: of the file
    model_hash: str  #: :attr:`Manifest.model_hash` of the model whose latents its nodes are
    radius: float  #: of a node [latent distance]
    speed: float  #: of a fast robot [latent distance per second]
    gap_limit: float  #: largest distance to a node at which an image is like the recordings
    nodes: int
    edges: int
    frames: int  #: of the data
    covered: float  #: share of these frames within two radii of a node
    connected: float  #: share of pairs of them that the edges connect
    data: tuple[str, ...]  #: SHA-256 of each file of the data

    def __post_init__(self) -> None:
        for key in ('sha256', 'model_hash'):
            _sha256(f'roadmap.{key}', getattr(self, key))
        for key in ('radius', 'speed', 'gap_limit'):
            value = checks.number(f'roadmap.{key}', getattr(self, key), **ABOVE_0)
            object.__setattr__(self, key, value)
        for key in ('covered', 'connected'):
            object.__setattr__(self, key, checks.number(f'roadmap.{key}', getattr(self, key), 0, 1))
        for key, low in (('nodes', 1), ('edges', 0), ('frames', 1)):
            checks.whole(f'roadmap.{key}', getattr(self, key), low, 10**9)
        object.__setattr__(self, 'data', _hashes('roadmap.data', self.data))


@dataclass(frozen=True)
class DecoderEntry:
    """Metadata of :data:`DECODER`: the data and model that it was trained on."""

    sha256: str  #: of the file
    model_hash: str  #: :attr:`Manifest.model_hash` of the model whose latents it reads
    size: int  #: of its images, width and height [px]
    frames: int  #: that it was trained on
    error: float  #: root mean square on held-out frames, of values in [0, 255]
    spread: float  #: the same for the mean image, which ignores the latent
    data: tuple[str, ...]  #: SHA-256 of each file of the data

    def __post_init__(self) -> None:
        for key in ('sha256', 'model_hash'):
            _sha256(f'decoder.{key}', getattr(self, key))
        for key, high in (('size', 2048), ('frames', 10**9)):
            checks.whole(f'decoder.{key}', getattr(self, key), 1, high)
        for key in ('error', 'spread'):
            value = checks.number(f'decoder.{key}', getattr(self, key), 0, 255)
            object.__setattr__(self, key, value)
        object.__setattr__(self, 'data', _hashes('decoder.data', self.data))


@dataclass(frozen=True)
class PolicyEntry:
    """Metadata of a goal-conditioned policy: the data and model that it was trained on.

    An error is the mean square, on held-out frames, of what its training minimises. For an inverse
    model, that is the first command minus the recorded one, normalised. For an imagined policy, it
    is the imagined latent minus the goal's, at the block of the goal.
    """

    sha256: str  #: of the file
    model_hash: str  #: :attr:`Manifest.model_hash` of the model whose latents it reads
    blocks: int  #: blocks that it returns commands for; also the farthest goal in training
    frames: int  #: that it was trained on
    error: float
    spread: float  #: error of the mean command, whatever the goal
    data: tuple[str, ...]  #: SHA-256 of each file of the data
    recorded: float = 0.0  #: error of the recorded commands

    def __post_init__(self) -> None:
        for key in ('sha256', 'model_hash'):
            _sha256(f'policy.{key}', getattr(self, key))
        for key, high in (('blocks', MAX_BLOCKS), ('frames', 10**9)):
            checks.whole(f'policy.{key}', getattr(self, key), 1, high)
        for key in ('error', 'spread', 'recorded'):
            value = checks.number(f'policy.{key}', getattr(self, key), 0)
            object.__setattr__(self, key, value)
        object.__setattr__(self, 'data', _hashes('policy.data', self.data))


#: Optional files of a bundle: key of the manifest → file, class of the entry, lewm command.
OPTIONAL: dict[str, tuple[str, Any, str]] = {
    'roadmap': (ROADMAP, RoadmapEntry, 'roadmap'),
    'decoder': (DECODER, DecoderEntry, 'decoder'),
    'inverse': (INVERSE, PolicyEntry, 'inverse'),
    'imagined': (IMAGINED, PolicyEntry, 'imagine'),
}


@dataclass(frozen=True)
class Manifest:
    """Everything about a model except its weights. Raises CheckError naming a wrong key."""

    name: str
    architecture: dict[str, Any]  #: plain numbers and names for ``lewm_ros.model.ModelConfig``
    image_size: int  #: S [px]
    frameskip: int  #: k, control ticks in a block
    history: int  #: H, frames of context; at most the model's window
    horizon: int  #: N, blocks of the rollout graph
    latent_size: int  #: D
    action_mean: tuple[float, ...]  #: (A,) of one tick's action, contract units
    action_std: tuple[float, ...]  #: (A,) likewise, above 0
    contract: Contract
    camera_period: float  #: [s], median of the training data
    provenance: dict[str, Any] = field(default_factory=dict)
    #: Horizon [blocks] → (D,) nominal squared error of the prediction.
    surprise_scale: dict[int, tuple[float, ...]] = field(default_factory=dict)
    calibration: tuple[Calibration, ...] = ()
    roadmap: RoadmapEntry | None = None  #: of the file :data:`ROADMAP`, where there is one
    #: Mean squared latent distance per dimension at which a goal is reached, where it was measured.
    goal_tolerance: float | None = None
    decoder: DecoderEntry | None = None  #: of the file :data:`DECODER`, where there is one
    inverse: PolicyEntry | None = None  #: of the file :data:`INVERSE`, where there is one
    imagined: PolicyEntry | None = None  #: of the file :data:`IMAGINED`, where there is one
    #: Width and height of the training images before crop and resizing [px], where known.
    camera_size: tuple[int, int] | None = None
    #: Joints of messages read by index, as the training data list them, by section of the contract.
    joints: dict[str, tuple[str, ...]] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)  #: name → SHA-256; set when written

    def __post_init__(self) -> None:
        checks.name('name', self.name)
        for key, high in (
            ('image_size', 2048),
            ('frameskip', 1000),
            ('history', MAX_BLOCKS),
            ('horizon', MAX_BLOCKS),
            ('latent_size', 8192),
        ):
            object.__setattr__(self, key, checks.whole(key, getattr(self, key), 1, high))
        if not isinstance(self.contract, Contract):
            raise CheckError(f'contract is {shown(self.contract)}: expected a robot contract')
        size = self.contract.action.size
        if self.frameskip * size > MAX_BLOCK:
            raise CheckError(
                f'frameskip is {self.frameskip}, with {size} action dimensions: expected a block '
                f'of at most {MAX_BLOCK} numbers'
            )
        for key, found in (
            ('action_mean', checks.numbers('action_mean', self.action_mean, size)),
            ('action_std', checks.numbers('action_std', self.action_std, size, **ABOVE_0)),
            ('surprise_scale', self._scales()),
            ('camera_period', checks.number('camera_period', self.camera_period, **ABOVE_0)),
        ):
            object.__setattr__(self, key, found)
        for key in ('architecture', 'provenance'):
            object.__setattr__(self, key, _plain(key, getattr(self, key)))
        self._check_architecture(size)
        if self.goal_tolerance is not None:
            tolerance = checks.number('goal_tolerance', self.goal_tolerance, **ABOVE_0)
            object.__setattr__(self, 'goal_tolerance', tolerance)
        self._check_recorded()
        entries = [(c.horizon, c.alpha) for c in self.calibration]
        if len(set(entries)) != len(entries):
            raise CheckError(
                f'calibration has duplicate entries: (horizon, alpha) are {entries}; expected one '
                'for each'
            )
        object.__setattr__(self, 'calibration', tuple(self.calibration))
        if self.files:
            _check_files(self.files)

    def _check_recorded(self) -> None:
        """Check what the training data looked like."""
        if self.camera_size is not None:
            checks.numbers('camera_size', self.camera_size, 2)
            size = tuple(checks.whole('camera_size', n, 1, 65535) for n in self.camera_size)
            object.__setattr__(self, 'camera_size', size)
        if not isinstance(self.joints, dict):
            raise CheckError(f'joints is {shown(self.joints)}: expected a list for each section')
        joints = {k: checks.strings(f'joints.{one_line(k)}', v) for k, v in self.joints.items()}
        object.__setattr__(self, 'joints', joints)

    def _scales(self) -> dict[int, tuple[float, ...]]:
        """Check ``surprise_scale``, whose keys are strings in JSON."""
        given: Any = self.surprise_scale
        if not isinstance(given, dict):
            raise CheckError(f'surprise_scale is {shown(given)}: expected a list for each horizon')
        scales = {}
        for horizon, scale in given.items():
            try:
                blocks = int(horizon)
            except (TypeError, ValueError):
                blocks = horizon
            key = f'surprise_scale.{one_line(horizon)}'
            blocks = checks.whole(f'horizon of {key}', blocks, 1, MAX_HORIZON)
            scales[blocks] = checks.numbers(key, scale, self.latent_size, **ABOVE_0)
        return scales

    def _check_architecture(self, action_size: int) -> None:
        for key, ours in (
            ('image_size', self.image_size),
            ('frameskip', self.frameskip),
            ('latent_size', self.latent_size),
            ('action_size', action_size),
        ):
            if key in self.architecture and self.architecture[key] != ours:
                raise CheckError(
                    f'architecture.{key} is {shown(self.architecture[key])}, the rest of the '
                    f'manifest says {ours}: they must be equal'
                )

        if type(self.window) is not int or not self.history <= self.window <= MAX_BLOCKS:
            raise CheckError(
                f'history is {self.history}, architecture.history {shown(self.window)}: expected '
                f'history <= architecture.history <= {MAX_BLOCKS}'
            )

    @property
    def window(self) -> int:
        """Frames that the predictor attends to at most."""
        return self.architecture.get('history', self.history)

    @classmethod
    def from_dict(cls, data: Any) -> Manifest:
        """Build a manifest from parsed JSON, every key known and present."""
        if not isinstance(data, dict):
            raise CheckError(f'holds {type(data).__name__}: expected a JSON object')
        version = data.get('schema_version')
        if version != SCHEMA_VERSION or isinstance(version, bool):
            raise CheckError(
                f'schema_version is {shown(version)}: this version of lewm_ros reads '
                f'{SCHEMA_VERSION}'
            )
        values = {k: v for k, v in data.items() if k != 'schema_version'}
        _check_keys('manifest', values, cls, (*OPTIONAL, 'goal_tolerance', 'camera_size', 'joints'))
        try:
            values['contract'] = Contract.parse(values['contract'])
        except CheckError as error:
            raise CheckError(*error.texts, where='contract: ') from error
        calibration = values['calibration']
        if not isinstance(calibration, list):
            raise CheckError(f'calibration is {shown(calibration)}: expected a list')
        for entry in calibration:
            _check_keys('calibration', entry, Calibration, ())
        values['calibration'] = tuple(Calibration(**entry) for entry in calibration)
        for key, (_, kind, _) in OPTIONAL.items():
            if values.get(key) is not None:
                _check_keys(key, values[key], kind, ('recorded',))
                values[key] = kind(**values[key])
        _check_files(values['files'])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, as :meth:`from_dict` reads it."""
        data = {f.name: getattr(self, f.name) for f in fields(self)}
        data['contract'] = self.contract.to_dict()
        data['calibration'] = [asdict(c) for c in self.calibration]
        if self.goal_tolerance is None:
            del data['goal_tolerance']
        for key in OPTIONAL:
            if data[key] is None:
                del data[key]
            else:
                data[key] = asdict(data[key])
        return {'schema_version': SCHEMA_VERSION, **data}

    @property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file of the bundle, the optional ones included."""
        entries = {name: getattr(self, key) for key, (name, *_) in OPTIONAL.items()}
        return self.files | {name: e.sha256 for name, e in entries.items() if e is not None}

    @property
    def model_hash(self) -> str:
        """SHA-256 (hex) of everything that determines what the model computes, files included."""
        data = {k: v for k, v in self.to_dict().items() if k not in DESCRIPTIVE}
        text = json.dumps(data, sort_keys=True, separators=(',', ':'), allow_nan=False)
        return hashlib.sha256(text.encode()).hexdigest()


def _check_keys(key: str, data: Any, kind: type, optional: tuple[str, ...] = ()) -> None:
    if not isinstance(data, dict):
        raise CheckError(f'{key} is {shown(data)}: expected a mapping')
    known = [f.name for f in fields(kind)]
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise CheckError(f'{key} has unknown key {shown(unknown[0])}: expected {known}')
    missing = [name for name in known if name not in data and name not in optional]
    if missing:
        raise CheckError(f"{key} lacks '{missing[0]}'")


def _check_files(files: Any) -> None:
    # Comparing with the three names also keeps out '..', '/' and everything else in a name.
    if not isinstance(files, dict) or set(files) != set(FILES):
        names = sorted(files) if isinstance(files, dict) else files
        raise CheckError(f'files lists {shown(names)}: expected exactly {list(FILES)}')
    for name, digest in files.items():
        _sha256(f'files.{name}', digest)


def _sha256(key: str, value: Any) -> None:
    if not isinstance(value, str) or not re.fullmatch(r'[0-9a-f]{64}', value):
        raise CheckError(f'{key} is {shown(value)}: expected a SHA-256 in 64 lower-case hex digits')


def _hashes(key: str, values: Any) -> tuple[str, ...]:
    if not isinstance(values, (list, tuple)):
        raise CheckError(f'{key} is {shown(values)}: expected a list')
    for value in values:
        _sha256(key, value)
    return tuple(values)


def _plain(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise CheckError(f'{key} is {shown(value)}: expected a mapping')
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise CheckError(f'{key} is not plain JSON data ({one_line(error)})') from error
