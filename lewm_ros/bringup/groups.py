# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Groups of nodes and launch arguments, as data for `lewm up` and the launch files.

No node is imported here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
import os
from pathlib import Path
import re
import sys
import tempfile

from lewm_ros.api import load_bundle
from lewm_ros.errors import ConfigError
from lewm_ros.files import find, share_dir
from lewm_ros.robot.contract import Contract
from lewm_ros.robot.params_file import read_params_file
from lewm_ros.sim import NAMES, check_actions, find_task

#: Every node: name → its class. Console scripts have the same names.
NODES = {
    'encoder_node': 'lewm_ros.nodes.encoder:EncoderNode',
    'planner_node': 'lewm_ros.nodes.planner:PlannerNode',
    'controller_node': 'lewm_ros.nodes.controller:ControllerNode',
    'surprise_node': 'lewm_ros.nodes.surprise:SurpriseNode',
    'recorder_node': 'lewm_ros.nodes.recorder:RecorderNode',
    'sim_node': 'lewm_ros.nodes.sim:SimNode',
    'trial_node': 'lewm_ros.nodes.trial:TrialNode',
    'view_node': 'lewm_ros.nodes.view:ViewNode',
}

_PLAN = ('view_node', 'encoder_node', 'planner_node', 'surprise_node', 'controller_node')

#: Nodes that `lewm up` and the launch files start, in order. They end in reverse order: the
#: controller's stop command comes first.
GROUPS = {
    'plan': _PLAN,
    'surprise': ('view_node', 'encoder_node', 'surprise_node'),
    'record': ('recorder_node',),
    'demo': ('sim_node', *_PLAN, 'trial_node'),
}


#: Groups with a view_node.
_SHOWN = tuple(group for group, nodes in GROUPS.items() if 'view_node' in nodes)
#: Nodes that neither subscribe to images nor publish them.
_SMALL = {'planner_node', 'controller_node'}
#: Variables that name the profiles of Fast DDS, since version 3 and before.
PROFILES = ('FASTDDS_DEFAULT_PROFILES_FILE', 'FASTRTPS_DEFAULT_PROFILES_FILE')


@dataclass(frozen=True)
class Argument:
    """A launch argument; `lewm up` has options of the same meaning, but not autostart and rviz."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()
    groups: tuple[str, ...] = tuple(GROUPS)  #: groups whose launch files declare it


#: Choices of a switch; the launch files take 'True' and 'False' too.
BOOLEAN = ('true', 'false')

ARGUMENTS = (
    Argument(
        'task',
        'reacher',
        f'Simulated task: {NAMES}. Names the bundle, where that is empty.',
        groups=('demo',),
    ),
    Argument(
        'bundle',
        '',
        'Trained bundle: a folder, or a name under models/. Empty: the shipped '
        "'reacher', in the demo that of the task.",
    ),
    Argument(
        'contract',
        '',
        "Robot contract: a YAML file, or a name under config/robots. Empty: the bundle's own.",
    ),
    Argument(
        'params_file',
        'live',
        'Parameter file: a YAML file, or a name under config/presets.',
    ),
    Argument('namespace', 'lewm', 'Namespace of all nodes and of their relative topics.'),
    Argument('use_sim_time', 'false', 'Follow /clock, not the system clock.', BOOLEAN),
    Argument(
        'autostart',
        'true',
        'Configure and activate the nodes at start, without a lifecycle manager.',
        BOOLEAN,
    ),
    Argument(
        'respawn',
        'false',
        'Restart nodes that die; each node runs in its own process.',
        BOOLEAN,
    ),
    Argument('rviz', 'false', 'Start rviz2 with what view_node shows.', BOOLEAN, _SHOWN),
    Argument(
        'rviz_frame',
        '',
        "Fixed frame of rviz2: the camera's frame_id. Empty: camera_optical, the simulator's.",
        groups=_SHOWN,
    ),
    Argument(
        'log_level',
        'info',
        'Lowest severity that the nodes log.',
        ('debug', 'info', 'warn', 'error'),
    ),
    Argument(
        'out',
        '',
        'Folder of the bag; where it exists already, _2, _3 and so on. Empty: '
        'recording_<date>_<time> here.',
        groups=('record',),
    ),
)


@dataclass(frozen=True)
class Override:
    """A parameter of one node, given by the user as ``node.parameter:=value``."""

    node: str
    parameter: str
    value: str

    @classmethod
    def parse(cls, text: str, nodes: Sequence[str]) -> Override:
        """Read ``node.parameter:=value``. Raises ConfigError naming the nodes that there are."""
        match = re.fullmatch(r'(\w+)\.([\w./]+):=(.*)', text, re.DOTALL)
        if not match:
            raise ConfigError(f"'{text}': expected node.parameter:=value")
        if match[1] not in nodes:
            raise ConfigError(f"'{text}': no node {match[1]} here: expected one of {list(nodes)}")
        return cls(*match.groups())

    def __str__(self) -> str:
        return f'{self.node}.{self.parameter}:={self.value}'

    def arguments(self) -> list[str]:
        """Return the node's own ROS arguments; unlike global ones they override a params file."""
        return ['-p', f'{self.parameter}:={self.value}']


