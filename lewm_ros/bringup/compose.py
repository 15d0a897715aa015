# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Runs nodes in one process until SIGINT, SIGTERM or SIGHUP, or until a node finishes.

``python -m lewm_ros.bringup.compose NODE... [-p NODE.PARAMETER:=VALUE] [--ros-args ...]`` runs
nodes by name.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from itertools import pairwise
from pathlib import Path
import sys
import time
import traceback
from typing import Any

import rclpy
from rclpy.executors import SingleThreadedExecutor
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.signals import SignalHandlerOptions
from rclpy.utilities import remove_ros_args, try_shutdown

from lewm_ros.bringup.groups import NODES, Override, find_log_folder, leave_shared_memory
from lewm_ros.bringup.supervisor import STATUS_UNUSABLE, StopSignals
from lewm_ros.errors import ConfigError, LewmError
from lewm_ros.nodes.base import LewmNode
from lewm_ros.nodes.parameters import takes
from lewm_ros.robot.params_file import for_node, namesakes, read_params_file

#: Longest wait for a callback before signals are checked [s].
_POLL_PERIOD = 0.1
#: Consecutive errors of the executor that end the process.
_MAX_FAILURES = 10
#: Longest wait at the end for work that is to be finished, such as evidence bags [s].
FINISH_SECONDS = 20.0


def run(
    nodes: Sequence[tuple[str, type[LewmNode]]],
    args: Sequence[str] = (),
    overrides: Sequence[Override] = (),
    exit_on_failure: bool = False,
) -> int:
    """Run nodes in one executor until a signal, or until one of them finishes.

    Args:
        nodes: (name, class) in the order of start; they end in reverse.
        args: command line for rclpy, with ``--ros-args``.
        overrides: parameter values for single nodes.
        exit_on_failure: end when a node cannot be configured or activated; otherwise it stays
            unconfigured and can be tried again.

    Returns:
        The exit status: 0 after a signal, what a node finished with, 2 after a LewmError of a
        node, 1 after another error.

    Raises:
        LewmError: a node's parameters are wrong.

    """
    signals = StopSignals()
    leave_shared_memory([name for name, _ in nodes])
    find_log_folder()
    # rclpy's own handlers would shut the context down at once, and with it the way to publish
    # the stop command.
    with _ros_arguments_named():
        rclpy.init(args=list(args), signal_handler_options=SignalHandlerOptions.NO)
    running: list[LewmNode] = []
    status = 0
    try:
        executor = SingleThreadedExecutor()
        for name, kind in nodes:
            with _ros_arguments_named():
                node = kind(name, cli_args=_arguments(name, overrides))
            running.append(node)
            _check_declared(node, name, overrides)
            _check_params_files(node, args)
            executor.add_node(node)
        failures = 0  # in a row
        while not signals.seen:
            try:
                executor.spin_once(timeout_sec=_POLL_PERIOD)
                failures = 0
            except Exception:
                # Callbacks of the nodes are guarded, those of rclpy (/clock, parameter services)
                # are not: a message that it cannot take must not end a robot's controller.
                failures += 1
                if failures == _MAX_FAILURES:
                    raise
                text = traceback.format_exc()
                running[0].get_logger().error(text, throttle_duration_sec=1.0)
            asked = [n.finished for n in running if n.finished is not None]
            if asked:
                status = max(asked)
                break
            failed = [n for n in running if n.failure is not None]
            if exit_on_failure and failed:
                status = STATUS_UNUSABLE if any(n.unusable for n in failed) else 1
                break
    finally:
        signals.ignore()
        for node in reversed(running):
            node.close()
        until = time.monotonic() + FINISH_SECONDS
        for node in reversed(running):
            node.finish_work(until - time.monotonic())
        for node in reversed(running):
            node.destroy_node()
        # Not rclpy.try_shutdown: since Kilted it also restores the default signal handlers, unless
        # it gets an argument that Jazzy does not have.
        try_shutdown()
    # Publishing the final messages of a node may have failed.
    return max([status, *(n.finished or 0 for n in running)])


@contextmanager
def _ros_arguments_named() -> Iterator[None]:
    """Turn errors of ROS arguments into one line."""
    try:
        yield
    except (rclpy_implementation.RCLError, rclpy_implementation.RCLInvalidROSArgsError) as error:
        text = str(error).partition(', at ')[0].partition('. Error: ')[0]
        raise ConfigError(text.replace('\n', ' ')) from error


def node_class(name: str) -> type[LewmNode]:
    """Import the class of a node named in :data:`lewm_ros.bringup.groups.NODES`."""
    module, _, attribute = NODES[name].partition(':')
    return getattr(import_module(module), attribute)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the nodes named on the command line, each with the process's ROS arguments."""
    argv = list(sys.argv if argv is None else argv)
    parser = argparse.ArgumentParser(prog='lewm_ros.bringup.compose')
    parser.add_argument('nodes', nargs='+', choices=NODES)
    parser.add_argument('-p', '--parameter', action='append', default=[])
    args = parser.parse_args(remove_ros_args(argv)[1:])
    try:
        overrides = [Override.parse(text, args.nodes) for text in args.parameter]
        nodes = [(name, node_class(name)) for name in args.nodes]
        return run(nodes, argv, overrides, exit_on_failure=True)
    except LewmError as error:
        print(f'lewm: error: {error}', file=sys.stderr)
        return 2


def _arguments(name: str, overrides: Sequence[Override]) -> list[str] | None:
    own = [o for o in overrides if o.node == name]
    return ['--ros-args', *(a for o in own for a in o.arguments())] if own else None


def _check_declared(node: LewmNode, name: str, overrides: Sequence[Override]) -> None:
    """Raise ConfigError for a parameter that the node does not declare; ROS would ignore it."""
    for override in overrides:
        if override.node == name and not takes(node, override.parameter):
            raise ConfigError(
                f"{name} has no parameter '{override.parameter}': expected one of "
                f'{sorted(node.params)}'
            )


def _check_params_files(node: LewmNode, args: Sequence[str]) -> None:
    """Refuse unknown parameters in sections for this node; shared sections may have others.

    Parameters for a node of this name in another namespace only are reported.
    """
    for option, path in pairwise(args):
        sections: dict[str, dict[str, Any]] = {}
        if option == '--params-file':
            with suppress(ConfigError):  # ROS has read it, and accepts more, such as nested names
                sections = read_params_file(Path(path))
        name = node.get_fully_qualified_name()
        try:
            for_node(sections, name, partial(takes, node), node.params)
        except ConfigError as error:
            raise ConfigError(f'parameter file {path}: {error}') from error
        if others := namesakes(sections, name):
            node.get_logger().warning(
                f'parameter file {path} has parameters for {", ".join(others)} and none for {name}'
            )


if __name__ == '__main__':
    sys.exit(main())
