# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the launch files share. Needs ``launch``, which comes with a ROS 2 installation only."""

from __future__ import annotations

from typing import Any

from launch import LaunchContext, LaunchDescription  # type: ignore[attr-defined]
from launch.action import Action
from launch.actions import DeclareLaunchArgument, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration
from launch_ros.actions import Node

from lewm_ros.bringup import ARGUMENTS, Bringup, enclave, prepare_environment
from lewm_ros.share import PACKAGE, find
from lewm_ros.supervisor import GRACE, PAUSE, ends_all


def description(group: str) -> LaunchDescription:
    """Declare the arguments, and start a group of nodes once they are known."""
    declared = [
        DeclareLaunchArgument(
            a.name,
            default_value=a.default,
            description=a.description,
            # An empty list of choices would allow nothing.
            choices=list(a.choices) or None,
        )
        for a in ARGUMENTS
        if group in a.groups
    ]
    return LaunchDescription([*declared, OpaqueFunction(function=_start, args=[group])])


def _start(context: LaunchContext, group: str) -> list[Action]:
    prepare_environment(group)
    names = [a.name for a in ARGUMENTS if group in a.groups]
    given = {name: LaunchConfiguration(name).perform(context) for name in names}
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
    nodes: list[Action] = [
        Node(
            package=PACKAGE,
            executable=name,
            name=name,
            namespace=given['namespace'],
            parameters=[
                bringup.parameters | {o.parameter: o.value for o in bringup.own if o.node == name},
                str(bringup.params_file),
            ],
            remappings=list(bringup.remappings.get(name, ())),
            arguments=[
                '--ros-args',
                *('--log-level', given['log_level']),
                *('--enclave', enclave(given['namespace'], name)),
            ],
            output='screen',
            respawn=given['respawn'] == 'true',
            respawn_delay=PAUSE,
            sigterm_timeout=str(GRACE),  # SIGKILL comes 5 s after that
            on_exit=_ending(name),
        )
        for name in bringup.nodes
    ]
    if given['rviz'] == 'true':
        nodes.append(
            Node(package='rviz2', executable='rviz2', arguments=['-d', str(find('rviz', 'lewm'))])
        )
    return nodes


def _ending(name: str) -> Any:
    """Return what launch does at the end of a node: all end where `lewm up --respawn` ends all.

    Only that a node which cannot be configured does not end here: it stays unconfigured, and can
    be configured again once the mistake is mended.
    """
    return lambda event, context: Shutdown() if ends_all(name, event.returncode) else None
