# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The one family of errors: every message names the thing at fault and what would be right.

What a message quotes may come from a file that somebody made to do harm: it is shown on one
line, printable and short.
"""

_SHOWN = 200  #: longest value in a message [characters]
_LINE = 1000  #: longest text of another library's error


def shown(value: object) -> str:
    """Return a value as Python writes it, cut where it is long."""
    return _cut(repr(value), _SHOWN)


def one_line(error: object) -> str:
    """Return the text of an error on one line, without control characters."""
    text = ' '.join(str(error).split())
    return _cut(''.join(c if c.isprintable() else '?' for c in text), _LINE)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f'{text[:length]}...'


class LewmError(Exception):
    """Base of all errors that this package raises on purpose."""


class ContractError(LewmError):
    """A robot contract is malformed, or disagrees with a bundle, a bag or a robot."""


class BundleError(LewmError):
    """A bundle is missing, incomplete, tampered with or of an unknown schema."""


class ObservationError(LewmError):
    """An image or a message cannot be turned into an observation."""


class ModelError(LewmError):
    """A model configuration or an array handed to a model does not fit."""


class EngineError(LewmError):
    """An inference engine is unknown, not installed, or cannot run the bundle."""


class BagError(LewmError):
    """A bag cannot be read or written, or holds nothing usable."""


class TrainingError(LewmError):
    """Training cannot start, or was stopped (collapse, NaN, settings that differ on resume)."""


class CalibrationError(LewmError):
    """Too little, or unusable, nominal data for a threshold with the promised rate."""


class SimulationError(LewmError):
    """A simulated task cannot run (no renderer, unknown task or perturbation)."""


class YamlError(LewmError):
    """A YAML file cannot be read, or uses what this package does not read."""


class BringupError(LewmError):
    """A preset, parameter file or node of the bring-up is wrong."""
