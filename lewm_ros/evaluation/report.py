# Copyright 2026 The lewm_ros developers
# SPDX-License-Identifier: Apache-2.0
"""Report of a trial: summary.json, summary.png and a film of one goal. No ROS."""

from __future__ import annotations

from dataclasses import dataclass, field
import json
from pathlib import Path
from typing import Any

import numpy as np

from lewm_ros.errors import ConfigError
from lewm_ros.evaluation.intervals import wilson
from lewm_ros.files import atomic_write, check_room
from lewm_ros.install import missing_package
from lewm_ros.robot.history import frame_period
from lewm_ros.time import NS_PER_S

REPORT = 4 << 20  #: what a report may take [bytes]


@dataclass
class GoalResult:
    """Outcome of one goal."""

    reached: bool  #: at any tick
    seconds: float | None  #: until it was first reached [s]
    within_at_end: bool
    final_errors: list[float]  #: in the task's unit, such as of each joint

    @property
    def final_error(self) -> float:
        """The largest."""
        return max(self.final_errors)


@dataclass
class Teleport:
    """One teleport and the surprise scores around it."""

    time: float  #: of the first frame after it [s since the start]
    before: float  #: highest score in the second before
    after: float  #: highest score in the second after
    delay_ms: float | None  #: until the event arrived, None if none came in time


@dataclass
class TrialRecord:
    """Measurements of a trial; times in [s] since its start."""

    task: str
    unit: str  #: of errors
    goals: list[GoalResult] = field(default_factory=list)
    random_goals: list[GoalResult] = field(default_factory=list)
    teleports: list[Teleport] = field(default_factory=list)
    surprise: list[tuple[float, float]] = field(default_factory=list)
    plans: list[tuple[float, float]] = field(default_factory=list)  #: (time, age in ms)
    plan_ms: list[tuple[float, float]] = field(default_factory=list)  #: (time, search in ms)
    plan_figures: dict[str, float] = field(default_factory=dict)  #: the planner's own
    threshold: float | None = None
    ticks: int = 0
    ticks_on_time: int = 0
    late_plans: int = 0
    nominal_seconds: float = 0.0
    nominal_events: int = 0
    goal_image: np.ndarray | None = None  #: (S, S, 3) uint8 of the filmed goal
    #: (stamp [ns], frame, time to the goal by the roadmap [s] or NaN)
    film: list[tuple[int, np.ndarray, float]] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """Metrics for summary.json; None where nothing was measured."""
        delays = [t.delay_ms for t in self.teleports if t.delay_ms is not None]
        return {
            'task': self.task,
            'unit': self.unit,
            'episodes': len(self.goals),
            'successes': sum(g.reached for g in self.goals),
            'success_interval': wilson(sum(g.reached for g in self.goals), len(self.goals)),
            'within_at_end': sum(g.within_at_end for g in self.goals),
            'random_episodes': len(self.random_goals),
            'random_successes': sum(g.reached for g in self.random_goals),
            'final_error_median': _median([g.final_error for g in self.goals]),
            'final_errors': [g.final_errors for g in self.goals],
            # NaN where there was no plan.
            'plan_ms_p50': _finite(self.plan_figures.get('plan_ms_p50')),
            'plan_ms_p95': _finite(self.plan_figures.get('plan_ms_p95')),
            'plan_age_ms_p95': (
                float(np.percentile([age for _, age in self.plans], 95)) if self.plans else None
            ),
            'late_plans': self.late_plans,
            'ticks': self.ticks,
            'ticks_on_time': self.ticks_on_time / self.ticks if self.ticks else None,
            'nominal_seconds': round(self.nominal_seconds, 1),
            'nominal_events': self.nominal_events,
            'surprise_threshold': self.threshold,
            'teleports': len(self.teleports),
            'teleport_events': len(delays),
            'teleport_delay_ms_median': _median(delays),
            'surprise_before_teleport_median': _median([t.before for t in self.teleports]),
            'surprise_after_teleport_median': _median([t.after for t in self.teleports]),
        }


def describe(summary: dict[str, Any]) -> list[str]:
    """Lines for a terminal."""

    def show(value: Any, form: str = '.1f', unit: str = '') -> str:
        return 'not measured' if value is None else format(value, form) + unit

    low, high = summary['success_interval']
    return [
        f'goals reached     {summary["successes"]}/{summary["episodes"]} '
        f'(95 % interval {low:.2f} to {high:.2f}); still there at the end '
        f'{summary["within_at_end"]}; random policy '
        f'{summary["random_successes"]}/{summary["random_episodes"]}',
        'final error       median '
        + show(summary['final_error_median'], '.3f', f' {summary["unit"]}'),
        f'planning          {show(summary["plan_ms_p50"], unit=" ms")} p50, '
        f'{show(summary["plan_ms_p95"], unit=" ms")} p95; frame to plan '
        f'{show(summary["plan_age_ms_p95"], unit=" ms")} p95; late plans {summary["late_plans"]}',
        f'command stream    {show(summary["ticks_on_time"], ".2%")} of {summary["ticks"]} ticks '
        'within half a period',
        f'nominal surprise  {summary["nominal_events"]} events in '
        f'{summary["nominal_seconds"]:.0f} s',
        f'teleports         {summary["teleport_events"]}/{summary["teleports"]} raised an event, '
        f'median delay {show(summary["teleport_delay_ms_median"], ".0f", " ms")}; surprise '
        f'{show(summary["surprise_before_teleport_median"])} before, '
        f'{show(summary["surprise_after_teleport_median"])} after '
        f'(threshold {show(summary["surprise_threshold"])})',
    ]


