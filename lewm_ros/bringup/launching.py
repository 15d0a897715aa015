# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the launch files share. Needs ``launch``, which comes with a ROS 2 installation only."""

from __future__ import annotations

from collections.abc import Sequence
import os
from pathlib import Path
import re
from typing import Any

from ament_index_python.packages import get_package_prefix
from launch import LaunchContext, LaunchDescription  # type: ignore[attr-defined]
from launch.action import Action
from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    LogInfo,
    OpaqueFunction,
    RegisterEventHandler,
    Shutdown,
)
from launch.event import Event
from launch.event_handler import EventHandler
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from lewm_ros.bringup.groups import (
    ARGUMENTS,
    BOOLEAN,
    Bringup,
    absolute,
    enclave,
    log_levels,
    misspelt,
    prepare_environment,
)
from lewm_ros.bringup.supervisor import GRACE_SECONDS, RESTART_PAUSE, ends_all
from lewm_ros.errors import ConfigError
from lewm_ros.files import PACKAGE, find


def description(group: str) -> LaunchDescription:
    """Declare the arguments, and start a group of nodes once they are known."""
    declared = [
        DeclareLaunchArgument(
            a.name,
            default_value=a.default,
            # `choices` would be checked by launch, which raises: see _start.
            description=f'{a.description} One of: {", ".join(a.choices)}.'
            if a.choices
            else a.description,
        )
        for a in ARGUMENTS
        if group in a.groups
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[group])])


def _start(context: LaunchContext, group: str) -> list[Action]:
    """Return the nodes of a group, or actions that end the launch if they cannot be started.

    It never raises. After an exception, launch no longer tracks the processes that it started in
    the same event, including those of the user's launch file, and leaves them running. For the same
    reason the nodes are returned only if all of them can be started.
    """
    try:
        return _nodes(context, group)
    except Exception as error:
        return _end_launch(error)


def _end_launch(error: Exception) -> list[Action]:
    """End all processes, then raise the error in a separate event, so that launch returns 1."""

    def fail(context: LaunchContext) -> None:
        raise error

    failed = Event()
    handler = EventHandler(
        matcher=lambda event: event is failed, entities=[OpaqueFunction(function=fail)]
    )
    return [
        Shutdown(reason=str(error)),
        RegisterEventHandler(handler),
        EmitEvent(event=failed),
    ]


def _nodes(context: LaunchContext, group: str) -> list[Action]:
    prepare_environment(group)
    given = _arguments(context, group)
    bringup = Bringup.of(
        group,
        given['bundle'],
        given['contract'],
        given['params_file'],
        use_sim_time=given['use_sim_time'] == 'true',
        autostart=given['autostart'] == 'true',
        out=given.get('out', ''),
        task=given.get('task', ''),
    )
    namespace = absolute(
        given['namespace'], context.launch_configurations.get('ros_namespace') or ''
    )
    nodes: list[Action] = [
        Node(
            package=PACKAGE,
            executable=name,
            name=name,
            namespace=namespace,
            parameters=[
                bringup.parameters | {o.parameter: o.value for o in bringup.own if o.node == name},
                str(bringup.params_file),
            ],
            remappings=list(bringup.remappings.get(name, ())),
            arguments=[
                '--ros-args',
                *log_levels(namespace, [name], given['log_level']),
                *('--enclave', enclave(namespace, name)),
            ],
            output='screen',
            respawn=given['respawn'] == 'true',
            respawn_delay=RESTART_PAUSE,
            sigterm_timeout=str(GRACE_SECONDS),  # SIGKILL comes 5 s after that
            on_exit=_ending(name),
        )
        for name in bringup.nodes
    ]
    _check_installed(PACKAGE, bringup.nodes, 'build it again with colcon, or install it again')
    if given.get('rviz') == 'true':
        distribution = os.environ.get('ROS_DISTRO', '<distribution>')
        _check_installed(
            'rviz2',
            ['rviz2'],
            f'install the apt package ros-{distribution}-rviz2, or give rviz:=false',
        )
        config = find('rviz', 'lewm')
        frame = given['rviz_frame']
        topics = re.findall(r'Value: /lewm/(\S+)', config.read_text())
        rviz = Node(
            package='rviz2',
            executable='rviz2',
            arguments=['-d', str(config), *(('-f', frame) if frame else ())],
            remappings=[(f'/lewm/{t}', f'{namespace.rstrip("/")}/{t}') for t in topics],
        )
        nodes.insert(0, rviz)  # before our nodes, in case launch does not find it
    ignored = [LogInfo(msg=f'lewm: {t}') for t in misspelt(group, context.launch_configurations)]
    return [*ignored, *nodes]


def _arguments(context: LaunchContext, group: str) -> dict[str, str]:
    """Return the value of each argument. Raises ConfigError naming the choices there are."""
    given = {}
    for argument in ARGUMENTS:
        if group in argument.groups:
            value = LaunchConfiguration(argument.name).perform(context)
            if argument.choices == BOOLEAN:
                value = value.lower()
            if argument.choices and value not in argument.choices:
                raise ConfigError(
                    f"{argument.name} is '{value}': expected one of {list(argument.choices)}"
                )
            given[argument.name] = value
    return given


def _check_installed(package: str, executables: Sequence[str], remedy: str) -> None:
    """Check the executables that launch looks up. Raises ConfigError naming what is missing."""
    try:
        folder = Path(get_package_prefix(package)) / 'lib' / package
    except (LookupError, OSError) as error:  # OSError: no AMENT_PREFIX_PATH
        raise ConfigError(f"package '{package}' is not installed: {remedy}") from error
    for name in executables:
        if not os.access(folder / name, os.X_OK):
            raise ConfigError(f"package '{package}' lacks {folder / name}: {remedy}")


def _ending(name: str) -> Any:
    """Return the on_exit action of a node: it ends the launch where `lewm up --respawn` ends.

    `ros2 launch` then returns 1 unless the node's exit status is 0. A node that cannot be
    configured does not exit under launch: it stays unconfigured, and can be configured again.
    """

    def end(event: Any, context: LaunchContext) -> list[Action] | None:
        if not ends_all(name, event.returncode):
            return None
        if event.returncode == 0:
            return [Shutdown()]
        return _end_launch(ConfigError(f'{name} ended with status {event.returncode}'))

    return end
