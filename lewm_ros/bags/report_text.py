# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Text of the reports of `lewm check` and `lewm inspect`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lewm_ros.bags.bag_report import BagReport
from lewm_ros.bags.delay import LONGEST, Delay
from lewm_ros.bags.inspection import FLAT, LISTED, RARE, ActionReport, Report
from lewm_ros.robot.contract import Contract


def describe_check(
    path: Path, contract: Contract | None, problems: Sequence[str], bags: Sequence[BagReport]
) -> list[str]:
    """Lines of `lewm check`; ``contract`` is None where it cannot be loaded."""
    lines = [f'contract {path}: {_verdict(problems)}', *(f'  - {text}' for text in problems)]
    if contract is not None:
        lines += [f'  note: {text}' for text in contract.remarks()]
    titles = ['topic', 'type', 'role', 'count']
    for bag in bags:
        verdict = _verdict(bag.problems)
        if contract is None and not bag.problems:
            verdict = 'readable; load a valid contract to check whether it fits'
        lines += [f'bag {bag.bag}: {verdict}', *(f'  - {text}' for text in bag.problems)]
        lines += _table(titles, [[t.name, t.type, t.role, str(t.count)] for t in bag.topics], 3)
        lines += _remarks(bag)
    return lines


def _verdict(problems: Sequence[str]) -> str:
    return f'{len(problems)} problem{"s" if len(problems) > 1 else ""}' if problems else 'fits'


def _remarks(bag: BagReport) -> list[str]:
    refused = [f'  refused: {count} x {reason}' for reason, count in bag.refused.items()]
    return [*(f'  note: {text}' for text in bag.notes), *refused]


def describe_inspection(report: Report) -> list[str]:
    """Lines of `lewm inspect`."""
    lines: list[str] = []
    for bag in report.bags:
        lines += _bag(bag)
    lines += _images(report)
    lines += _actions(report.actions)
    if report.delay is not None:
        lines.append(_delay(report.delay))
    frames, block = report.window_frames, report.block_s
    lines.append(f'usable windows: {report.windows} (of {frames} frames {block:g} s apart)')
    if report.sheet is not None:
        lines.append(f'contact sheet: {report.sheet}')
    return lines


def _bag(bag: BagReport) -> list[str]:
    frames = sum(episode.frames for episode in bag.episodes)
    seconds = sum(episode.seconds for episode in bag.episodes)
    windows = sum(episode.windows for episode in bag.episodes)
    lines = [
        f'bag {bag.bag}: {len(bag.episodes)} episodes, {frames} frames in {seconds:.1f} s, '
        f'{windows} usable windows'
    ]
    lines += [f'  problem: {text}' for text in bag.problems]
    titles = ['topic', 'type', 'role', 'clock']
    titles += ['count', 'rate [Hz]', 'jitter [ms]', 'gaps', 'longest [s]']
    rows = [
        [
            topic.name,
            topic.type,
            topic.role,
            topic.clock,
            str(topic.count),
            _show(topic.rate_hz, '.2f'),
            _show(topic.jitter_ms, '.1f'),
            str(topic.gaps),
            _show(topic.longest_gap_s, '.2f'),
        ]
        for topic in bag.topics
    ]
    lines += _table(titles, rows, 4)
    titles = ['episode', 'start [s]', 'length [s]', 'frames', 'commands', 'gaps', 'windows']
    rows = [
        [
            str(number),
            f'{episode.start_s:.1f}',
            f'{episode.seconds:.1f}',
            str(episode.frames),
            str(episode.commands),
            str(episode.gaps),
            str(episode.windows),
        ]
        for number, episode in enumerate(bag.episodes[:LISTED], 1)
    ]
    lines += _table(titles, rows, 0)
    if len(bag.episodes) > LISTED:
        rest = bag.episodes[LISTED:]
        empty = sum(not episode.windows for episode in rest)
        lines.append(
            f'  and {len(rest)} more with {sum(episode.windows for episode in rest)} windows, '
            f'{empty} of them without any (--json lists all)'
        )
    return lines + _remarks(bag)


def _images(report: Report) -> list[str]:
    if report.darkest is None or report.brightest is None:
        return []
    lines = [f'image values: {report.darkest} to {report.brightest} of 255']
    if report.brightest - report.darkest < FLAT:
        lines.append(
            '  hardly any contrast: of a sensor of 10 to 14 bits, set camera.scale in the contract '
            'to the largest value that it sends'
        )
    return lines


def _actions(actions: list[ActionReport]) -> list[str]:
    titles = ['action', 'unit', 'limits', 'recorded', 'saturated', 'beyond limits']
    rows = [
        [
            action.name,
            action.unit,
            f'{action.low:g} to {action.high:g}',
            f'{_show(action.least, ".4g")} to {_show(action.greatest, ".4g")}',
            _show(action.saturated, '.1%'),
            str(action.beyond),
        ]
        for action in actions
    ]
    still = [action.name for action in actions if action.constant]
    warning = [f'  constant, cannot be learned: {", ".join(still)}'] if still else []
    warning += [
        f'  hardly moves, cannot be learned well: {action.name}, constant but for '
        f'{action.moving:.2%} of the time'
        for action in actions
        if action.moving and not action.constant and action.moving < RARE
    ]
    return ['actions of all bags', *_table(titles, rows, 2), *warning]


def _delay(delay: Delay) -> str:
    if delay.correlation is None:
        return 'delay from command to motion: unknown (commands or motion do not vary)'
    between = f'{delay.correlation:.2f} between {delay.action} and {delay.motion}'
    if delay.seconds is None:
        return (
            f'delay from command to motion: unknown, the best correlation at 0 to {LONGEST:g} s '
            f'is {between}, below {delay.threshold:.2f}'
        )
    return (
        f"delay from command to motion: {delay.seconds:.3f} s beyond the contract's action.delay "
        f'(correlation {between})'
    )


def _show(value: float | None, form: str) -> str:
    return '-' if value is None else format(value, form)


def _table(titles: list[str], rows: Sequence[list[str]], left: int) -> list[str]:
    """Aligned columns; the first ``left`` are left-aligned."""
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(titles, *rows)]
    return [
        '  '
        + '  '.join(
            cell.ljust(width) if place < left else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in [titles, *rows]
    ]
