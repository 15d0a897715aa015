# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`python -m lewm_ros.cli`."""

import sys

from lewm_ros.cli import main

sys.exit(main())
