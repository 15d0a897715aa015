# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Parameters declared once, with type, unit, range and whether they may change at run time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterImmutableException,
)
from rclpy.node import Node
import rclpy.parameter

from lewm_ros.errors import ConfigError, LewmError
from lewm_ros.robot.params_file import is_qos_override

_TYPE_NAMES = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a float, such as 2.0',
    str: 'a string',
    tuple: 'a list of strings',
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    The type is that of ``default``; an empty tuple means an array of strings. ``low`` and ``high``
    are inclusive; every number has both, because a range also rejects NaN. A ``dynamic`` parameter
    can be set while the node runs. All others are read-only after start, because the node reads
    them when it is configured.
    """

    name: str
    default: bool | int | float | str | tuple[str, ...]
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()
    dynamic: bool = False

    def descriptor(self) -> ParameterDescriptor:
        """Build the ROS descriptor."""
        descriptor = ParameterDescriptor(description=self.description, read_only=not self.dynamic)
        constraints = [f'one of {list(self.choices)}'] if self.choices else []
        if not self.dynamic:
            constraints.append('fixed at start: read when the node is configured')
        descriptor.additional_constraints = '; '.join(constraints)
        if self.low is not None and self.high is not None:
            if isinstance(self.default, float):
                descriptor.floating_point_range = [
                    FloatingPointRange(from_value=self.low, to_value=self.high)
                ]
            else:
                descriptor.integer_range = [
                    IntegerRange(from_value=int(self.low), to_value=int(self.high))
                ]
        return descriptor

    def check(self, value: Any) -> None:
        """Check what ROS does not. Raises ConfigError for a value not among the choices."""
        if self.choices and value not in self.choices:
            raise ConfigError(
                f"parameter '{self.name}' is '{value}': expected one of {list(self.choices)}"
            )


#: Declared by every node.
COMMON = (
    Parameter('bundle', '', 'Bundle: a folder, or a name under `models/` of the share folder.'),
    Parameter(
        'contract',
        '',
        'Robot contract: a YAML file, or a name under `config/robots/` of the share folder. '
        "Empty: the bundle's own (the simulator: the task's own).",
    ),
    Parameter('autostart', True, 'Configure and activate at start, without a lifecycle manager.'),
)


def parameters_of(config: type) -> tuple[Parameter, ...]:
    """Make the parameters of a dataclass, see :mod:`lewm_ros.robot.settings`."""
    found = []
    for field in fields(config):
        about = dict(field.metadata)
        default: Any = field.default
        found.append(Parameter(field.name, default, about.pop('text'), **about))
    return tuple(found)


def takes(node: Node, name: str) -> bool:
    """Whether a node has a parameter, or may declare it once its topics exist."""
    return node.has_parameter(name) or is_qos_override(name)


class Parameters:
    """Declares the parameters of a node and handles changes at run time.

    Setting one or several parameters is atomic: all are accepted, or all rejected with a reason.

    Args:
        node: who declares them.
        parameters: what to declare.
        check: called with all values before some are set; raises LewmError to reject them.
        changed: called after some were set.

    Attributes:
        values: by name; the dict is replaced on a change, never modified.

    Raises ConfigError for a start value of the wrong type, out of range or not among the
    choices.

    """

    def __init__(
        self,
        node: Node,
        parameters: Sequence[Parameter],
        check: Callable[[dict[str, Any]], None],
        changed: Callable[[], None],
    ) -> None:
        self._parameters = {p.name: p for p in parameters}
        self._check, self._changed = check, changed
        self.values: dict[str, Any] = {p.name: _declare(node, p) for p in parameters}
        unknown = [n for n in getattr(node, '_parameter_overrides', {}) if not takes(node, n)]
        if unknown:  # ROS ignores them silently
            node.get_logger().warning(
                f'parameters {unknown} do not exist and are ignored: expected some of '
                f'{sorted(self.values)}'
            )
        node.add_on_set_parameters_callback(self._may_set)
        node.add_post_set_parameters_callback(self._have_set)

    def _may_set(self, given: Sequence[rclpy.parameter.Parameter[Any]]) -> SetParametersResult:
        own = self._own(given)
        try:
            for name, value in own.items():
                self._parameters[name].check(value)
            if own:
                self._check(self.values | own)
        except LewmError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def _have_set(self, given: Sequence[rclpy.parameter.Parameter[Any]]) -> None:
        own = self._own(given)
        if own:
            self.values = self.values | own
            self._changed()

    def _own(self, given: Sequence[rclpy.parameter.Parameter[Any]]) -> dict[str, Any]:
        """Filter out ROS's own parameters, such as use_sim_time and the QoS overrides."""
        return {p.name: p.value for p in given if p.name in self._parameters}


def _declare(node: Node, parameter: Parameter) -> Any:
    default: Any = parameter.default
    if default == ():  # ROS would take an empty array for one of bytes
        default = rclpy.parameter.Parameter.Type.STRING_ARRAY
    try:
        value: Any = node.declare_parameter(parameter.name, default, parameter.descriptor()).value
        if value is None:
            value = parameter.default
        parameter.check(value)
    except InvalidParameterTypeException as error:
        raise ConfigError(
            f"{node.get_name()}: parameter '{parameter.name}' has the wrong type: expected "
            f'{_TYPE_NAMES[type(parameter.default)]}'
        ) from error
    except (InvalidParameterValueException, ParameterImmutableException) as error:
        raise ConfigError(
            f"{node.get_name()}: parameter '{parameter.name}' is out of range: expected "
            f'{parameter.low:g} to {parameter.high:g}. {parameter.description}'
        ) from error
    except ConfigError as error:
        raise ConfigError(f'{node.get_name()}: {error}') from error
    return value
