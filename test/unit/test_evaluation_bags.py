# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Bags as a bundle sees them: images of another view than in training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
import shutil

from command_line import lewm
import pytest

from lewm_ros.bundle import Bundle, rewrite_manifest

#: What reads bags for a bundle.
READERS = (
    ('evaluate', '--data'),
    ('evaluate', '--probe'),
    ('calibrate', '--data'),
    ('roadmap', '--data'),
    ('decoder', '--data'),
    ('inverse', '--data'),
)


@pytest.fixture(scope='module')
def bag(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a bag of square images."""
    path = tmp_path_factory.mktemp('data') / 'bag'
    assert lewm('collect', 'reacher', '--out', path, '--episodes', 2, '--seconds', 1)[0] == 0
    return path


@pytest.mark.parametrize(('command', 'option'), READERS)
def test_a_bag_of_another_view_is_refused(command, option, bag, calibrated: Bundle, tmp_path):
    """A recording of another camera mode is no evidence about the model: it is named as such."""
    pytest.importorskip('torch')
    shutil.copytree(calibrated.path, tmp_path / 'wide')
    rewrite_manifest(tmp_path / 'wide', replace(calibrated.manifest, camera_size=(640, 480)))
    status, _, error = lewm(command, tmp_path / 'wide', option, bag)
    said = f'bag {bag} has images of 64x64 pixels, those of the training data were 640x480: '
    assert status == 2 and said + 'expected the same aspect ratio' in error


@pytest.mark.parametrize(('command', 'option'), READERS)
def test_bags_of_two_views_are_refused(command, option, bag, calibrated: Bundle, tmp_path):
    """A bundle may not know its images' size (an imported one): then bags need the same view."""
    pytest.importorskip('torch')
    wide, size = tmp_path / 'wide_bag', ('--image-size', '128x96')
    assert lewm('collect', 'reacher', '--out', wide, '--episodes', 2, '--seconds', 1, *size)[0] == 0
    shutil.copytree(calibrated.path, tmp_path / 'unknown')
    rewrite_manifest(tmp_path / 'unknown', replace(calibrated.manifest, camera_size=None))
    status, _, error = lewm(command, tmp_path / 'unknown', option, bag, wide)
    said = f'bag {wide} has images of 128x96 pixels, those of the first bag were 64x64: '
    assert status == 2 and said + 'expected the same aspect ratio' in error
