# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Non-blocking single-key input from a terminal, whose settings are restored afterwards."""

from __future__ import annotations

import atexit
from contextlib import suppress
import os
import select
import sys
import termios
import tty


class Keys:
    """Keys typed into a terminal; Ctrl-C still interrupts.

    The terminal settings are restored by :meth:`close`, at the latest when Python exits.

    Args:
        terminal: file descriptor of a terminal in whose foreground this process is.

    """

    def __init__(self, terminal: int) -> None:
        self._terminal = terminal
        self._before = termios.tcgetattr(terminal)
        atexit.register(self.close)
        tty.setcbreak(terminal, termios.TCSADRAIN)

    @classmethod
    def of_stdin(cls) -> Keys | None:
        """Return the keys of standard input, or None unless it is a terminal in the foreground.

        Changing the terminal would stop a background process.
        """
        try:
            terminal = sys.stdin.fileno()
            if os.isatty(terminal) and os.tcgetpgrp(terminal) == os.getpgrp():
                return cls(terminal)
        except (AttributeError, OSError, ValueError, termios.error):
            pass  # closed, replaced, or gone
        return None

    def read(self) -> str:
        """Return what has been typed since the last call."""
        try:
            ready, _, _ = select.select([self._terminal], [], [], 0.0)
            return os.read(self._terminal, 64).decode(errors='ignore') if ready else ''
        except (OSError, ValueError):
            return ''

    def close(self) -> None:
        """Restore the terminal settings. Safe to call twice."""
        atexit.unregister(self.close)
        with suppress(OSError, termios.error):  # the terminal may be gone
            termios.tcsetattr(self._terminal, termios.TCSADRAIN, self._before)
