# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""The result of `lewm benchmark`: rows of figures, and a table of them to read."""

from __future__ import annotations

from dataclasses import dataclass

from lewm_ros.evaluation.workloads import COST_CALL, ELITES

BUSY = 0.2  #: foreign load that is worth a warning [cores]

_HEADER = (
    *('work', 'engine', 'prec.', 'provider', 'rounds', 'p50 [ms]', 'p95 [ms]', 'ratio'),
    *('GFLOP/s', 'of peak', 'exact', 'elites'),
)


@dataclass(frozen=True)
class Row:
    """What one work took on one engine; None where a figure does not apply."""

    work: str
    engine: str
    precision: str
    provider: str
    threads: int
    rounds: int
    ms_p50: float
    ms_p95: float
    ratio_to_reference: float  #: the reference's ms_p50 over this one, from the same rounds
    #: gives the reference's latent (encode), or its costs and elites (all else)
    exact: bool | None = None
    cost_difference: float | None = None  #: largest of 300, relative to the reference
    elites_kept: int | None = None  #: of the reference's 30
    gflops: float | None = None  #: reached [GFLOP/s]; lewm_ros.evaluation.flops says what counts
    scaled_from: str | None = None  #: the part that was timed, if it was not all
    slower_than_reference: float | None = None
    slower_than_fastest: float | None = None


@dataclass(frozen=True)
class Report:
    """All rows of a run, and where it ran."""

    rows: list[Row]
    peak_gflops: dict[str, float | None]  #: fastest products of the layers, by precision
    foreign_load: float | None  #: cores that others kept busy meanwhile
    machine: str
    cores: int
    threads: int
    bundle: str


def table(report: Report) -> str:
    """Return the report as aligned text."""
    peak = ', '.join(
        f'{value:.0f} GFLOP/s in {precision}'
        for precision, value in report.peak_gflops.items()
        if value is not None
    )
    lines = [
        f'{report.bundle} on {report.machine}, {report.cores} cores: {report.threads} thread(s)',
        f'peak of products of its layers: {peak}',
    ]
    if report.foreign_load is not None:
        lines.append(f'others kept {report.foreign_load:.2f} cores busy')
        if report.foreign_load > BUSY:
            lines.append('warning: times are longer than on a quiet machine; ratios hold better')
    cells = [_HEADER, *(_cells(row, report.peak_gflops) for row in report.rows)]
    widths = [max(map(len, column)) for column in zip(*cells)]
    before = ''
    for cell in cells:
        if cell[0] != before:
            lines.append('')
        before = cell[0]
        names = [text.ljust(width) for text, width in zip(cell[:4], widths)]
        figures = [text.rjust(width) for text, width in zip(cell[4:], widths[4:])]
        lines.append('  '.join(names + figures).rstrip())
    lines += ['', 'ratio: p50 of the plain reference over this p50, rounds interleaved']
    return '\n'.join(lines + _dino_text(report.rows))


def _cells(row: Row, peaks: dict[str, float | None]) -> tuple[str, ...]:
    peak = peaks[row.precision]
    return (
        row.work,
        row.engine,
        row.precision,
        row.provider.removesuffix('ExecutionProvider'),
        str(row.rounds),
        f'{row.ms_p50:.2f}',
        f'{row.ms_p95:.2f}',
        f'{row.ratio_to_reference:.{2 if row.ratio_to_reference > 0.1 else 4}f}',
        f'{row.gflops:.0f}' if row.gflops is not None else '',
        f'{row.gflops / peak:.0%}' if row.gflops is not None and peak else '',
        {True: 'yes', False: 'no', None: ''}[row.exact],
        '' if row.elites_kept is None else f'{row.elites_kept}/{ELITES}',
    )


def _dino_text(rows: list[Row]) -> list[str]:
    found = [row for row in rows if row.scaled_from is not None]
    if not found:
        return []
    fastest = min((row for row in rows if row.work == COST_CALL), key=lambda row: row.ms_p50)
    row = found[0]
    return [
        f"a cost call of DINO-WM's shape in torch is {row.slower_than_reference:.0f} times slower "
        f'than the plain LeWM reference, {row.slower_than_fastest:.0f} times slower than '
        f'{fastest.engine} {fastest.precision} (the fastest); scaled from {row.scaled_from}'
    ]
