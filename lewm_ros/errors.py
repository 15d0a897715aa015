# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Exceptions of this package: every message names what is wrong and what is expected.

Values quoted in a message may come from a malicious file, so they are shown on one line, printable
and short.
"""

_SHOWN = 200  #: longest value in a message [characters]
_LINE = 1000  #: longest text of another library's error


def shown(value: object) -> str:
    """Return the ``repr`` of a value, truncated if long."""
    return _cut(repr(value), _SHOWN)


def one_line(error: object) -> str:
    """Return the text of an error on one line, without control characters."""
    text = ' '.join(str(error).split())
    return _cut(''.join(c if c.isprintable() else '?' for c in text), _LINE)


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f'{text[:length]}...'


class LewmError(Exception):
    """Base of all errors that this package raises on purpose."""


class ConfigError(LewmError):
    """A contract, preset, parameter, option or simulated task is wrong or does not fit."""


class ModelError(LewmError):
    """A bundle is broken, a model does not fit what it is given, or training stopped."""


class EngineError(LewmError):
    """An inference engine is unknown, not installed, or cannot run the bundle."""


class ObservationError(LewmError):
    """An image or a message cannot be turned into an observation."""


class BagError(LewmError):
    """A bag cannot be read or written, or holds nothing usable."""


class CalibrationError(LewmError):
    """Too little, or unusable, nominal data for a threshold with the requested rate."""
