# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""What the planner reports about a late plan."""

from __future__ import annotations

import pytest

from lewm_ros.nodes.goals import late_text
from lewm_ros.time import NS_PER_S


@pytest.mark.parametrize(
    ('age', 'seconds', 'words'),
    [
        (0.02, 0.2, None),  # a block is 0.25 s
        (0.02, 0.4, 'was 0.020 s old when planning began: lower samples or iterations'),
        (3.0, 0.1, 'was 3.000 s old when planning began: synchronise the clock that stamps'),
        (1795808299.0, 0.1, 'was 1795808299.000 s old when planning began: synchronise'),
        (-3.0, 0.1, None),
    ],
)
def test_a_late_plan_gets_the_advice_that_helps(age, seconds, words):
    """The advice for a late plan fits its cause: a slow search, or a camera clock behind.

    A camera clock behind once led to `lower samples`, which does not help there.
    """
    began = 1_800_000_000 * NS_PER_S
    frame = began - round(age * NS_PER_S)
    text = late_text(
        frame + NS_PER_S // 4, frame, began, began + round(seconds * NS_PER_S), 'search'
    )
    assert text is None if words is None else words in text


def test_a_policy_without_a_search_gets_other_advice():
    """Samples and iterations do not slow down a plan of `policy: idm`."""
    text = late_text(0, -NS_PER_S // 4, -NS_PER_S // 5, NS_PER_S // 10, 'idm')
    assert text is not None and text.endswith('when planning began: free the processor')
