# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""`lewm benchmark`: the content of its report. No timing is judged."""

from __future__ import annotations

from contextlib import redirect_stdout
from dataclasses import fields
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lewm_ros.bundle import FILES, Bundle
from lewm_ros.cli import main
from lewm_ros.cli.benchmark import table
from lewm_ros.engines import ENGINES, load_engine
from lewm_ros.errors import EngineError
from lewm_ros.evaluation import benchmark
from lewm_ros.files import find
from lewm_ros.model import LeWorldModel, ModelConfig
from lewm_ros.model.config import paper
from lewm_ros.training import random_bundle


@pytest.fixture(scope='module')
def report(tiny_bundle: Bundle) -> dict[str, Any]:
    """Return what `--json` prints for a very small network."""
    printed = io.StringIO()
    argv = ['benchmark', str(tiny_bundle.path), '--threads', '1', '--rounds', '2', '--json']
    with redirect_stdout(printed):
        assert main(argv) == 0
    return json.loads(printed.getvalue())


def test_every_engine_has_a_row_for_every_work(report: dict[str, Any]) -> None:
    """Every engine has a row for every workload, at least in f32; encoding only in f32."""
    found = {(row['work'], row['engine']) for row in report['rows'] if row['precision'] == 'f32'}
    # OpenVINO is an optional extra.
    engines = {row['engine'] for row in report['rows']}
    assert set(ENGINES) - {'openvino'} <= engines
    assert found == {(work, engine) for work in benchmark.WORKS for engine in engines}
    assert {r['precision'] for r in report['rows'] if r['work'] == 'encode'} == {'f32'}


def test_report_has_the_promised_keys(report: dict[str, Any]) -> None:
    """The report has exactly the keys that scripts rely on."""
    assert set(report) == {'rows', 'machine', 'cores', 'threads', 'bundle'}
    assert report['threads'] == 1
    for row in report['rows']:
        assert set(row) == {field.name for field in fields(benchmark.Row)}
        assert 0 < row['ms_p50'] <= row['ms_p95']
        assert row['rounds'] == 2


def test_a_live_plan_goes_by_the_roadmap() -> None:
    """The benchmark plans between latents on the roadmap, as on the robot."""
    bundle = Bundle.load(find('bundle', 'reacher'))
    problem = benchmark.Problem.of(bundle, load_engine(bundle))
    assert problem.roadmap is not None
    assert not problem.roadmap.gaps(np.stack([*problem.context, problem.goal])).any()
    assert (problem.context[-1] != problem.goal).any()


def test_ratios_are_of_the_times_beside_them(report: dict[str, Any]) -> None:
    """Each ratio is the reference's median time divided by the row's."""
    for row in report['rows']:
        reference = next(
            r for r in report['rows'] if (r['work'], r['engine']) == (row['work'], 'reference')
        )
        assert row['ratio_to_reference'] == pytest.approx(reference['ms_p50'] / row['ms_p50'])


def test_table_has_a_line_for_each_engine(report: dict[str, Any]) -> None:
    """The table has a line for each engine, with milliseconds and ratio of each workload."""
    rows = [benchmark.Row(**row) for row in report['rows']]
    _, *lines = table(rows).splitlines()
    engines = [(r.engine, r.precision) for r in rows if r.work == benchmark.COST_CALL]
    assert [tuple(line.split()[:2]) for line in lines] == engines
    reference = lines[0].split()[3:]
    assert reference == [
        text for row in rows if row.engine == 'reference' for text in (f'{row.ms_p50:.2f}', '1.00')
    ]


def test_named_engines_only(tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    """--engines runs the named engines and the reference, which every ratio needs."""
    argv = ['benchmark', str(tiny_bundle.path), '--rounds', '1', '--json']
    assert main([*argv, '--engines', 'onnxruntime']) == 0
    rows = json.loads(capsys.readouterr().out)['rows']
    assert {row['engine'] for row in rows} == {'reference', 'onnxruntime'}


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        (['--engines', 'onnxruntime,tensorflow'], "engine is 'tensorflow'"),
        (['--threads', '0'], 'threads is 0'),
        (['--rounds', '0'], 'rounds 0'),
    ],
)
def test_wrong_option_is_refused(
    option: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid option gives status 2 and one line that says what is expected."""
    assert main(['benchmark', *option]) == 2
    error = capsys.readouterr().err
    assert message in error and 'expected' in error and error.count('\n') == 1


def test_named_engine_that_fails_ends_the_run(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A named engine that fails ends the run; otherwise it is left out with a note."""
    load = benchmark.load_engine

    def refuse(bundle: Bundle, name: str, *others: Any) -> Any:
        if name == 'onnxruntime':
            raise EngineError('onnxruntime is not installed')
        return load(bundle, name, *others)

    monkeypatch.setattr(benchmark, 'load_engine', refuse)
    argv = ['benchmark', str(tiny_bundle.path), '--rounds', '1', '--json']
    assert main([*argv, '--engines', 'onnxruntime']) == 2
    assert 'onnxruntime is not installed' in capsys.readouterr().err
    monkeypatch.setattr(benchmark, 'WORKS', ('encode',))
    assert main(argv) == 0
    assert 'no onnxruntime: onnxruntime is not installed' in caplog.text
    assert 'onnxruntime' not in capsys.readouterr().out


def test_random_weights_hide_nothing() -> None:
    """No parameter of the random bundle is 0 or 1: no AdaLN or norm is at its initial value."""
    config = ModelConfig(
        image_size=28,
        encoder='vit',
        encoder_width=12,
        encoder_depth=2,
        encoder_mlp=16,
        latent_size=6,
        projector_hidden=20,
        predictor_width=10,
        predictor_depth=2,
        predictor_heads=3,
        predictor_head_size=8,
        predictor_mlp=14,
        action_size=2,
        action_hidden=18,
    )
    model = LeWorldModel(config)
    random_bundle.randomise(model)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            assert (value != 0).all() and (value != 1).all(), name


def test_random_bundle_is_of_the_published_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The random bundle has the published size, with blocks of 0.5 s.

    Exporting its graphs would take too long here, so the export is replaced.
    """
    exported = []

    def files(model: LeWorldModel, horizon: int) -> dict[str, bytes]:
        exported.append((model.config, horizon))
        return dict.fromkeys(FILES, b'-')

    monkeypatch.setattr(random_bundle, 'export_files', files)
    bundle = random_bundle.random_bundle(tmp_path / 'paper')
    assert exported == [(paper(2), 6)]
    assert (bundle.block, bundle.manifest.history, bundle.manifest.horizon) == (0.5, 3, 6)
