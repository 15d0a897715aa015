# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm roadmap` on simulated bags, and its use by `lewm evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
import shutil

import pytest

from lewm_ros import cli
from lewm_ros.bundle import CARD, ROADMAP, Bundle
from lewm_ros.bundle.roadmap_file import read_roadmap
from lewm_ros.files import find


@pytest.fixture(scope='module')
def bags(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two bags of a moving arm."""
    folder = tmp_path_factory.mktemp('bags')
    for name, seed in (('one', '1'), ('two', '2')):
        arguments = ['--episodes', '4', '--seconds', '4', '--seed', seed]
        assert cli.main(['collect', 'reacher', '--out', str(folder / name), *arguments]) == 0
    return folder / 'one', folder / 'two'


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Return a copy of the arm's bundle without a roadmap."""
    path = tmp_path / 'reacher'
    shutil.copytree(find('bundle', 'reacher'), path)
    (path / ROADMAP).unlink(missing_ok=True)
    data = json.loads((path / 'manifest.json').read_text())
    data.pop('roadmap', None)
    (path / 'manifest.json').write_text(json.dumps(data))
    return path


def test_a_map_is_built_and_grows(
    bundle: Path, bags: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """The bundle records the roadmap's sources; model and card are unchanged; --add extends it."""
    model, card = Bundle.load(bundle).hash, (bundle / CARD).read_text()
    assert cli.main(['roadmap', str(bundle), '--data', str(bags[0]), '--json']) == 0
    figures = json.loads(capsys.readouterr().out)
    made = Bundle.load(bundle)
    first = read_roadmap(made)
    assert first is not None
    assert (made.hash, (bundle / CARD).read_text()) == (model, card)
    assert figures['nodes'] == len(first.nodes)
    assert figures['frames'] == 4 * 80
    assert figures['bytes'] == (bundle / ROADMAP).stat().st_size
    assert 0 <= figures['covered'] <= 1 and 0 <= figures['connected'] <= 1
    assert cli.main(['roadmap', str(bundle), '--data', str(bags[1]), '--add']) == 0
    assert 'roadmap: ' in capsys.readouterr().out
    grown = Bundle.load(bundle)
    second = read_roadmap(grown)
    assert second is not None and grown.manifest.roadmap is not None
    assert len(second.nodes) > len(first.nodes)
    assert grown.manifest.roadmap.frames == 8 * 80
    assert grown.manifest.roadmap.covered < 1  # of the added bag, before it was added
    assert len(grown.manifest.roadmap.data) == 2
    assert cli.main(['roadmap', str(bundle), '--data', str(bags[1]), '--add']) == 2
    assert 'the roadmap already contains some of these' in capsys.readouterr().err


def test_a_cap_holds(bundle: Path, bags: tuple[Path, Path], capsys) -> None:
    """--nodes caps the number of nodes; too few recordings are reported."""
    assert cli.main(['roadmap', str(bundle), '--data', str(bags[0]), '--nodes', '20']) == 0
    said = capsys.readouterr().out
    found = read_roadmap(Bundle.load(bundle))
    assert found is not None and len(found.nodes) <= 20
    assert f'{len(found.nodes)} nodes' in said
    # Four episodes of random movements cover little of the workspace.
    assert cli.main(['roadmap', str(bundle), '--data', str(bags[0])]) == 0
    assert 'The recordings are too few for this robot' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (['--nodes', '0'], '--nodes is 0: expected 1 or more'),
        (['--add'], 'has no roadmap to add to: leave --add out'),
    ],
)
def test_what_cannot_be_is_refused(bundle, bags, capsys, arguments, said) -> None:
    """The error says what is wrong, with status 2, and the bundle is unchanged."""
    before = (bundle / 'manifest.json').read_bytes()
    assert cli.main(['roadmap', str(bundle), '--data', str(bags[0]), *arguments]) == 2
    assert said in capsys.readouterr().err
    assert (bundle / 'manifest.json').read_bytes() == before


@pytest.mark.parametrize('name', ['reacher', 'push', 'two_room', 'dm_reacher', 'cube'])
def test_shipped_bundles_have_maps_of_their_bags(name: str) -> None:
    """Over 85 % of the held-out frames are covered, and of their pairs connected."""
    bundle = Bundle.load(find('bundle', name))
    entry, roadmap = bundle.manifest.roadmap, read_roadmap(bundle)
    assert entry is not None and roadmap is not None
    assert entry.covered > 0.85 and entry.connected > 0.85
    assert len(roadmap.nodes) <= 10_000


def test_evaluation_goes_by_the_map_and_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Far goals are reached with a forecast; --no-roadmap gives no forecast."""
    given = ['evaluate', 'reacher', '--far', 'inf', '--json']
    results = []
    for arguments in (
        ['--goals', '3', '--seconds', '6'],
        ['--goals', '1', '--seconds', '1', '--no-roadmap'],
    ):
        assert cli.main([*given, *arguments]) == 0
        results.append(json.loads(capsys.readouterr().out)['planner'])
    assert results[0]['successes'] == 3
    assert results[0]['forecast']['goals'] == 3 < results[0]['forecast']['plans']
    assert results[0]['forecast']['countdown'] > 0.5
    assert results[0]['forecast']['predicted_mean'] == pytest.approx(
        results[0]['forecast']['true_mean'], rel=0.5
    )
    assert results[1]['forecast'] is None
