# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Parameters declared once, with type, unit, range and whether they may change at run time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    ParameterImmutableException,
)
from rclpy.node import Node

from lewm_ros.errors import BringupError

_TYPE_NAMES = {
    bool: 'true or false',
    int: 'a whole number',
    float: 'a number with a point, such as 2.0',
    str: 'a text',
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a node.

    The type is that of ``default``. ``low`` and ``high`` are inclusive. All are read-only
    after start: a node reads them when it is configured.
    """

    name: str
    default: bool | int | float | str
    description: str
    low: float | None = None
    high: float | None = None
    choices: tuple[str, ...] = ()

    def descriptor(self) -> ParameterDescriptor:
        """Build the ROS descriptor."""
        descriptor = ParameterDescriptor(description=self.description, read_only=True)
        if self.choices:
            descriptor.additional_constraints = f'one of {list(self.choices)}'
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


#: Declared by every node.
COMMON = (
    Parameter('bundle', '', 'Bundle: a folder, or a name under models/ of the share folder.'),
    Parameter(
        'contract',
        '',
        'Robot contract: a YAML file, or a name under config/robots of the share folder. '
        "Empty: the bundle's own (the simulator: the task's own).",
    ),
    Parameter('autostart', True, 'Configure and activate at start, without a lifecycle manager.'),
)


def declare(node: Node, parameters: tuple[Parameter, ...]) -> dict[str, Any]:
    """Declare parameters on a node and return their values by name.

    Raises BringupError for a value of the wrong type, out of range or not among the choices.
    """
    values = {}
    for parameter in parameters:
        try:
            value: Any = node.declare_parameter(
                parameter.name, parameter.default, parameter.descriptor()
            ).value
        except InvalidParameterTypeException as error:
            raise BringupError(
                f"{node.get_name()}: parameter '{parameter.name}' has the wrong type: expected "
                f'{_TYPE_NAMES[type(parameter.default)]}'
            ) from error
        except (InvalidParameterValueException, ParameterImmutableException) as error:
            raise BringupError(
                f"{node.get_name()}: parameter '{parameter.name}' is out of range: expected "
                f'{parameter.low:g} to {parameter.high:g}. {parameter.description}'
            ) from error
        if parameter.choices and value not in parameter.choices:
            raise BringupError(
                f"{node.get_name()}: parameter '{parameter.name}' is '{value}': expected one of "
                f'{list(parameter.choices)}'
            )
        values[parameter.name] = value
    return values