def enclave(namespace: str, node: str) -> str:
    """Name the security enclave of a node that has a process of its own (SROS2)."""
    return '/' + '/'.join(filter(None, [namespace.strip('/'), node]))


def absolute(namespace: str, pushed: str = '') -> str:
    """Return a namespace as launch_ros resolves it inside one of ``PushRosNamespace``."""
    parts = [namespace] if namespace.startswith('/') else [pushed, namespace]
    return '/' + '/'.join(filter(None, (part.strip('/') for part in parts)))


def check_namespace(namespace: str) -> None:
    """Raise ConfigError for an invalid ROS namespace; rclpy would end in a traceback."""
    if not re.fullmatch(r'/|(/?[A-Za-z_]\w*)(/[A-Za-z_]\w*)*/?|', namespace, re.ASCII):
        raise ConfigError(
            f"namespace '{namespace}': expected names of letters, digits and _, no digit first, "
            'with / between them'
        )


def log_levels(namespace: str, nodes: Sequence[str], level: str) -> list[str]:
    """Return the ROS arguments that set the log level of these nodes, not of libraries."""
    prefix = namespace.strip('/').replace('/', '.')
    names = ['.'.join(filter(None, [prefix, node])) for node in nodes]
    return [a for name in names for a in ('--log-level', f'{name}:={level}')]


def misspelt(group: str, given: Iterable[str]) -> list[str]:
    """Report launch arguments that look like misspelt ones of the group, or belong to other groups.

    All others are accepted: they may belong to a launch file that includes ours.
    """
    known = [a.name for a in ARGUMENTS if group in a.groups]
    elsewhere = {a.name for a in ARGUMENTS} - set(known)
    found = []
    for name in sorted(set(given) - set(known)):
        if name == 'ros_namespace':  # launch_ros's own
            continue
        close = get_close_matches(name.lower(), known, 1, 0.8)
        if close or name in elsewhere:
            hint = f'did you mean {close[0]}?' if close else f'expected some of {known}'
            found.append(f"launch argument '{name}' is ignored: {hint}")
    return found


def prepare_environment(group: str) -> None:
    """Set environment variables that the user has not set.

    numpy gets one thread: more threads would compete with the engines' threads for the cores (numpy
    reads this when it is imported; see ``lewm_ros.cli``). The demo is limited to this machine,
    because a real robot on the network may subscribe to its command topics. Fast DDS gets enough
    shared memory for images above 512 KiB.
    """
    os.environ.setdefault('OPENBLAS_NUM_THREADS', '1')
    if group == 'demo':
        os.environ.setdefault('ROS_AUTOMATIC_DISCOVERY_RANGE', 'LOCALHOST')
    if not os.environ.get('RMW_IMPLEMENTATION', 'rmw_fastrtps_cpp').startswith('rmw_fastrtps'):
        return
    if not any(name in os.environ for name in (*PROFILES, 'FASTDDS_BUILTIN_TRANSPORTS')):
        os.environ[profile_variable()] = str(share_dir() / 'config' / 'fastdds.xml')


def find_log_folder() -> None:
    """Put the ROS log into the temporary folder if the home directory cannot be used.

    rclpy does not start without it: system users have no HOME, or one that is not writable.
    """
    if any(os.environ.get(name) for name in ('ROS_LOG_DIR', 'ROS_HOME')):
        return
    home = os.environ.get('HOME')
    if home:
        place = Path(home) / '.ros' / 'log'
        while not place.exists():
            place = place.parent
        if os.access(place, os.W_OK):
            return
    os.environ['ROS_LOG_DIR'] = str(Path(tempfile.gettempdir()) / f'ros_log_{os.getuid()}')


def profile_variable() -> str:
    """Name the one of :data:`PROFILES` that the Fast DDS of this ROS distribution reads."""
    return PROFILES[os.environ.get('ROS_DISTRO') == 'jazzy']


def leave_shared_memory(nodes: Sequence[str]) -> None:
    """Use the profile without shared memory in a process that handles no images.

    A process that is killed or stopped while it reads from shared memory keeps a lock, which blocks
    its publishers for a second at each message. Commands must not wait (docs/safety.md).
    """
    folder = share_dir() / 'config'
    for name in PROFILES:
        given = Path(os.environ.get(name, ''))
        ours = given.is_file() and given.samefile(folder / 'fastdds.xml')
        if ours and _SMALL.issuperset(nodes):
            os.environ[name] = str(folder / 'fastdds_small.xml')