def prepare_report(folder: Path) -> None:
    """Check that a report can be written. Raises ConfigError saying what is missing."""
    try:
        import matplotlib
        import PIL  # noqa: F401
    except ImportError as error:
        module = (error.name or 'matplotlib').partition('.')[0]
        raise ConfigError(f'the report cannot be drawn: {missing_package(module)}') from error
    matplotlib.use('Agg')
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_room(folder, REPORT)
    except OSError as error:
        raise ConfigError(f'report folder {folder}: cannot be written: {error.strerror}') from error


def write_report(folder: Path, record: TrialRecord) -> dict[str, Any]:
    """Write summary.json, summary.png and film.gif; return the summary.

    Raises ConfigError as :func:`prepare_report` does.
    """
    prepare_report(folder)
    summary = record.summary()
    text = json.dumps(summary, indent=2, allow_nan=False) + '\n'
    with atomic_write(folder / 'summary.json') as partial:
        partial.write_text(text)
    with atomic_write(folder / 'summary.png') as partial:
        _draw(partial, record)
    if record.film:
        with atomic_write(folder / 'film.gif') as partial:
            _film(partial, record)
    return summary


def _draw(path: Path, record: TrialRecord) -> None:
    from matplotlib import pyplot

    figure = pyplot.figure(figsize=(11, 7), layout='constrained')
    axes = figure.subplot_mosaic(
        [['goal', 'final', 'ages', 'ages'], ['surprise'] * 4], height_ratios=[1, 1.2]
    )
    for key, image in (
        ('goal', record.goal_image),
        ('final', record.film[-1][1] if record.film else None),
    ):
        axes[key].set_title({'goal': 'goal image', 'final': 'final frame'}[key])
        axes[key].set_axis_off()
        if image is not None:
            axes[key].imshow(image, interpolation='nearest')
    for points, label in ((record.plans, 'frame to plan'), (record.plan_ms, 'search alone')):
        if points:
            axes['ages'].plot(*zip(*points), '.', markersize=3, label=label)
            axes['ages'].legend(loc='upper right')
    axes['ages'].set(title='plan times', xlabel='time [s]', ylabel='[ms]', ylim=(0, None))
    if record.surprise:
        times, scores = zip(*record.surprise)
        axes['surprise'].semilogy(times, np.maximum(scores, 1e-3), linewidth=0.7, label='surprise')
    if record.threshold is not None:
        axes['surprise'].axhline(record.threshold, color='tab:red', label='threshold')
    for index, teleport in enumerate(record.teleports):
        name = 'teleport' if index == 0 else None
        axes['surprise'].axvline(
            teleport.time, color='tab:orange', alpha=0.5, linewidth=1, label=name
        )
    axes['surprise'].set(title='surprise', xlabel='time [s]', ylabel='score')
    if axes['surprise'].get_legend_handles_labels()[1]:
        axes['surprise'].legend(loc='upper left')
    figure.savefig(path, dpi=110, format='png')
    pyplot.close(figure)


def _film(path: Path, record: TrialRecord) -> None:
    """Camera beside the goal, at the camera's own rate (GIF has steps of 10 ms)."""
    from PIL import Image, ImageDraw

    frames = []
    for _, frame, seconds in record.film:
        pair = [frame] if record.goal_image is None else [frame, record.goal_image]
        image = np.repeat(np.repeat(np.concatenate(pair, axis=1), 4, 0), 4, 1)
        frames.append(Image.fromarray(image))
        if np.isfinite(seconds):
            text = f'time to the goal: {seconds:.1f} s'
            ImageDraw.Draw(frames[-1]).text((8, 6), text, stroke_width=2, stroke_fill=(0, 0, 0))
    stamps = [stamp for stamp, _, _ in record.film]
    period = frame_period(np.array(stamps)) / NS_PER_S or 0.05
    milliseconds = max(round(100 * period), 2) * 10  # viewers slow down what is faster
    frames[0].save(
        path,
        format='gif',
        save_all=True,
        append_images=frames[1:],
        duration=milliseconds,
        loop=0,
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None


def _median(values: list[float]) -> float | None:
    return float(np.median(values)) if values else None
