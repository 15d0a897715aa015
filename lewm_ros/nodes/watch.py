# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The node behind `lewm watch`: surprise in a terminal."""

from __future__ import annotations

from dataclasses import replace
import os
import shutil
import sys
import time

from diagnostic_msgs.msg import DiagnosticArray

from lewm_ros.nodes.base import LATCHED
from lewm_ros.nodes.parameters import Parameter, parameters_of
from lewm_ros.nodes.watching import WatchingNode
from lewm_ros.view.config import ViewConfig
from lewm_ros.view.screen import screen

PERIOD = 0.25  #: of a new frame on a terminal [s]
SETTLE = 2.0  #: from the first score to the frame of `--once`: rate and alpha are known then [s]
PATIENCE = 5.0  #: how long `--once` waits for a first score [s]

# The alternate screen of a terminal, without cursor; home; clear to the end of line and screen.
_ENTER, _LEAVE = '\x1b[?1049h\x1b[?25l', '\x1b[?25h\x1b[?1049l'
_HOME, _CLEAR_LINE, _CLEAR = '\x1b[H', '\x1b[K', '\x1b[J'


class WatchNode(WatchingNode):
    """Draws on standard output until stopped; the last frame stays visible.

    Ends with status 0, or 1 where `once` or `end_after` passed without a single score.
    """

    PARAMETERS = (
        *(replace(p, dynamic=False) for p in parameters_of(ViewConfig) if p.name == 'seconds'),
        Parameter('once', False, 'Print one frame as soon as there is something to say, and end.'),
        Parameter('end_after', 0.0, 'End after this long [s]; 0: never.', 0.0, 1e7),
    )

    def activate(self) -> None:
        """Begin to draw."""
        self._goal, self._live = '', False
        super().activate()
        self.subscribe(DiagnosticArray, 'goal_status', self._on_goal_status, LATCHED)
        self._terminal = sys.stdout.isatty()
        self._live = self._terminal and not self.params['once']
        if self._live:
            _put(_ENTER)
        self.every(PERIOD, self._tick)

    def deactivate(self) -> None:
        """Leave the terminal as it was, with the last frame on it."""
        if self._live:
            _put(_LEAVE)
        _put('\n'.join(self._lines()) + '\n')

    def _tick(self) -> None:
        watched = time.monotonic() - self._began
        after = self.params['end_after']
        if self.params['once']:
            first = self._first_score
            over = watched > PATIENCE if first is None else time.monotonic() - first > SETTLE
        else:
            over = bool(after) and watched > after
        if over:
            self.finish(1 if self._first_score is None else 0)
        elif self._live:
            rows = shutil.get_terminal_size().lines
            lines = (line + _CLEAR_LINE for line in self._lines()[: rows - 1])
            _put(_HOME + '\n'.join(lines) + '\n' + _CLEAR)

    def _on_goal_status(self, message: DiagnosticArray, received: int) -> None:
        self._goal = ''.join(f'   goal: {status.message}' for status in message.status)

    def _lines(self) -> list[str]:
        notes = [self.silence(), self.conditions.text if self.conditions.level else None]
        return screen(
            self.trace.snapshot(time.monotonic()),
            f'lewm watch {self.get_namespace()}{self._goal}',
            [text for text in notes if text],
            shutil.get_terminal_size().columns,
            # https://no-color.org
            colour=self._terminal and not os.environ.get('NO_COLOR'),
        )


def _put(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