@dataclass(frozen=True)
class Bringup:
    """A group of nodes, with all files found and checked.

    ``parameters`` apply to every node, ``own`` to single nodes; ``params_file`` is read after
    ``parameters``.
    """

    nodes: tuple[str, ...]
    parameters: dict[str, str | bool]
    own: tuple[Override, ...]
    params_file: Path
    remappings: dict[str, tuple[tuple[str, str], ...]]

    @classmethod
    def of(
        cls,
        group: str,
        bundle: str = '',
        contract: str = '',
        params_file: str = 'live',
        use_sim_time: bool = False,
        autostart: bool = True,
        out: str = '',
        task: str = '',
    ) -> Bringup:
        """Look everything up. Raises LewmError naming what is missing or inconsistent."""
        if use_sim_time and group == 'demo':
            raise ConfigError(
                'use_sim_time: the demo has no /clock, its simulator follows the system clock'
            )
        if task and group != 'demo':
            raise ConfigError(f"task: only the demo has one, '{group}' is of a real robot")
        named = task or 'reacher'
        simulated = find_task(named)
        path, contract_path = '', str(find('contract', contract)) if contract else ''
        if group == 'record' and contract:  # the robot has no model yet
            robot = Contract.load(contract_path)
        else:
            trained, robot = load_bundle(bundle or simulated.name, contract_path)
            path = str(trained.path)
        nodes = GROUPS[group]
        own: tuple[Override, ...] = ()
        if group == 'demo':
            check_actions(simulated, robot, f'bundle {path}')
            own = tuple(Override(n, 'task', named) for n in ('sim_node', 'trial_node'))
        if out:
            # Absolute, which YAML reads as text whatever the name is.
            own += (Override('recorder_node', 'out', str(Path(out).expanduser().absolute())),)
        parameters: dict[str, str | bool] = {
            'bundle': path,
            'contract': contract_path,
            'use_sim_time': use_sim_time,
            'autostart': autostart,
        }
        image = ('image', robot.camera.topic)
        if robot.camera.type == 'sensor_msgs/msg/CompressedImage':
            image = ('image/compressed', robot.camera.topic)
        remapped: dict[str, tuple[tuple[str, str], ...]] = {}
        for node in ('encoder_node', 'view_node'):
            if node in nodes:
                remapped[node] = (image,)
        preset = _params_file(params_file)
        return cls(nodes, parameters, own, preset, remapped)

    def ros_arguments(self, namespace: str, log_level: str) -> list[str]:
        """Return the command line for any number of these nodes in one process.

        Raises ConfigError for what is no namespace.
        """
        check_namespace(namespace)
        arguments = ['--ros-args', '-r', f'__ns:=/{namespace.strip("/")}']
        arguments += log_levels(namespace, self.nodes, log_level)
        for name, value in self.parameters.items():
            text = str(value).lower() if isinstance(value, bool) else yaml_text(value)
            arguments += ['-p', f'{name}:={text}']
        arguments += ['--params-file', str(self.params_file)]
        for node, rules in self.remappings.items():
            for ours, theirs in rules:
                arguments += ['-r', f'{node}:{ours}:={theirs}']
        return arguments

    def commands(
        self, namespace: str, log_level: str, overrides: Sequence[Override] = ()
    ) -> dict[str, list[str]]:
        """Return the command line of one process for each node."""
        shared = self.ros_arguments(namespace, log_level)
        return {
            node: [
                sys.executable,
                '-m',
                'lewm_ros.bringup.compose',
                node,
                *(a for o in (*self.own, *overrides) if o.node == node for a in ('-p', str(o))),
                *shared,
                '--enclave',
                enclave(namespace, node),
            ]
            for node in self.nodes
        }


def _params_file(name: str) -> Path:
    """Find and check a parameter file; if it is missing, ROS would use defaults silently."""
    path = find('preset', name)
    try:
        sections = list(read_params_file(path))
        names = (section.rsplit('/', 1)[-1] for section in sections)
        if not any('*' in name or name in NODES for name in names):
            raise ConfigError(
                f'{sections} match no node of lewm_ros: expected some of {list(NODES)}'
            )
    except ConfigError as error:
        raise ConfigError(f'parameter file {path}: {error}') from error
    return path


def yaml_text(value: str) -> str:
    """Quote a text so that ROS's YAML parser reads it as text: '' and '5' too."""
    return "'" + value.replace("'", "''") + "'"
