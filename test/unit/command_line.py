# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Runs the command line in this process: a new one would import torch for seconds."""

from __future__ import annotations

from contextlib import redirect_stderr, redirect_stdout
import io
import sys
from unittest import mock

from lewm_ros import cli


def lewm(*arguments: object) -> tuple[int, str, str]:
    """Run `lewm`; return its status, and what it wrote to stdout and stderr."""
    argv = [str(argument) for argument in arguments]
    out, err = io.StringIO(), io.StringIO()
    with (
        redirect_stdout(out),
        redirect_stderr(err),
        mock.patch.object(sys, 'argv', ['lewm', *argv]),
    ):
        try:
            status = cli.main(argv)
        except SystemExit as end:  # argparse's
            status = int(end.code)
    return status, out.getvalue(), err.getvalue()
