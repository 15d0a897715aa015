# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Perturbations act on every task, and end, as PERTURBATIONS specifies."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from lewm_ros.sim import TASKS, Task, make_task
from lewm_ros.sim.perturbations import COVER, PERTURBATIONS

FRAME = 10  #: physics steps between frames


@pytest.fixture(scope='module', params=list(TASKS))
def shared_task(request: pytest.FixtureRequest) -> Iterator[Task]:
    """Return each task, created once: a process may have only one open camera."""
    task = make_task(request.param, image_size=64)
    yield task
    task.close()


@pytest.fixture
def task(shared_task: Task) -> Task:
    """Return the task after a reset with a fixed seed."""
    shared_task.rng = np.random.default_rng(5)
    shared_task.reset()
    return shared_task


def rest(task: Task, frames: int) -> list[np.ndarray]:
    """Return images of a robot at rest, one every 0.05 s."""
    images = []
    for _ in range(frames):
        images.append(task.render())
        task.step(np.zeros(2), FRAME)
    return images


def changed(image: np.ndarray, before: np.ndarray, by: int = 10) -> int:
    """Number of pixels that differ by more than ``by``."""
    return int((np.abs(image.astype(int) - before).max(axis=2) > by).sum())


@pytest.mark.parametrize('kind', PERTURBATIONS)
def test_physical_ones_change_the_state_and_the_others_only_the_image(task, kind):
    """Only physical perturbations change the state; none changes the goal image."""
    goal = task.set_goal(task.sample_goal())
    before = task.state()
    task.perturb(kind)
    assert (not np.array_equal(task.state(), before)) == PERTURBATIONS[kind].physical
    task.render()
    np.testing.assert_array_equal(task.goal_image(), goal)


@pytest.mark.parametrize('kind', ['teleport', 'colour', 'occlusion', 'camera_shift', 'light'])
def test_abrupt_ones_are_whole_in_the_next_frame(task, kind):
    """More than 50 of 4096 pixels change in the next frame."""
    before = task.render()
    task.perturb(kind)
    assert PERTURBATIONS[kind].abrupt
    assert changed(task.render(), before) > 50


@pytest.mark.parametrize('kind', [k for k, p in PERTURBATIONS.items() if not p.physical])
def test_a_reset_ends_them(task, kind):
    """After a reset the same pose renders the same images as before."""
    before = rest(task, 20)
    task.perturb(kind)
    rest(task, 20)
    task.rng = np.random.default_rng(5)
    task.reset()
    for image, expected in zip(rest(task, 20), before, strict=True):
        np.testing.assert_array_equal(image, expected)


def test_an_occlusion_hides_a_square_for_a_second(task):
    """The square covers 45 % of the image's side and disappears after 20 frames."""
    before = rest(task, 1)[0]
    task.perturb('occlusion')
    images = rest(task, 25)
    dark = [(p == 70).all(axis=2) for p in images]
    assert [bool(d.any()) for d in dark] == [True] * 20 + [False] * 5
    rows, columns = np.nonzero(dark[0])
    assert len(rows) == round(COVER * 64) ** 2
    assert np.ptp(rows) == np.ptp(columns) == round(COVER * 64) - 1
    assert changed(images[-1], before) == 0


def test_a_frozen_camera_repeats_one_image_while_the_world_goes_on(task):
    """The image is repeated for 2 s; then it shows the current state."""
    push = np.array(task.model.actuator_ctrlrange[:, 1])
    task.perturb('freeze')
    first = task.render()
    for _ in range(39):
        task.step(push, FRAME)
        np.testing.assert_array_equal(task.render(), first)
    task.step(push, FRAME)
    assert changed(task.render(), first, 40) > 20


def test_light_dims_everything(task):
    """Every bright pixel is scaled by the same factor, between 0.5 and 0.75."""
    before = task.render().astype(float)
    task.perturb('light')
    share = task.render()[before.min(axis=2) > 150] / before[before.min(axis=2) > 150]
    assert share.min() > 0.48 and share.max() < 0.77
    assert share.std() < 0.02


def test_a_camera_shift_moves_the_image_and_stays(task):
    """The image shifts by 8 % of 64 px, which is 5 px, and stays shifted."""
    before = task.render().astype(int)
    task.perturb('camera_shift')
    image = rest(task, 30)[-1]
    fits = {
        (x, y): np.abs(np.roll(image, (y, x), (0, 1))[8:-8, 8:-8] - before[8:-8, 8:-8]).mean()
        for x in range(-7, 8)
        for y in range(-7, 8)
    }
    best = min(fits, key=lambda k: fits[k])
    assert 4 <= np.hypot(*best) <= 6.5
    assert fits[best] < 0.6 * fits[0, 0]


def test_a_drift_is_slow_and_comes_back(task):
    """Consecutive frames differ little; the shift is large after 5 s and gone after 20 s."""
    before = task.render()
    task.perturb('drift')
    images = rest(task, 401)
    steps = [changed(a, b) for a, b in zip(images, images[1:])]
    assert changed(images[0], before) == 0
    assert max(steps) < 0.5 * changed(images[100], before)
    assert changed(images[400], before) < 0.2 * changed(images[100], before)


def test_perturbations_add_up(task):
    """A dimmed light stays dimmed after an occlusion ends."""
    before = task.render()
    task.perturb('light')
    dim = task.render()
    task.perturb('occlusion')
    assert (task.render() == 70).all(axis=2).any()
    assert changed(rest(task, 22)[-1], dim) == 0
    assert changed(dim, before) > 3000
